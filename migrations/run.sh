#!/usr/bin/env bash
# Brings the schema of a database up to date with the migrations in sql/.
#
#   ./run.sh                      the database of rmom-manager/Rocket.toml
#   DATABASE_URL=... ./run.sh     another one
#
# The manager does the same when it starts; this is for those who want to do it beforehand.
set -euo pipefail
cd "$(dirname "$0")/../rmom-manager"
if [[ -n ${DATABASE_URL:-} ]]; then
    # The manager's own spelling of the same setting.
    export ROCKET_DATABASES="{rmom_manager={url=\"$DATABASE_URL\"}}"
    unset DATABASE_URL
fi
exec cargo run --quiet --package rmom-manager -- migrate

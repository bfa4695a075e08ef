#!/usr/bin/env bash
# Checks every query of storage/ against a database that is made from the migrations, from empty, and writes what it
# found into .sqlx, so that a build needs no database.
#
#   migrations/prepare.sh           refreshes .sqlx
#   migrations/prepare.sh --check   fails if .sqlx is not up to date
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${RMOM_DATABASE_URL:-} ]]; then
    exec cargo run --quiet --package testkit --bin rmom-cluster -- --moms 0 --managers 0 --exec "$0" "$@"
fi

for migration in migrations/sql/*.sql; do
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --file "$migration" "$RMOM_DATABASE_URL"
done
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# The macros write while they are compiled, and only then.
touch storage/src/lib.rs
DATABASE_URL=$RMOM_DATABASE_URL SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$fresh cargo check --quiet --package storage
if [[ ${1:-} == --check ]]; then
    if ! diff -r .sqlx "$fresh" >/dev/null; then
        echo ".sqlx is not up to date: run \`make queries\` and commit the result" >&2
        diff -rq .sqlx "$fresh" >&2 || true
        exit 1
    fi
    echo ".sqlx is up to date"
else
    rm -rf .sqlx
    cp -r "$fresh" .sqlx
    chmod -R u=rwX,go=rX .sqlx
    echo "$(find .sqlx -name '*.json' | wc -l) queries in .sqlx"
fi

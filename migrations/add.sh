#!/usr/bin/env bash
# Adds an empty migration: ./add.sh add_colour_to_queue
set -euo pipefail
cd "$(dirname "$0")"
name=${1:-}
if [[ ! $name =~ ^[a-z0-9_]+$ ]]; then
    echo "usage: ./add.sh NAME, where NAME has only the characters a-z, 0-9 and _" >&2
    exit 2
fi
file="sql/$(date -u +%Y%m%d%H%M%S)_$name.sql"
printf -- '-- Migrations that were applied somewhere are never changed: add another one instead.\n' > "$file"
echo "migrations/$file"

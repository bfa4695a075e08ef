#!/bin/bash
# The entrypoint of the PostgreSQL stand-in (see base-images.sh). Creates the cluster on the first start, then becomes
# the server. Any other command runs as it is.

set -euo pipefail

# `docker run IMAGE -c fsync=on` means the server with these arguments.
if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
if [[ ${1:-} != postgres ]]; then exec "$@"; fi

# PostgreSQL refuses to run as root; so root only prepares the folder and steps down.
if [[ $EUID -eq 0 ]]; then
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    if [[ -z ${POSTGRES_PASSWORD:-} ]]; then
        printf 'POSTGRES_PASSWORD is not set. A new cluster needs a password for its superuser.\n' >&2
        exit 1
    fi
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    read -r -a initdb_args <<<"${POSTGRES_INITDB_ARGS:-}"

    # Inside the container the socket is trusted; whoever comes by network needs the password.
    initdb --username="$user" --pwfile=<(printf '%s' "$POSTGRES_PASSWORD") \
        --encoding=UTF8 --auth-local=trust --auth-host=scram-sha-256 "${initdb_args[@]}"
    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    printf "listen_addresses = '*'\n" >>"$PGDATA/postgresql.conf"

    # Single-user mode creates the database before anybody can connect.
    if [[ $database != postgres ]]; then
        printf 'create database "%s"\n' "${database//\"/\"\"}" | postgres --single postgres >/dev/null
    fi
fi

exec "$@"

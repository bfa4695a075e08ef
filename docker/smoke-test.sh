#!/usr/bin/env bash
# Starts the whole system in containers, uses it as people would, kills the MoM that hosts a queue in use, and shows
# that nothing acknowledged is lost. It has a project name, ports and a volume of its own, which it removes at the end.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: docker/smoke-test.sh [--from-host]

  --from-host   start the system so that programs outside the containers can push and subscribe, and check that a MoM
                is reached from here

The images are used as they are and built if missing; docker/service.sh build renews them.
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export COMPOSE_PROJECT_NAME=rusty-mom-smoke
export POSTGRES_PORT=${POSTGRES_PORT:-15432} MANAGER_PORT=${MANAGER_PORT:-18082}
export NEWS_PUSHER_PORT=${NEWS_PUSHER_PORT:-18080} NEWS_CONSUMER_PORT=${NEWS_CONSUMER_PORT:-18081}
export RMOM_NETWORK=${RMOM_NETWORK:-172.30.51}
manager=http://127.0.0.1:$MANAGER_PORT
news_page=http://127.0.0.1:$NEWS_CONSUMER_PORT/news
comments_page=http://127.0.0.1:$NEWS_PUSHER_PORT/comments
messages=5000
up_options=()
from_host=false
case ${1:-} in
    '') ;;
    --from-host) from_host=true; up_options=(--from-host) ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
fail() { printf 'smoke-test.sh: %s\n' "$*" >&2; exit 1; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if ((SECONDS >= deadline)); then fail "in vain: $what"; fi
        sleep 0.2
    done
    say "$what"
}

rest() { curl --silent --show-error --fail --max-time 10 "$@"; }
container() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter "label=com.docker.compose.service=$1"
}
client() { docker exec --interactive "$(container news-consumer)" python3 - "$@" <"$here/smoke_client.py"; }
# The value of a string key in a flat JSON object on standard input.
field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }

page_shows() { rest "$1" | grep --quiet --fixed-strings -- "$2"; }
# The sequence that the consumer's page says it has read up to, or 0.
newest_news() {
    local seq
    seq=$(rest "$news_page" | sed -n 's/.*data-state="last_seq">\([0-9]*\)<.*/\1/p')
    printf '%s' "${seq:-0}"
}
news_beyond() { (($(newest_news) > $1)); }
lines_in() { (($(wc -l <"$1") >= $2)); }
hosted_elsewhere_than() {
    local host
    # While the queue is moving the manager may say that it is nowhere.
    host=$(rest "$manager/queues/smoke" 2>/dev/null | field host) && [[ -n $host && $host != "$1" ]]
}
# The Compose service that has the host name or address $1 on the containers' network.
service_at() {
    local service
    for service in mom1 mom2 mom3 mom4; do
        if [[ $1 == "$service" || $1 == "$RMOM_NETWORK.1${service#mom}" ]]; then printf '%s' "$service"; return; fi
    done
    fail "the manager names the host \"$1\", which is none of ours."
}

scratch=$(mktemp -d)
clean_up() {
    local status=$?
    trap '' INT TERM
    set +e
    if ((status != 0)); then
        local service
        for service in manager mom1 mom2 mom3 mom4 news-pusher news-consumer; do
            printf -- '--- %s\n' "$service"
            docker logs --tail 15 "$(container "$service")" 2>&1
        done
    fi
    "$here/service.sh" down --volumes >"$scratch/down" 2>&1 || cat "$scratch/down"
    rm -rf "$scratch"
    exit "$status"
}
trap clean_up EXIT
# Without these, the end would begin while Compose is still starting containers.
trap 'exit 130' INT
trap 'exit 143' TERM

say "starting"
"$here/service.sh" up "${up_options[@]}" >"$scratch/up" 2>&1 || { cat "$scratch/up"; fail "the system did not start."; }
say "healthy: $(grep --count ' healthy$' "$scratch/up") containers; GET /status says $(rest "$manager/status")"

wait_for 60 "news on the consumer's page" page_shows "$news_page" 'class="card entry"'
news_id=$(rest "$news_page" | sed -n 's/.*name="news_id" value="\([^"]*\)".*/\1/p' | head -n 1)
rest --output /dev/null --header 'Accept: application/json' --data-urlencode "news_id=$news_id" \
    --data-urlencode 'author=Smoke test' --data-urlencode 'text=A comment by hand' \
    "http://127.0.0.1:$NEWS_CONSUMER_PORT/comments"
wait_for 30 "the comment on the pusher's page" page_shows "$comments_page" 'A comment by hand'

rest --output /dev/null --request POST "$manager/queues/smoke"
channel=$(rest --request PUT --header 'Content-type: application/json' "$manager/queues/smoke/channels/__none__" | field id)
host=$(rest "$manager/queues/smoke" | field host)
victim=$(service_at "$host")
say "the queue \"smoke\" is on $victim, with the channel $channel"
if $from_host; then
    (exec 3<>"/dev/tcp/$host/50052") || fail "$host:50052 cannot be reached from here."
    say "$host:50052 is reached from outside the containers"
fi

client subscribe "$channel" "$messages" >"$scratch/received" &
subscriber=$!
client push smoke "$messages" >"$scratch/acknowledged" &
pusher=$!
wait_for 60 "300 pushes acknowledged" lines_in "$scratch/acknowledged" 300
wait_for 60 "300 messages received" lines_in "$scratch/received" 300
news_before=$(newest_news)
docker kill "$(container "$victim")" >/dev/null
if lines_in "$scratch/acknowledged" "$messages"; then fail "every push was over before the kill; raise the number of messages."; fi
say "$victim is killed after $(wc -l <"$scratch/acknowledged") acknowledged pushes"

wait_for 60 "the queue has another MoM" hosted_elsewhere_than "$host"
say "the queue \"smoke\" is on $(service_at "$(rest "$manager/queues/smoke" | field host)")"
wait "$pusher" || fail "the pusher gave up."
wait "$subscriber" || fail "the subscriber gave up."
say "acknowledged: $(wc -l <"$scratch/acknowledged"), received: $(wc -l <"$scratch/received")"

# A retry whose first attempt was committed unseen makes a second message, so there may be more than were acknowledged.
cut -d ' ' -f 1 "$scratch/received" | sort --check --numeric-sort --unique || fail "sequences came twice or out of order."
lost=$(sort "$scratch/acknowledged" | comm -23 - <(sort "$scratch/received"))
if [[ -n $lost ]]; then fail "acknowledged but never received (seq, id, number): $lost"; fi
say "each acknowledged message was received, once and in order"

wait_for 60 "news go on" news_beyond "$news_before"
docker start "$(container "$victim")" >/dev/null
is_healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$(container "$victim")") == healthy ]]; }
wait_for 60 "$victim is back" is_healthy
say "passed"

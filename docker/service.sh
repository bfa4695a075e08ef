#!/usr/bin/env bash
# Runs the system in containers with whichever Compose this machine has.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: docker/service.sh COMMAND

  up [--from-host] [SERVICE ...]   start everything, or only these services and what they need ("up postgres" is only
                                   the database), and wait until all are healthy; images that are missing are built
                                   --from-host: programs outside the containers can push and subscribe too
  build                            build the images from the tree as it is
  status                           what runs, and how it is
  logs [SERVICE ...]               follow what they say
  down [--volumes]                 stop and remove the containers; the data stays unless --volumes is given

  DOCKER_BUILD_FLAGS               more arguments for `docker build`, for instance "--network host"
  COMPOSE_PROJECT_NAME             "rusty-mom"; another name makes a second system beside the first
  The variables that docker-compose.yaml names hold as well.
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-rusty-mom}
tag=${TAG:-latest}
healthy_within=180 # seconds; the first start creates the cluster
read -r -a build_flags <<<"${DOCKER_BUILD_FLAGS:-}"
our_images=(news rmom rmom-manager)

fail() { printf 'service.sh: %s\n' "$*" >&2; exit 1; }

compose_files=(--file "$here/docker-compose.yaml")
compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose "${compose_files[@]}" "$@"
    elif command -v docker-compose >/dev/null; then
        docker-compose "${compose_files[@]}" "$@"
    else
        fail "there is no Docker Compose here. Install the package docker-compose-plugin or docker-compose."
    fi
}

build() {
    local image
    for image in "$@"; do
        docker build "${build_flags[@]}" --file "$here/Dockerfile" --target "$image" \
            --tag "rusty-mom/$image:$tag" "$here/.." ||
            fail "the image rusty-mom/$image was not built. Where no image registry is reached, docker/base-images.sh makes the base images."
    done
}

# Compose would build too, but not with the flags, and once for each MoM.
build_missing() {
    local image
    for image in "${our_images[@]}"; do
        if ! docker image inspect "rusty-mom/$image:$tag" >/dev/null 2>&1; then build "$image"; fi
    done
}

# One line for each container that runs under this project's name: its name and how it is.
health() {
    local containers
    mapfile -t containers < <(compose ps --all --quiet "$@")
    if ((${#containers[@]} > 0)); then
        docker inspect --format '{{.Name}} {{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' \
            "${containers[@]}"
    fi
}

wait_until_healthy() {
    local deadline=$((SECONDS + healthy_within)) states
    while true; do
        states=$(health "$@")
        if ! grep --quiet --invert-match ' healthy$' <<<"$states"; then break; fi
        if ((SECONDS >= deadline)); then
            printf '%s\n' "$states" >&2
            fail "not everything is healthy after $healthy_within seconds. Look at: docker/service.sh logs"
        fi
        sleep 1
    done
    printf '%s\n' "${states//\//}"
}

up() {
    local services=()
    while (($# > 0)); do
        case $1 in
            --from-host) compose_files+=(--file "$here/docker-compose.host.yaml") ;;
            -*) fail "up knows no option \"$1\"; see --help." ;;
            *) services+=("$1") ;;
        esac
        shift
    done
    # The database alone needs none of our images.
    if [[ ${services[*]} != postgres ]]; then build_missing; fi
    compose up --detach --no-build "${services[@]}"
    wait_until_healthy "${services[@]}"
}

down() {
    local volume=${COMPOSE_PROJECT_NAME}_postgres-data
    case ${1:-} in
        '')
            compose down
            printf 'The data stays in the volume %s; "down --volumes" deletes it.\n' "$volume"
            ;;
        --volumes)
            compose down --volumes
            printf 'The volume %s is deleted, with every queue and message in it.\n' "$volume"
            ;;
        *) fail "down knows only --volumes, not \"$1\"." ;;
    esac
}

command=${1:-}
if (($# > 0)); then shift; fi
case $command in
    up) up "$@" ;;
    down) down "$@" ;;
    build) build "${our_images[@]}" ;;
    status) compose ps "$@" ;;
    logs) compose logs --follow "$@" ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac

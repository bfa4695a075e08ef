#!/usr/bin/env bash
# Runs the system in containers with whichever Compose this machine has.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: docker/service.sh COMMAND

  up [--from-host] [--monitoring] [SERVICE ...]   start everything, or only these services and what they need ("up postgres" is only
                                   the database), and wait until all are healthy; images that are missing are built
                                   --monitoring: Prometheus and Grafana too
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

# Without an engine every command would fail in a way of its own.
need_docker() {
    command -v docker >/dev/null ||
        fail "docker is missing. Install Docker and Compose, on Debian: apt-get install docker.io docker-compose"
    docker info >/dev/null 2>&1 || fail "the Docker engine does not answer. Start it, or join the group that may use it."
    if docker compose version >/dev/null 2>&1; then
        compose_command=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose_command=(docker-compose)
    else
        fail "Docker Compose is missing. Install the package docker-compose-plugin or docker-compose."
    fi
}

compose_files=(--file "$here/docker-compose.yaml")
compose() { "${compose_command[@]}" "${compose_files[@]}" "$@"; }

build() {
    local image
    for image in "$@"; do
        # A step that fails would otherwise leave its container behind.
        docker build --force-rm "${build_flags[@]}" --file "$here/Dockerfile" --target "$image" \
            --tag "rusty-mom/$image:$tag" "$here/.." ||
            fail "the image rusty-mom/$image was not built; why is said above. If a base image could not be pulled, docker/base-images.sh makes it."
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

# Docker gives no fixed addresses on a network that was made without them, and Compose notices only when the old
# containers are gone.
need_fixed_addresses() {
    local network=${COMPOSE_PROJECT_NAME}_default wanted=${RMOM_NETWORK:-172.30.50}.0/24 subnet
    subnet=$(docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' "$network" 2>/dev/null) || return 0
    if [[ $subnet != "$wanted" ]]; then
        fail "the network $network has $subnet instead of $wanted. \"docker/service.sh down\" removes it; the data stays."
    fi
}

# Compose tells that a port is taken, among much else, but not what to do about it.
explain_taken_ports() {
    local running service port variable
    while read -r running service port; do
        if [[ $running == false && -n $port ]] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            variable=${service^^}_PORT
            printf 'service.sh: port %s, wanted for %s, is taken by another program; %s=... chooses another port.\n' \
                "$port" "$service" "${variable//-/_}" >&2
        fi
    done < <(compose ps --all --quiet | xargs --no-run-if-empty docker inspect --format \
        '{{.State.Running}} {{index .Config.Labels "com.docker.compose.service"}} {{range .HostConfig.PortBindings}}{{range .}}{{.HostPort}}{{end}}{{end}}')
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
            --from-host)
                need_fixed_addresses
                compose_files+=(--file "$here/docker-compose.host.yaml")
                ;;
            --monitoring) compose_files+=(--profile monitoring) ;;
            -*) fail "up knows no option \"$1\"; see --help." ;;
            *) services+=("$1") ;;
        esac
        shift
    done
    # The database alone needs none of our images.
    if [[ ${services[*]} != postgres ]]; then build_missing; fi
    if ! compose up --detach --no-build "${services[@]}"; then
        explain_taken_ports
        fail "not everything was started; \"docker/service.sh down\" removes what was."
    fi
    wait_until_healthy "${services[@]}"
}

down() {
    local volumes="${COMPOSE_PROJECT_NAME}_postgres-data and ${COMPOSE_PROJECT_NAME}_news-state"
    case ${1:-} in
        '')
            # With a profile that was not used there is nothing more to stop.
            compose --profile monitoring down
            printf 'The data stays in the volumes %s; "down --volumes" deletes them.\n' "$volumes"
            ;;
        --volumes)
            compose --profile monitoring down --volumes
            printf 'The volumes %s are deleted, with every queue and message.\n' "$volumes"
            ;;
        *) fail "down knows only --volumes, not \"$1\"." ;;
    esac
}

command=${1:-}
if (($# > 0)); then shift; fi
case $command in
    up | down | build | status | logs) need_docker ;;
esac
case $command in
    up) up "$@" ;;
    down) down "$@" ;;
    build) build "${our_images[@]}" ;;
    status) compose ps "$@" ;;
    logs) compose logs --follow "$@" ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac

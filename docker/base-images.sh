#!/usr/bin/env bash
# Makes local stand-ins for the base images of our Dockerfile, for machines that reach Debian's packages but no image
# registry. Where images can be pulled there is no need for this script.
#
# The stand-ins carry the usual tags, so that nothing else has to know about them. They are not the official images:
#   debian    debootstrap's smallest bookworm with its security updates
#   python    that plus Debian's python3 (3.11), venv and pip
#   postgres  that plus Debian's postgresql-15 and an entrypoint of our own, which understands POSTGRES_USER,
#             POSTGRES_PASSWORD, POSTGRES_DB and POSTGRES_INITDB_ARGS, and keeps its data in /var/lib/postgresql/data;
#             it runs no initialisation scripts
#   rust      that plus gcc, and the Rust toolchain of this machine as `rustc --print sysroot` tells
#
# Certificate authorities that this machine's administrator has added (/usr/local/share/ca-certificates) are added in
# the images too, so that a build behind such a proxy works. Do not publish the images.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: docker/base-images.sh [--force] [debian|python|postgres|rust ...]

Without names all four are made. A tag that exists is left as it is, and that is an error, unless --force is given.

  DEBIAN_MIRROR           default http://deb.debian.org/debian
  DEBIAN_SECURITY_MIRROR  default http://deb.debian.org/debian-security
  DOCKER_BUILD_FLAGS      more arguments for `docker build`, for instance "--network host"
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
security_mirror=${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
read -r -a build_flags <<<"${DOCKER_BUILD_FLAGS:-}"
declare -A tag_of=(
    [debian]=debian:bookworm-slim
    [python]=python:3.11-slim-bookworm
    [postgres]=postgres:15-bookworm
    [rust]=rust:1-slim-bookworm
)

fail() { printf 'base-images.sh: %s\n' "$*" >&2; exit 1; }

exists() { docker image inspect "$1" >/dev/null 2>&1; }

# Builds the tag $1 from the context $2 and the Dockerfile on standard input.
build() {
    cp /dev/stdin "$2/Dockerfile"
    docker build "${build_flags[@]}" --tag "$1" "$2"
}

make_debian() {
    local rootfs=$workspace/debian
    [[ $EUID -eq 0 ]] || fail "debootstrap needs root. Run this script as root."
    command -v debootstrap >/dev/null || fail "debootstrap is missing. Run: apt-get install debootstrap"
    debootstrap --variant=minbase bookworm "$rootfs" "$mirror"

    printf 'deb %s %s main\n' "$mirror" bookworm "$mirror" bookworm-updates "$security_mirror" bookworm-security \
        >"$rootfs/etc/apt/sources.list"
    # Documentation and translations are half of a small image, and nobody reads them in one.
    printf 'path-exclude %s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' \
        >"$rootfs/etc/dpkg/dpkg.cfg.d/small-image"
    rm -rf "$rootfs"/usr/share/{doc,man,info,locale}/*
    # Neither does anybody need what apt keeps of its lists and downloads: 80 MB in each image that installs a package.
    printf '%s\n' 'Dir::Cache::pkgcache "";' 'Dir::Cache::srcpkgcache "";' 'APT::Keep-Downloaded-Packages "false";' \
        >"$rootfs/etc/apt/apt.conf.d/small-image"
    # No service is to be started by the installation of a package.
    printf '#!/bin/sh\nexit 101\n' >"$rootfs/usr/sbin/policy-rc.d"
    chmod 755 "$rootfs/usr/sbin/policy-rc.d"
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        mkdir -p "$rootfs/usr/local/share/ca-certificates"
        cp -L /usr/local/share/ca-certificates/*.crt "$rootfs/usr/local/share/ca-certificates/"
    fi
    chroot "$rootfs" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -q && apt-get upgrade -q -y && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*'
    # debootstrap copied these from this machine; the engine writes its own.
    rm -f "$rootfs/etc/resolv.conf" "$rootfs/etc/hostname"

    tar -C "$rootfs" --numeric-owner --exclude='./dev/*' -c . |
        docker import --change 'CMD ["bash"]' - "${tag_of[debian]}"
}

make_python() {
    local context=$workspace/python
    mkdir "$context"
    # Debian's own pip refuses to install beside Debian's packages; whoever uses this image makes a virtual environment.
    build "${tag_of[python]}" "$context" <<DOCKERFILE
FROM ${tag_of[debian]}
ENV LANG=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update -q \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends ca-certificates python3 python3-venv python3-pip \\
 && rm -rf /var/lib/apt/lists/* \\
 && ln -s /usr/bin/python3 /usr/local/bin/python
CMD ["python3"]
DOCKERFILE
}

make_postgres() {
    local context=$workspace/postgres
    mkdir "$context"
    cp "$here/base-images/postgres-entrypoint.sh" "$context/"
    # The account gets the number that it has in the official image, so that a volume keeps its owner.
    build "${tag_of[postgres]}" "$context" <<DOCKERFILE
FROM ${tag_of[debian]}
ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data
RUN groupadd --system --gid 999 postgres \\
 && useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --shell /bin/bash postgres \\
 && mkdir -p /etc/postgresql-common/createcluster.d \\
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/image.conf \\
 && apt-get update -q \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql-15 \\
 && rm -rf /var/lib/apt/lists/* \\
 && install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data \\
 && install -d -o postgres -g postgres -m 3777 /var/run/postgresql
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY postgres-entrypoint.sh /usr/local/bin/
VOLUME /var/lib/postgresql/data
# SIGINT is PostgreSQL's fast shutdown: clients are disconnected, everything is written.
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["postgres-entrypoint.sh"]
CMD ["postgres"]
DOCKERFILE
}

make_rust() {
    local context=$workspace/rust sysroot
    command -v rustc >/dev/null || fail "there is no rustc here whose toolchain could be copied."
    sysroot=$(rustc --print sysroot)
    # A distribution's rustc has /usr as its sysroot, which is not ours to copy.
    [[ -x $sysroot/bin/cargo && -d $sysroot/lib/rustlib && $sysroot != /usr ]] ||
        fail "\"$sysroot\" is not a toolchain of its own. Install one with rustup."
    mkdir -p "$context/toolchain"
    tar -C "$sysroot" --exclude='./share/*' --exclude='./lib/rustlib/src' -c . | tar -C "$context/toolchain" -x
    build "${tag_of[rust]}" "$context" <<DOCKERFILE
FROM ${tag_of[debian]}
ENV LANG=C.UTF-8 CARGO_HOME=/usr/local/cargo
RUN apt-get update -q \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends ca-certificates gcc libc6-dev \\
 && rm -rf /var/lib/apt/lists/*
COPY --chown=root:root toolchain /usr/local/rust
ENV PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["bash"]
DOCKERFILE
}

force=false
names=()
for argument in "$@"; do
    case $argument in
        --force) force=true ;;
        -h | --help) usage; exit 0 ;;
        debian | python | postgres | rust) names+=("$argument") ;;
        *) printf 'base-images.sh: unknown argument "%s".\n\n' "$argument" >&2; usage >&2; exit 2 ;;
    esac
done
if ((${#names[@]} == 0)); then names=(debian python postgres rust); fi
command -v docker >/dev/null || fail "docker is missing. Install it, on Debian: apt-get install docker.io"
docker info >/dev/null 2>&1 || fail "the Docker engine does not answer. Start it, or join the group that may use it."

# All the refusals come before any work.
for name in "${names[@]}"; do
    if ! $force && exists "${tag_of[$name]}"; then
        fail "the image ${tag_of[$name]} exists and is left alone; --force replaces it. Nothing was made."
    fi
done

workspace=$(mktemp -d)
trap 'rm -rf "$workspace"' EXIT

# The three others stand on the first.
if [[ " ${names[*]} " == *" debian "* ]]; then
    make_debian
elif ! exists "${tag_of[debian]}"; then
    fail "the others stand on ${tag_of[debian]}, which is missing. Name \"debian\" too."
fi
for name in "${names[@]}"; do
    if [[ $name != debian ]]; then "make_$name"; fi
done

printf 'Made:\n'
for name in "${names[@]}"; do printf '  %s\n' "${tag_of[$name]}"; done

#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine that has Rust and Python 3 able to build, demonstrate and test this project.
#
# It installs only what is missing, says beforehand what and why, starts no server, and leaves Rust alone: a toolchain
# belongs to its user. When nothing is missing it returns at once.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: ./first-time-install.sh [--check] [--with-browser] [--with-clocks] [--with-peers]

  --check          only report what is missing; exits with 1 if anything is
  --with-browser   also Chromium, for the tests of the example pages
  --with-clocks    also libfaketime, for the clocks that jump in "make chaos"
  --with-peers     also the servers of other systems, for "make compare"

Exit status: 0 nothing is missing (any more), 1 something is, 2 wrong usage.
USAGE
}

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
minimum_postgresql=12
minimum_python=3.10
# The workspace's manifest is the one place that states the oldest usable Rust.
minimum_cargo=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$root_dir/Cargo.toml")
service_policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.d/rusty-mom.conf

check_only=false
with_browser=false
with_clocks=false
with_peers=false
for argument in "$@"; do
    case $argument in
        --check) check_only=true ;;
        --with-browser) with_browser=true ;;
        --with-clocks) with_clocks=true ;;
        --with-peers) with_peers=true ;;
        -h | --help) usage; exit 0 ;;
        *) printf 'first-time-install.sh: unknown argument "%s".\n\n' "$argument" >&2; usage >&2; exit 2 ;;
    esac
done

packages=() # What apt-get is to install,
reasons=()  # and for each why.
need() {
    packages+=("$1")
    reasons+=("$2")
}

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# True if $1 is at least $2, both dotted numbers.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

has_postgresql() {
    local candidate version
    # Debian keeps the server's binaries out of PATH, one folder a version.
    for candidate in /usr/lib/postgresql/*/bin/postgres "$(command -v postgres || true)"; do
        [[ -x $candidate && -x ${candidate%/*}/initdb ]] || continue
        version=$("$candidate" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
        if ((version >= minimum_postgresql)); then return 0; fi
    done
    return 1
}

# A compiler without the C library's headers and start files passes `cc --version` and links nothing.
has_linker() {
    has cc && printf 'int main(void) { return 0; }\n' | cc -x c - -o /dev/null 2>/dev/null
}

# Kept out of the usual folders of libraries, since nothing is linked with it.
has_libfaketime() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

has_browser() { has chromium || has chromium-browser || has google-chrome; }

# Servers are not in everybody's PATH.
has_in_sbin() { has "$1" || [[ -x /usr/sbin/$1 ]]; }

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

find_missing() {
    packages=()
    reasons=()
    has_postgresql || need postgresql "PostgreSQL's server programs; tests and demo start servers of their own with them"
    has python3 || need python3 "the Python client and the example servers"
    { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; } ||
        need python3-venv "virtual environments, in which the Python client is installed"
    has_linker || { need gcc "the C compiler and linker that Rust calls"; need libc6-dev "what that linker links with"; }
    has make || need make "the commands in the Makefile"
    has curl || need curl "the demo and the scripts speak REST with it"
    [[ -s /etc/ssl/certs/ca-certificates.crt ]] ||
        need ca-certificates "the certificates by which cargo and pip know their registries"
    { has setpriv && has runuser; } || need util-linux "setpriv and runuser, with which root starts PostgreSQL as another user"
    if $with_clocks && ! has_libfaketime; then
        need libfaketime "the clock of a process that can be made to jump"
    fi
    if $with_peers; then
        has_in_sbin redis-server || need redis-server "Redis, which is compared with"
        has_in_sbin nats-server || need nats-server "NATS, which is compared with"
        has_in_sbin rabbitmq-server || need rabbitmq-server "RabbitMQ, which is compared with"
    fi
    if $with_browser && ! has_browser; then
        need chromium "the browser in which the example pages are tested"
        need fonts-dejavu-core "letters for that browser"
    fi
}

# PostgreSQL refuses to run as root, so root needs an account to run it under. The package brings `postgres`; servers
# installed otherwise may not have.
lacks_account() { [[ $EUID -eq 0 ]] && ! id postgres >/dev/null 2>&1; }

# Says whether cargo is there and new enough, and if not, what to do. Never installs it.
check_cargo() {
    local version
    if has cargo; then
        version=$(cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
        if [[ -n $version ]] && at_least "$version" "$minimum_cargo"; then return 0; fi
        complain "cargo ${version:-of unknown version} is too old; this project needs $minimum_cargo or newer. Run: rustup update stable"
    elif [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        complain "cargo is installed but not in PATH. Run: . \"${CARGO_HOME:-$HOME/.cargo}/env\""
    else
        complain "cargo is missing; this project needs $minimum_cargo or newer. Run:"
        complain "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    fi
    return 1
}

# An old Python is the distribution's, and replacing it is its user's decision, as with Rust.
check_python() {
    if ! has python3 || python3 -c "import sys; sys.exit(sys.version_info < (${minimum_python/./, }))"; then return 0; fi
    complain "$(python3 --version) is too old; this project needs $minimum_python or newer."
    return 1
}

# Both have their say, whatever the first says.
check_languages() {
    local fine=true
    check_cargo || fine=false
    check_python || fine=false
    $fine
}

# Ubuntu's chromium packages are empty shells that call snap, which needs a running systemd; they are not installed
# blindly. Prints the name of a package that holds a browser, or nothing.
browser_package() {
    local name candidate
    for name in chromium chromium-browser; do
        candidate=$(apt-cache policy "$name" 2>/dev/null | sed -n 's/^ *Candidate: //p')
        case $candidate in
            '' | '(none)' | *snap*) ;;
            *) printf '%s' "$name"; return ;;
        esac
    done
}

list_missing() {
    local index
    for index in "${!packages[@]}"; do
        say "  ${packages[$index]}: ${reasons[$index]}"
    done
    if lacks_account && ! [[ " ${packages[*]} " == *" postgresql "* ]]; then
        say "  the system account \"postgres\": PostgreSQL does not run as root"
    fi
}

# The package would create and start a cluster of its own. Whoever has postgresql-common already has made that choice.
keep_postgresql_from_starting() {
    if is_installed postgresql-common || [[ -e $cluster_conf ]]; then return 0; fi
    say "Writing $cluster_conf, so that no PostgreSQL server is created and started."
    "${as_root[@]}" mkdir -p "${cluster_conf%/*}"
    printf 'create_main_cluster = false\n' | "${as_root[@]}" tee "$cluster_conf" >/dev/null
}

# These packages start their servers, which would be in the way of nobody but the measurements. Whoever has a policy of
# their own keeps it.
keep_peers_from_starting() {
    if [[ -e $service_policy ]]; then return 0; fi
    say "No server is started: for the time of the installation, $service_policy says so."
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$service_policy" >/dev/null
    "${as_root[@]}" chmod 755 "$service_policy"
    trap '"${as_root[@]}" rm -f "$service_policy"' EXIT
}

install_packages() {
    local index name
    "${as_root[@]}" apt-get update -q
    for index in "${!packages[@]}"; do
        if [[ ${packages[$index]} == chromium ]]; then
            name=$(browser_package)
            if [[ -n $name ]]; then
                packages[index]=$name
            else
                complain "This distribution packages Chromium only as a snap. Run: sudo snap install chromium"
                unset "packages[index]"
            fi
        fi
    done
    if [[ " ${packages[*]} " == *" postgresql "* ]]; then keep_postgresql_from_starting; fi
    if [[ " ${packages[*]} " == *" redis-server "* || " ${packages[*]} " == *" rabbitmq-server "* ]]; then
        keep_peers_from_starting
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}"
    # Nor at the next boot.
    for name in "${packages[@]}"; do
        if has systemctl && [[ $name == @(redis|nats|rabbitmq)-server ]]; then
            "${as_root[@]}" systemctl disable --quiet "$name" 2>/dev/null || true
        fi
    done
}

find_missing
if ((${#packages[@]} > 0)) || lacks_account; then
    if $check_only; then
        say "Missing:"
        list_missing
        check_languages || true
        exit 1
    fi
    say "To be installed:"
    list_missing
    if ! has apt-get; then
        complain "There is no apt-get here. Install the above by this system's own means."
        exit 1
    fi
    as_root=()
    if [[ $EUID -ne 0 ]]; then
        if ! has sudo; then
            complain "This needs root, and there is no sudo. Run as root: $root_dir/first-time-install.sh${*:+ $*}"
            exit 1
        fi
        say "As you are not root, this is done with sudo."
        as_root=(sudo)
    fi
    if ((${#packages[@]} > 0)); then install_packages; fi
    if lacks_account; then "${as_root[@]}" useradd --system --user-group --shell /bin/bash postgres; fi

    find_missing
    if ((${#packages[@]} > 0)) || lacks_account; then
        complain "Still missing after the installation:"
        list_missing >&2
        exit 1
    fi
fi

# Last, so that what is left to be done by hand does not scroll away.
check_languages || exit 1
say "Nothing is missing: this machine can build, demonstrate and test the project."

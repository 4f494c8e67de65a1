# What start.sh and test.sh share: Python, the virtual environment, system packages.
# Sourced, never run; the caller has changed to the project's root and set -euo pipefail.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

stop() {
    say ""
    say "botyard: $*"
    exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Prints the first Python of 3.11 or newer.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 && new_enough "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

# True where packages may be installed without a question.
may_install() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; }
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

package_manager() {
    local name
    for name in apt-get dnf pacman apk brew; do
        if command -v "$name" >/dev/null 2>&1; then
            printf '%s' "$name"
            return 0
        fi
    done
    return 1
}

# The command a person would type to install the packages given.
install_command() {
    case "$(package_manager || true)" in
        apt-get) printf 'sudo apt-get update && sudo apt-get install -y %s' "$*" ;;
        dnf) printf 'sudo dnf install -y %s' "$*" ;;
        pacman) printf 'sudo pacman -S --noconfirm %s' "$*" ;;
        apk) printf 'sudo apk add %s' "$*" ;;
        brew) printf 'brew install %s' "$*" ;;
        *) printf '(with the package manager of this system) install %s' "$*" ;;
    esac
}

# Installs system packages where that needs no question. False where it may not or could not.
install_packages() {
    local manager
    manager=$(package_manager) || return 1
    if [ "$manager" = brew ]; then
        brew install "$@" >&2
        return
    fi
    may_install || return 1
    case "$manager" in
        apt-get)
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null 2>&1 </dev/null && return 0
            # A new machine has no package lists yet.
            as_root apt-get update -q >&2 </dev/null || return 1
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >&2 </dev/null
            ;;
        dnf) as_root dnf install -y -q "$@" >&2 </dev/null ;;
        pacman) as_root pacman -S --noconfirm --needed "$@" >&2 </dev/null ;;
        apk) as_root apk add --quiet "$@" >&2 </dev/null ;;
    esac
}

# One line that changes whenever one of the files does.
fingerprint() { cat -- "$@" | cksum; }

# Creates .venv where there is no usable one.
ensure_venv() {
    if [ -x .venv/bin/python ] && new_enough .venv/bin/python && [ -f .venv/.made ]; then
        return 0
    fi
    # Made by hand, or before this file wrote .made: as good, if pip works in it.
    if [ -x .venv/bin/python ] && new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        : >.venv/.made
        return 0
    fi
    local python found
    python=$(find_python) || {
        found=$(python3 --version 2>/dev/null || true)
        stop "Python 3.11 or newer is needed; found: ${found:-no python3 at all}. Install one: $(install_command python3.11), then run this again."
    }
    say "Creating the virtual environment .venv with $("$python" --version) ..."
    if ! "$python" -m venv --clear .venv >/dev/null 2>&1; then
        # Debian and Ubuntu ship venv on its own.
        local package
        package="$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')"
        if [ "$(package_manager || true)" != apt-get ]; then
            stop "the virtual environment could not be created; this says why: $python -m venv --clear .venv"
        fi
        install_packages "$package" || install_packages python3-venv || stop "Python's venv is missing. Type: $(install_command "$package"), then run this again."
        "$python" -m venv --clear .venv >&2 || stop "the virtual environment could not be created (see above)."
    fi
    : >.venv/.made
}

# ensure_requirements STAMP FILE...: installs the files' packages unless that was done already.
ensure_requirements() {
    local stamp=".venv/$1" wanted file
    shift
    wanted=$(fingerprint "$@")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return 0
    fi
    say "Installing the packages of $* (only when they have changed; may take a few minutes) ..."
    local arguments=()
    for file in "$@"; do arguments+=(-r "$file"); done
    .venv/bin/python -m pip install --disable-pip-version-check --no-input -qq "${arguments[@]}" >&2 ||
        stop "the packages could not be installed (see above). Is this machine online? Then run this again."
    printf '%s\n' "$wanted" >"$stamp"
}

# Bots run in screen. Without it everything else works, so this only says what to type.
ensure_screen() {
    command -v screen >/dev/null 2>&1 && return 0
    say "Installing screen ..."
    if install_packages screen && command -v screen >/dev/null 2>&1; then
        return 0
    fi
    say ""
    say "botyard: screen is missing, and bots can't be started without it. Type:  $(install_command screen)"
    say ""
}

#!/usr/bin/env bash
# Sets up whatever is missing, then runs every check and test. Non-zero on any failure.
# Arguments go to pytest: ./test.sh tests/test_strategies.py -x
set -euo pipefail
cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=utils/setup.sh
. utils/setup.sh

ensure_venv
ensure_requirements .requirements.stamp requirements.txt
ensure_requirements .requirements-test.stamp requirements.txt requirements-test.txt
ensure_screen

has_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}
if ! has_browser || ! command -v chromedriver >/dev/null 2>&1; then
    case "$(package_manager || true)" in
        apt-get) browser="chromium chromium-driver" ;;
        dnf) browser="chromium chromedriver" ;;
        apk) browser="chromium chromium-chromedriver" ;;
        pacman) browser="chromium" ;;
        *) browser="" ;;
    esac
    say "Installing a browser for the tests of the page ..."
    # shellcheck disable=SC2086  # two words, two packages
    if [ -z "$browser" ] || ! install_packages $browser; then
        say "botyard: no browser could be installed; the tests of the page that need one are skipped. Type:  $(install_command "${browser:-chromium and chromedriver}")"
    fi
fi

# No setting of the person who runs this may reach a test.
unset BOTYARD_HOME
while IFS='=' read -r name _; do
    case "$name" in '' | '#'*) ;; *) unset "$name" ;; esac
done <.env.example

failed=""
say "ruff ..."
.venv/bin/python -m ruff check . || failed="$failed ruff"
say "mypy ..."
.venv/bin/python -m mypy || failed="$failed mypy"
say "pytest ..."
# pytest speaks last, so that its closing line is the last one.
if [ -n "$failed" ]; then say "botyard: failed so far:$failed"; fi
# Much of it waits for real processes, so that three workers are worth it on two cores; many more would
# only wait for each other and for the browsers and bots that they start. A person's own -n comes after, and counts.
.venv/bin/python -m pytest -q -n 3 --dist worksteal "$@" || exit $?
[ -z "$failed" ]

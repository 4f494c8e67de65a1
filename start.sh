#!/usr/bin/env bash
# Sets up whatever is missing and serves the dashboard in the foreground. Works from any folder.
set -euo pipefail
cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=utils/setup.sh
. utils/setup.sh

ensure_venv
ensure_requirements .requirements.stamp requirements.txt
ensure_screen

home=${BOTYARD_HOME:-$PWD}
case "$home" in "~"/*) home="$HOME/${home#"~"/}" ;; esac
if [ ! -d "$home" ]; then
    stop "BOTYARD_HOME is $home, which is not a folder. Create it (mkdir -p '$home') or unset BOTYARD_HOME."
fi
if [ ! -e "$home/.env" ] && [ ! -e .env ]; then
    # Nobody else may read it: keys will be written into it.
    (umask 077 && cp .env.example "$home/.env") || stop "$home/.env could not be written. Is the folder yours?"
    say "Created $home/.env: the settings, for paper trading to begin with."
fi

# The bots of a yard that lives in the checkout are no change to the project.
if [ "$home" -ef . ] && git ls-files --error-unmatch active_bots.json >/dev/null 2>&1; then
    git update-index --skip-worktree active_bots.json || say "git could not be told to leave active_bots.json alone; nothing else is affected."
fi

exec .venv/bin/python simple_dash.py "$@"

#!/usr/bin/env bash
# What the systemd unit (utils/botyard.service) runs: the yard and the page, without a terminal.
#
# The page's end must not be the unit's: systemd ends every process of a unit together with
# its main one, and a page that fails would take every bot down for a moment. So this stays,
# and starts the page again. Only a signal ends it; that is what `systemctl stop` sends.
set -uo pipefail
cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1

ending=
trap 'ending=${ending:-1}' TERM INT HUP

# Bash hears a signal only between commands, or in `wait`. systemd sends it to the child, too;
# where somebody sent it to this process alone, the child is told a second later.
waited() {
    child=$!
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do
        if [ "$ending" = 1 ]; then
            ending=told
            sleep 1
            kill -TERM "$child" 2>/dev/null
        fi
        wait "$child"
        code=$?
    done
}

pause=1
while [ -z "$ending" ]; do
    begun=$SECONDS
    # The yard first: it must come back even where the page can't (its port is taken, say).
    # On a new machine there is nothing to run it with yet; start.sh sets that up, and the page starts the yard.
    if [ -x .venv/bin/python ]; then
        .venv/bin/python utils/service.py yard </dev/null &
        waited
    fi
    [ -z "$ending" ] || break
    ./start.sh </dev/null &
    waited
    [ -z "$ending" ] || break
    [ $((SECONDS - begun)) -lt 60 ] || pause=1
    echo "The page has ended (exit code $code); bots go on. It is started again in $pause s." >&2
    sleep "$pause" &
    waited
    pause=$((pause * 2 < 60 ? pause * 2 : 60))
done
exit 0

#!/usr/bin/env bash
# deploy/deploy.sh TAG: puts a release into service on this host, and the one before again where the new one fails.
#
# Takes the release's files (where this is a clone) and pulls its images, starts them, waits until they are healthy, and
# asks every port of PORTS for a prediction of SMOKE_IMAGE (which must be SMOKE_LABEL, if that is set; the token, where
# one is needed, is in PREDICT_TOKEN). The tag that serves stands in .env, where docker compose reads it.
# Exit status: 0 the release serves, 1 the one before serves again, 2 bad usage, 3 nothing serves: somebody must look.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setting() { # name, default: the variable, or what .env says
    local found
    found=$(sed -n "s/^$1=//p" .env | tail -n 1)
    echo "${!1:-${found:-$2}}"
}

remember() { # a tag, in .env
    { grep -v '^TAG=' .env || true; echo "TAG=$1"; } > .env.new && mv .env.new .env
}

answers() { # whether each port of this machine gives a prediction
    local ports port
    ports=$(setting PORTS 8000)
    for port in $(seq "${ports%-*}" "${ports#*-}"); do
        python3 deploy/smoke.py "http://127.0.0.1:$port" "${SMOKE_IMAGE:-data/sample/Bag/00023.png}" \
            --label "${SMOKE_LABEL:-}" --wait "${SMOKE_WAIT:-60}" || return 1
    done
}

serve() { # a tag, until it answers; each step only if the one before went well, for set -e is off in a condition
    { [ ! -d .git ] || git checkout --quiet "$1"; } \
        && remember "$1" \
        && docker compose pull --quiet \
        && docker compose up --detach --no-build --wait --wait-timeout 180 --remove-orphans \
        && answers
}

main() { # read as a whole before it runs, for a checkout replaces this file
    if [ $# != 1 ] || ! [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]]; then
        echo "Usage: deploy/deploy.sh TAG, such as v1.2.0" >&2
        exit 2
    fi
    touch .env
    local new=$1 before
    before=$(sed -n 's/^TAG=//p' .env | tail -n 1)
    if serve "$new"; then
        echo "$new serves."
        exit 0
    fi
    docker compose logs --tail 50 serve >&2 || true
    if [ -z "$before" ] || [ "$before" = "$new" ]; then
        echo "$new failed, and no other release is known." >&2
        exit 3
    fi
    echo "$new failed; going back to $before." >&2
    if serve "$before"; then
        echo "$before serves again." >&2
        exit 1
    fi
    echo "$before does not serve either." >&2
    exit 3
}

main "$@"

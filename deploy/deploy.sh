#!/usr/bin/env bash
# deploy/deploy.sh TAG: puts a release into service on this host, and the one before again where the new one fails.
#
# Pulls the images, starts them, waits until they are healthy, and asks for a prediction of SMOKE_IMAGE (which must be
# SMOKE_LABEL, if that is set) at SMOKE_URL. The tag that serves stands in .env, where docker compose reads it.
# Exit status: 0 the release serves, 1 the one before serves again, 2 bad usage, 3 nothing serves: somebody must look.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# = 1 ] && [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || { echo "Usage: deploy/deploy.sh TAG, such as v1.2.0" >&2; exit 2; }
new=$1
touch .env
before=$(sed -n 's/^TAG=//p' .env | tail -n 1)

remember() { # a tag, in .env
    { grep -v '^TAG=' .env || true; echo "TAG=$1"; } > .env.new
    mv .env.new .env
}

serve() { # a tag, until it answers
    remember "$1"
    docker compose pull --quiet --ignore-buildable && docker compose up --detach --wait --wait-timeout 180 --remove-orphans \
        && python3 deploy/smoke.py "${SMOKE_URL:-http://127.0.0.1:8000}" "${SMOKE_IMAGE:-data/sample/Bag/00023.png}" \
            --label "${SMOKE_LABEL:-}" --wait "${SMOKE_WAIT:-60}"
}

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

#!/usr/bin/env bash
# deploy/smoke_compose.sh: builds and starts all of docker-compose.yml that is ours, two services on one PostgreSQL, tries
# it, and takes it away. It needs Docker with Compose, free ports 8000 and 8001, and artifacts/ of the sample
# (./run_pipeline.sh), which are only read.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=data/sample/Bag/00023.png

[ -e artifacts/sample/deployment.json ] || { echo "The sample has no model; run: ./run_pipeline.sh" >&2; exit 2; }
work=$(mktemp -d)
cat deploy/postgres.env - > "$work/env" <<< TAG=try
compose() { docker compose --project-name smoke --env-file "$work/env" "$@"; }
trap 'compose down --volumes > /dev/null 2>&1 || true; rm -rf "$work"' EXIT

deploy/make_secrets.sh > /dev/null
compose build
compose run --rm --no-deps -T -v "$PWD/artifacts:/from:ro" serve cp -r /from/. artifacts
compose up --detach --no-build --wait --wait-timeout 180 || { compose logs --tail 50 >&2; exit 1; }
for port in 8000 8001; do
    python3 deploy/smoke.py "http://127.0.0.1:$port" "$image" --label Bag
done
said=$(curl -sS -F "image=@$image" http://127.0.0.1:8000/predict)
[[ $said == *'"logged":true'* ]] || { echo "The log is not written: $said" >&2; exit 1; }
heard=$(curl -sS -F "image=@$image" -F label=Bag http://127.0.0.1:8001/feedback)
[[ $heard == *'"new":false'* ]] || { echo "The other service does not know the answer: $heard" >&2; exit 1; }
echo "one log for both services"
compose stop
failed=$(compose ps --all --format '{{.Name}} {{.ExitCode}}' | grep -v ' 0$' || true)
[ -z "$failed" ] || { echo "Told to stop, these did not end well: $failed" >&2; exit 1; }

#!/usr/bin/env bash
# deploy/smoke_compose.sh: builds and starts all of docker-compose.yml that is ours, two services on one PostgreSQL, tries
# it, and takes it away but for the images (tag `try`). It needs Docker with Compose, free ports 8000 and 8001, and
# artifacts/ of the sample (./run_pipeline.sh), which are only read. Nothing that runs here already is touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=data/sample/Bag/00023.png

[ -e artifacts/sample/deployment.json ] || { echo "The sample has no model; run: ./run_pipeline.sh" >&2; exit 2; }
work=$(mktemp -d)
# Settings and secrets of its own: neither those of the shell nor those of .env, but for where packages come from.
# shellcheck disable=SC2046 # names are meant to be split
unset $(grep -oE '[$][{][A-Z_]+' docker-compose.yml | cut -c3-) "${!COMPOSE_@}"
{ cat deploy/postgres.env; echo TAG=try; grep -E '^(BASE_IMAGE|TORCH_INDEX)=' .env 2> /dev/null || true; } > "$work/env"
deploy/make_secrets.sh "$work/secrets" > /dev/null
{
    echo secrets:
    for secret in "$work"/secrets/*; do echo "  $(basename "$secret"): {file: $secret}"; done
} > "$work/secrets.yml"
compose() {
    docker compose --project-name smoke --project-directory . --env-file "$work/env" \
        --file docker-compose.yml --file "$work/secrets.yml" "$@"
}
take_away() { compose down --volumes --remove-orphans; }
end() {
    local status=$?
    [ $status = 0 ] || compose logs --tail 50 >&2
    take_away && rm -rf "$work"
    exit $status
}
trap end EXIT

fail() { # a sentence
    echo "$1" >&2
    exit 1
}

take_away # what a trial that was killed has left
compose build
compose run --rm --no-deps -T -v "$PWD/artifacts:/from:ro" serve cp -r /from/sample /from/backbones artifacts
compose up --detach --no-build --wait --wait-timeout 180
for port in 8000 8001; do
    python3 deploy/smoke.py "http://127.0.0.1:$port" "$image" --label Bag
done
said=$(curl -sS -F "image=@$image" http://127.0.0.1:8000/predict)
[[ $said == *'"logged":true'* ]] || fail "The log is not written: $said"
heard=$(curl -sS -F "image=@$image" -F label=Bag http://127.0.0.1:8001/feedback)
[[ $heard == *'"new":false'* ]] || fail "The other service does not know the answer: $heard"
kept=$(compose exec -T postgres psql -U production -d production -Atc "SELECT count(*) FROM feedback")
[ "$kept" = 1 ] || fail "PostgreSQL has $kept labels, not the one that was given."
echo "one log for both services"
compose stop
ended=$(compose ps --all --format '{{.Name}} {{.State}} {{.ExitCode}}')
[ "$(grep -c ' exited 0$' <<< "$ended")" = 5 ] || fail "Told to stop, not all of five ended well: $ended"
echo "stopped with exit status 0"

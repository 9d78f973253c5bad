#!/usr/bin/env bash
# deploy/smoke_container.sh TARGET: builds an image, runs it as docker-compose.yml does, and tries it.
# It needs Docker, and artifacts/ of the sample: ./run_pipeline.sh.
# ENGINE=podman and RUN="--network=host" and the like are for other engines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$1
engine=${ENGINE:-docker}
image=image-classification-pipeline:try-$target
case $target in serve) limit=600 ;; reporting) limit=1200 ;; *) limit=2500 ;; esac
# shellcheck disable=SC2206 # words are meant to be split
hardened=(--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges ${RUN:-})

[ -e artifacts/sample/deployment.json ] || { echo "The sample has no model; run: ./run_pipeline.sh" >&2; exit 2; }
"$engine" build --build-arg "REVISION=$(git rev-parse HEAD)" ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} \
    ${TORCH_INDEX:+--build-arg "TORCH_INDEX=$TORCH_INDEX"} --target "$target" --tag "$image" .
megabytes=$(($("$engine" image inspect --format '{{.Size}}' "$image") / 1000000))
echo "$target: $megabytes MB"
[ "$megabytes" -le "$limit" ] || { echo "More than $limit MB." >&2; exit 1; }

work=$(mktemp -d)
trap '"$engine" rm --force smoke > /dev/null 2>&1 || true; rm -rf "$work" 2> /dev/null || sudo rm -rf "$work"' EXIT
cp -r artifacts "$work/artifacts"
mkdir "$work/production" "$work/reports"
chmod -R a+rwX "$work" # the image's user is nobody here
volumes=(-v "$work/artifacts:/app/artifacts" -v "$work/production:/app/data/production" -v "$work/reports:/app/reports")

case $target in
serve)
    "$engine" run --detach --name smoke --publish 127.0.0.1:8000:8000 "${hardened[@]}" "${volumes[@]}" "$image" > /dev/null
    python3 deploy/smoke.py http://127.0.0.1:8000 data/sample/Bag/00023.png --label Bag \
        --stop "$engine stop --time 40 smoke" || { "$engine" logs --tail 50 smoke >&2; exit 1; }
    status=$("$engine" inspect --format '{{.State.ExitCode}}' smoke)
    [ "$status" = 0 ] || { echo "Told to stop, it ended with $status." >&2; exit 1; }
    ;;
reporting)
    "$engine" run --rm "${hardened[@]}" "${volumes[@]}" "$image" python -m lib.monitoring --task sample
    ls "$work"/reports/sample/05_monitoring.html
    ;;
pipeline)
    "$engine" run --rm "${hardened[@]}" "${volumes[@]}" "$image" --task made-in-it
    ls "$work"/reports/made-in-it/04_evaluation.html
    ;;
esac

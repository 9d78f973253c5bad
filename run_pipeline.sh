#!/usr/bin/env bash
# From a folder of images to reports and a served model. --help shows the options; README.md tells the rest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
exec "$python" -m lib.pipeline "$@"

#!/usr/bin/env bash
# Every test; arguments go to pytest.
set -euo pipefail
requirements="requirements-test.txt"
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
cd "$root"
exec "$python" -m pytest "$@"

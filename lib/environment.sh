# shellcheck shell=bash
# Sourced by run_pipeline.sh and run_tests.sh: sets $root and $python, and makes .venv the first time.
# The active conda or virtual environment is used where it has what $requirements (requirements.txt) asks for.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python=""
requirements="${requirements:-requirements.txt}"

active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
if [ -n "$active" ] && [ -x "$active/bin/python" ] && [ "$active" != "$root/.venv" ]; then
    if reason="$("$active/bin/python" "$root/lib/environment.py" "$requirements" 2>&1)"; then
        python="$active/bin/python"
    else
        echo "The active environment is not used ($reason); taking .venv instead." >&2
    fi
fi

if [ -z "$python" ]; then
    python="$root/.venv/bin/python"
    if ! reason="$("$python" "$root/lib/environment.py" "$requirements" 2>&1)"; then
        # A venv module without ensurepip leaves a Python without pip behind: that is no environment either.
        if ! "$python" -m pip --version >/dev/null 2>&1; then
            base=""
            for candidate in python3.11 python3 python; do
                if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                    base="$candidate"
                    break
                fi
            done
            if [ -z "$base" ]; then
                echo "Python 3.11 or newer is needed and was not found; install it (Debian: apt install python3.11-venv)." >&2
                exit 2
            fi
            echo "Setting up .venv with $("$base" --version), once (some minutes, about 6 GB with torch's CUDA build)." >&2
            if ! "$base" -m venv --clear "$root/.venv"; then
                echo "$base cannot make a virtual environment; install its venv module (Debian: apt install python3-venv)." >&2
                exit 2
            fi
        else
            echo "Updating .venv: $reason." >&2
        fi
        if ! (cd "$root" && "$python" -m pip install --disable-pip-version-check --progress-bar off -r "$requirements" >&2); then
            echo "The packages could not be installed; see pip's message above and run this again." >&2
            exit 2
        fi
    fi
fi

#!/usr/bin/env bash
# Make .venv and install the project into it, editable: `bash launch/setup.sh EXTRA` with EXTRA one of demo, test.
# Does nothing when what is installed is already what pyproject.toml asks for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:?usage: bash launch/setup.sh demo|test}

fail() { echo "setup: $*" >&2; exit 1; }
as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

python=
for candidate in python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 on the PATH; on Debian or Ubuntu: apt-get install python3 python3-venv"
[ "$(uname -m)" = x86_64 ] || [ "$(uname -m)" = aarch64 ] || fail "NVIDIA DALI has no build for $(uname -m)"

# One set-up at a time: the demo and the tests may be started side by side.
exec 9>.venv.lock
flock -w 1800 9 || fail "another set-up has held .venv.lock for 30 minutes"

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    # Debian keeps ensurepip, without which a venv has no pip, in a package of its own.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        as_root || fail "$python cannot make virtual environments; ask for: apt-get install python3-venv"
        echo "setup: installing python3-venv"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    fi
    "$python" -m venv --clear .venv
fi

stamp=.venv/installed-$extra
wanted=$(.venv/bin/python -V; cat pyproject.toml launch/setup.sh; pwd)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
# The test tools bring the demo's too.
if [ "$extra" = demo ] && [ "$(cat .venv/installed-test 2>/dev/null)" = "$wanted" ]; then exit 0; fi

free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge 6000 ] || fail "$free_mib MiB free here; the environment needs 6000"
echo "setup: installing into .venv (about 3 GB, some minutes; the log is .venv/install.log)"
start=$SECONDS
{
    # Without a GPU the smallest build will do; this release has one. With a GPU the newest in our range is taken.
    if ! command -v nvidia-smi >/dev/null; then .venv/bin/python -m pip install "torch==2.13.0"; fi
    .venv/bin/python -m pip install -e ".[$extra]"
} >.venv/install.log 2>&1 || { tail -n 20 .venv/install.log >&2; fail "pip failed; the whole log is .venv/install.log"; }
echo "$wanted" >"$stamp"
echo "setup: installed in $((SECONDS - start)) s"

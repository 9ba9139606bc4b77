#!/usr/bin/env bash
# The one test command: makes .venv, then linter, type checker and the whole suite, real servers included.
# Arguments go to pytest: `bash tests/run.sh tests/stream -k order`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh test

# Servers that are not Python packages. Without root their tests are skipped, each with the sentence that says how to get them.
packages=()
add() { command -v "$1" >/dev/null || PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || packages+=("${@:2}"); }
add slurmctld slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins slurmdbd mariadb-server-core mariadb-client-core
add prometheus prometheus
add prometheus-alertmanager prometheus-alertmanager
add ip iproute2
if [ "${#packages[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "tests: installing ${packages[*]}"
    # The tests start servers of their own; the packages must not start theirs.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; }
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } >.venv/apt.log 2>&1 ||
        echo "tests: apt-get failed (.venv/apt.log); tests of these servers will be skipped"
fi

export PATH="$PWD/.venv/bin:$PATH:/usr/sbin" OMP_NUM_THREADS=1
ruff check .
mypy
python -m pytest -n 2 --dist loadfile "$@"  # one file, one process: servers are shared within a file

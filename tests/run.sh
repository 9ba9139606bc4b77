#!/usr/bin/env bash
# The one test command: makes .venv, then linter, type checker and the whole suite, real servers included.
# Arguments go to pytest: `bash tests/run.sh tests/stream -k order`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh test

# Servers that are not Python packages: each command is asked for by itself, since a machine may have some of a group only.
packages=()
need() { # COMMAND PACKAGE...
    PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || packages+=("${@:2}")
}
need slurmctld slurmctld slurm-wlm-basic-plugins
need slurmd slurmd slurm-wlm-basic-plugins
need sbatch slurm-client
need munged munge
need slurmdbd slurmdbd
need mariadbd mariadb-server-core
need mariadb-install-db mariadb-server-core
need mariadb mariadb-client-core
need prometheus prometheus
need promtool prometheus
need prometheus-alertmanager prometheus-alertmanager
need prometheus-pushgateway prometheus-pushgateway
need ip iproute2
need openssl openssl
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # Whatever is still missing afterwards fails its tests: only a user who cannot install has them skipped.
    export AUSL_SERVERS_INSTALLED=1
    if [ "${#packages[@]}" -gt 0 ]; then
        echo "tests: installing ${packages[*]}"
        # The tests start servers of their own; the packages must not start theirs.
        policy=/usr/sbin/policy-rc.d
        [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; }
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } >.venv/apt.log 2>&1 ||
            { tail -n 5 .venv/apt.log >&2; echo "tests: apt-get failed; the whole log is .venv/apt.log" >&2; exit 1; }
    fi
elif [ "${#packages[@]}" -gt 0 ]; then
    echo "tests: without root these stay away, and their tests are skipped: ${packages[*]}"
fi

export PATH="$PWD/.venv/bin:$PATH:/usr/sbin" OMP_NUM_THREADS=1
ruff check .
mypy
# one file, one process: servers are shared within a file; in the order of tests/conftest.py, longest first
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"

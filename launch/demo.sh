#!/usr/bin/env bash
# The main job on this machine: video -> shards on an object store -> two-rank pretraining -> a released backbone -> what it is worth.
#   bash launch/demo.sh                  a rendered world of talking faces, with a linear probe at the end
#   bash launch/demo.sh --videos DIR     your own face video
# Sets up .venv first. A second run skips what is there; `rm -r runs/demo` starts over.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for argument in "$@"; do
    # Answer a question for help without three gigabytes of installation.
    case $argument in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
done
bash launch/setup.sh demo
exec .venv/bin/python -m launch.demo "$@"

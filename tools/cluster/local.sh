#!/usr/bin/env bash
# Does the shards of a run by several processes of this machine. GNU parallel takes the same list: seq 0 N | parallel -j 8 kernelscope work RUN --shard {}
# usage: local.sh RUN PROCESSES [options of 'kernelscope work'], e.g. --threads 1
set -euo pipefail
run=$1 processes=$2
shift 2
shards=$(kernelscope plan "$run" --json | sed -n 's/.*"shards":\([0-9]*\).*/\1/p')
seq 0 "$((shards - 1))" | xargs -P "$processes" -I{} kernelscope work "$run" --shard {} "$@"

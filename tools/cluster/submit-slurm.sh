#!/usr/bin/env bash
# Submits a job array with a task for each shard of a run, 64 at a time (KERNELSCOPE_AT_ONCE).
# usage: submit-slurm.sh RUN [options of 'kernelscope work'], e.g. --model DIR
set -eu
run=$1
shift
shards=$(kernelscope plan "$run" --json | sed -n 's/.*"shards":\([0-9]*\).*/\1/p')
exec sbatch --array="0-$((shards - 1))%${KERNELSCOPE_AT_ONCE:-64}" "$(dirname "$0")/slurm.sh" "$run" "$@"

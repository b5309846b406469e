#!/usr/bin/env bash
# One task of a Slurm job array: the shard with the number of the task. Submitted by submit-slurm.sh.
#SBATCH --job-name=kernelscope
#SBATCH --gres=gpu:1
#SBATCH --requeue
set -eu
run=$1
shift
exec kernelscope work "$run" --index-env SLURM_ARRAY_TASK_ID "$@"

#!/bin/bash
# Train on several nodes under Slurm: one task a node, which takes all GPUs that the node gives it.
#   sbatch --nodes=2 docs/cluster/slurm.sh --config mmnist --logdir /shared/logs
# After a failure Slurm starts the job again, and the run goes on from its last checkpoint. The run folder has to lie on
# a disk that all nodes share.
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120

port=$((20000 + SLURM_JOB_ID % 20000))
workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/$/:$port/" | paste -sd,)
export workers

# A task that fails ends the others. A status above 128 is of a task that a signal ended, at the time limit for one: the
# job begins again. Bad input (2) does not get better by trying again.
srun --kill-on-bad-exit=1 bash -c 'exec htsr train "$@" --workers "$workers" --worker "$SLURM_PROCID"' htsr "$@"
status=$?
if [ "$status" -gt 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

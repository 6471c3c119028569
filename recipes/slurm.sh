#!/bin/bash
# Two hosts of four GPUs under SLURM, ZeRO-2; goes on from its newest checkpoint when it is submitted again:
#   sbatch recipes/slurm.sh [RECIPE]
# One task a host starts the processes of that host. TERM comes five minutes before the time is up: the run finishes its
# step and leaves a checkpoint. Not yet run on a cluster; a test runs it with stand-ins for SLURM's commands.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --signal=TERM@300
set -euo pipefail
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=280 # seconds; by default the launcher kills what has not ended after 30
RECIPE=${1:-recipes/avst_zero_vl_7b.yaml}
mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER=${HOSTS[0]}
RESUME=""
if compgen -G "runs/$(basename "$RECIPE" .yaml)/checkpoint-*" > /dev/null; then RESUME=--resume; fi
export RECIPE MASTER RESUME
# the single quotes matter: SLURM_NODEID differs from task to task
srun bash -c 'exec accelerate launch --config_file recipes/accelerate/multi_node.yaml --num_machines "$SLURM_NNODES" \
  --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" --machine_rank "$SLURM_NODEID" --main_process_ip "$MASTER" \
  --main_process_port 29500 -m avst train "$RECIPE" $RESUME'

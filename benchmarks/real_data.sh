#!/usr/bin/env bash
# Digits and cries, the results table of the README:  benchmarks/real_data.sh DIGITS_FOLDER DONATEACRY_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
digits=$1 cries=$2
export WANDB_MODE=disabled
cry() { .venv/bin/python -m cry_lightning "$@"; }
quiet=(--trainer.enable_progress_bar=false --trainer.enable_model_summary=false --overwrite=true)

pretrain() { # NAME ARGS...: keywords from the digits, then their test
  local args=(--config configs/pretrain.yaml --data configs/data/digits.yaml --data.corpus.init_args.root "$digits" --name "$@")
  cry fit "${args[@]}" "${quiet[@]}"
  cry test "${args[@]}" --trainer.enable_progress_bar=false
}

finetune() { # TARGET NAME ARGS...: cries, from the digits' encoder or from scratch, then their test
  local target=$1; shift
  local args=(--config configs/finetune.yaml --data configs/data/donateacry.yaml --data.corpus.init_args.root "$cries")
  args+=(--data.corpus.init_args.target "$target" --name "$@")
  cry fit "${args[@]}" "${quiet[@]}"
  cry test "${args[@]}" --trainer.enable_progress_bar=false
}

pretrain official --trainer.max_epochs=20 --model.init_args.scheduler.init_args.milestones='[12,17]'
cry evaluate runs/fsdd/official --allow-leaky

for target in reason age sex; do
  finetune $target $target-transfer --model.init_args.weights=runs/fsdd/official/best.ckpt
  finetune $target $target-scratch --model.init_args.weights=null
  cry evaluate runs/donateacry/$target-transfer runs/donateacry/$target-scratch --out runs/donateacry/$target
done

folds=()
for fold in 0 1 2 3 4 5; do
  pretrain speaker$fold --data.split.column=null --data.split.group=subject --data.split.scheme=leave_one_out \
    --data.split.fold=$fold
  folds+=(runs/fsdd/speaker$fold)
done
cry evaluate --pool "${folds[@]}"

#!/usr/bin/env bash
# Digits and cries, a row of the README's results:  benchmarks/real_data.sh DIGITS_FOLDER DONATEACRY_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
digits=$1 cries=$2
export WANDB_MODE=disabled
cry() { .venv/bin/python -m cry_lightning "$@"; }
quiet=(--trainer.enable_progress_bar=false --trainer.enable_model_summary=false --overwrite=true)

res8=(--model.init_args.encoder configs/encoder/res8.yaml --model.init_args.normalize=null)
mfcc=(--data.feature configs/feature/mfcc_8k.yaml)

on_digits=(--config configs/pretrain.yaml --data configs/data/digits.yaml --data.corpus.init_args.root "$digits" "${mfcc[@]}" "${res8[@]}")
official=(--name official --trainer.max_epochs=20 --model.init_args.scheduler.init_args.milestones='[12,17]')
cry fit "${on_digits[@]}" "${official[@]}" "${quiet[@]}"
cry test --config runs/fsdd/official/config.yaml
cry evaluate runs/fsdd/official --allow-leaky

finetune() { # TARGET NAME ARGS...: cries, from the digits' encoder or from scratch, then their test
  local target=$1 name=$1-$2; shift 2
  cry fit --config configs/finetune.yaml --data configs/data/donateacry.yaml --data.corpus.init_args.root "$cries" \
    --data.corpus.init_args.target "$target" "${mfcc[@]}" "${res8[@]}" --name $name "$@" "${quiet[@]}"
  cry test --config runs/donateacry/$name/config.yaml
}

for target in reason age sex; do
  finetune $target scratch --model.init_args.weights=null
  finetune $target transfer --model.init_args.weights=runs/fsdd/official/best.ckpt
  cry evaluate runs/donateacry/$target-{scratch,transfer} --out runs/donateacry/$target
done

cry cross-validate "${on_digits[@]}" --loso --data.split.column=null

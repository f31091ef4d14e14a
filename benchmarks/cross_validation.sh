#!/usr/bin/env bash
# What clips of one infant on both sides are worth: Donate-a-Cry by age, cross-validated by subject, then by clip; from
# scratch, and from an encoder pretrained on spoken digits.
#   benchmarks/cross_validation.sh DIGITS_FOLDER DONATEACRY_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
digits=$1 cries=$2
export WANDB_MODE=disabled
cry() { .venv/bin/python -m cry_lightning "$@"; }

[[ -e runs/fsdd/pretrain/fit/finished ]] || cry fit --config configs/pretrain.yaml --data configs/data/digits.yaml \
  --data.corpus.init_args.root "$digits" --overwrite=true

validate() { # NAME ARGS...: 5 folds, twice
  cry cross-validate --config configs/few_labels.yaml --folds 5 --repeats 2 --out "runs/donateacry/$1" \
    --data configs/data/donateacry.yaml --data.corpus.init_args.root "$cries" --data.corpus.init_args.target age "${@:2}"
}
validate age-scratch
validate age-transfer --model.init_args.weights=runs/fsdd/pretrain/best.ckpt
validate age-scratch-by-clip --group clip
cry evaluate runs/donateacry/age-{scratch,transfer,scratch-by-clip} --allow-leaky --out runs/donateacry/age-folds

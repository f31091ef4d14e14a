#!/usr/bin/env bash
# EfficientAT, trained on AudioSet, on Donate-a-Cry: cries against noise without any training; then linear probes of the
# frozen encoder for age and sex, cross-validated by install.
#   benchmarks/audioset.sh mn04_as_mAP_432.pt DONATEACRY_FOLDER NOISE_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
weights=$1 cries=$2 noise=$3 checkpoint=runs/audioset/mn04_as_mAP_432/best.ckpt
export WANDB_MODE=disabled

.venv/bin/python benchmarks/zero_shot.py "$weights" "$cries" "$noise" | tail -n 2
make pretrain METHOD=audioset WEIGHTS="$weights"
for target in age sex; do
  .venv/bin/python -m cry_lightning cross-validate --config configs/finetune_audioset.yaml --folds 5 \
    --out runs/donateacry/audioset-$target --data configs/data/donateacry_32k.yaml \
    --data.corpus.init_args.root "$cries" --data.corpus.init_args.target $target \
    --model.init_args.weights $checkpoint --model.init_args.frozen=true
done

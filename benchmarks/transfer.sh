#!/usr/bin/env bash
# Onu et al. 2019 by number of labels: Res8 on MFCCs, pretrained on made words with their labels (keywords) or without
# (contrastive), fine-tuned whole or as a linear probe, against scratch, on made cries of 60 infants.
#   benchmarks/transfer.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export WANDB_MODE=disabled
cry() { .venv/bin/python -m cry_lightning "$@"; }
fit() { cry fit --config "$@" --model.init_args.encoder configs/encoder/res8.yaml --trainer.enable_progress_bar=false --trainer.enable_model_summary=false --overwrite=true; }
words=runs/synthetic-words

[[ -e $words/keywords/fit/finished ]] ||
  fit configs/pretrain.yaml --name keywords --data.feature configs/feature/mfcc_8k.yaml --model.init_args.normalize=null
# Of MFCCs, no band can be masked or shifted: the views differ in time, level and masked frames.
[[ -e $words/contrastive/fit/finished ]] ||
  fit configs/simclr_waveform.yaml --name contrastive --data.probe=null --model.init_args.front_end configs/feature/mfcc_8k.yaml \
    --model.init_args.normalize=null --model.init_args.augment_waveform='[{class_path: cry_lightning.tasks.augment.RandomCrop, init_args: {length: 6400}}, {class_path: cry_lightning.tasks.augment.WaveformGain, init_args: {max_db: 6.0}}]' \
    --model.init_args.augment='[{class_path: cry_lightning.tasks.augment.SpecAugment, init_args: {time_masks: 1, time_width: 10, freq_masks: 0}}]'
cry label-efficiency --config configs/few_labels.yaml --out runs/transfer --per-class 5 25 --seeds 0 1 2 3 4 --trainer.max_steps=100 \
  --model.init_args.encoder configs/encoder/res8.yaml --model.init_args.normalize=null --data.feature configs/feature/mfcc_8k.yaml \
  --encoders scratch keywords=$words/keywords/best.ckpt keywords-probe=$words/keywords/best.ckpt \
  contrastive=$words/contrastive/best.ckpt contrastive-probe=$words/contrastive/best.ckpt \
  --arguments 'keywords-probe --model.init_args.frozen=true --model.init_args.head=cry_lightning.tasks.heads.ProbeHead' \
  --arguments 'contrastive-probe --model.init_args.frozen=true --model.init_args.head=cry_lightning.tasks.heads.ProbeHead'

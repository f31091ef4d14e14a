#!/usr/bin/env bash
# The three claims of Gorin et al. 2023 on made cries, where the truth is known: is SimCLR above supervised pretraining,
# does adaptation to unlabelled cries add to it, and do both need fewer labels?
#   benchmarks/claims.sh
# Adaptation hears other infants (another seed) than those that are trained and tested on, and no stage before the last
# is probed on made infants, some of whom are tested here.
set -euo pipefail
cd "$(dirname "$0")/.."
export WANDB_MODE=disabled
kinds='[normal, asphyxia, pain, hunger, discomfort]'
cry() { .venv/bin/python -m cry_lightning "$@"; }
fit() { cry fit --config "$@" --trainer.enable_progress_bar=false --trainer.enable_model_summary=false --overwrite=true; }

[[ -e runs/synthetic-words/pretrain/fit/finished ]] || fit configs/pretrain.yaml
[[ -e runs/synthetic-words/unprobed/fit/finished ]] || fit configs/simclr.yaml --name unprobed --data.probe=null
[[ -e runs/other-infants/adapt/fit/finished ]] ||
  fit configs/adapt.yaml --model.init_args.weights=runs/synthetic-words/unprobed/best.ckpt --data.probe=null --data.split='{val: 0.1, test: 0.0}' --data.corpus="{class_path: cry_lightning.corpora.Union, init_args: {name: other-infants, labels: false, corpora: [{class_path: cry_lightning.corpora.SyntheticCries, init_args: {seed: 1, n_infants: 120, kinds: $kinds}}]}}"

study() { # TARGET CLASSES
  cry label-efficiency --config configs/few_labels.yaml --data.corpus.init_args.n_infants=120 \
    --data.corpus.init_args.kinds="$kinds" --data.corpus.init_args.classes="$2" --out runs/claims/$1 \
    --per-class 5 10 25 100 --seeds 0 1 2 --encoders scratch supervised=runs/synthetic-words/pretrain/best.ckpt \
    simclr=runs/synthetic-words/unprobed/best.ckpt adapt=runs/other-infants/adapt/best.ckpt
}
study injury '{injury: [asphyxia], healthy: [normal]}'
study trigger '{pain: [pain], hunger: [hunger], discomfort: [discomfort]}'

#!/usr/bin/env bash
# SimCLR's views made of features or of waveforms: a linear probe on spoken digits, on a speaker that neither the encoder
# nor the probe has heard. Wants data/fsdd and data/noise.
#   benchmarks/domains.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export WANDB_MODE=disabled
digits='{class_path: cry_lightning.corpora.FSDD, init_args: {root: data/fsdd}}'
split="{scheme: leave_one_out, fold: 0, val: 0.2}"
for domain in logmel waveform; do
  config=simclr feature=$PWD/configs/feature/logmel_8k.yaml
  [[ $domain == logmel ]] || config=simclr_waveform feature=$PWD/configs/feature/waveform_8k.yaml
  probe="{class_path: cry_lightning.data.datamodule.CryDataModule, init_args: {corpus: $digits, feature: $feature, split: $split}}"
  .venv/bin/python -m cry_lightning fit --config configs/$config.yaml --name views-of-$domain --data.corpus "$digits" \
    --data.split "$split" --data.probe "$probe" --trainer.max_epochs=15 \
    --trainer.enable_progress_bar=false --trainer.enable_model_summary=false --overwrite=true
  echo "views of $domain, validation UAR of the probe over the last five epochs:"
  .venv/bin/python -c "import pandas, sys; u = pandas.read_csv(sys.argv[1])['val/probe_uar'].dropna().tail(5)
print(f'  mean {u.mean():.3f}, {u.min():.3f} to {u.max():.3f}')" runs/fsdd/views-of-$domain/fit/metrics.csv
done

#!/usr/bin/env bash
# How robust are the systems of Onu et al. 2019 and Zhao et al. 2020, on made cries and recorded noise? Half of the
# recordings of noise are for training, the other half for testing.
#   benchmarks/robustness.sh FOLDER_OF_NOISE       after `paper configs/studies/transfer.yaml`, whose keywords it takes
set -euo pipefail
noise=$(realpath "$1")
cd "$(dirname "$0")/.."
export WANDB_MODE=disabled
cry() { .venv/bin/python -m cry_lightning "$@"; }
mkdir -p runs/noise/train runs/noise/test
files=("$noise"/*)
for n in "${!files[@]}"; do
  [[ $((n % 2)) == 0 ]] && half=train || half=test
  ln -sf "${files[n]}" runs/noise/$half/
done
mixed='[{class_path: cry_lightning.tasks.augment.WaveformNoise, init_args: {folder: runs/noise/train, sample_rate: RATE, snr_db: [0.0, 20.0], probability: 0.8}}]'

run() { # CORPUS NAME CONFIG [ARGUMENTS...]: fit and test, unless that is done
  local folder=runs/$1/$2 corpus=$1 name=$2 config=$3
  shift 3
  [[ -e $folder/predictions.csv ]] && return
  cry fit --config "$config" --name "$name" "$@" --data.corpus.init_args.name="$corpus" --trainer.enable_progress_bar=false --overwrite=true
  cry test --config "$folder/config.yaml" --trainer.enable_progress_bar=false
}
compare() { # CORPUS NAMES...
  local corpus=$1
  shift
  cry robustness --ckpt $(printf "runs/$corpus/%s/best.ckpt " "$@") --noise runs/noise/test --out "runs/$corpus/robustness"
}

onu=configs/papers/onu2019 keywords=runs/studies-transfer/synthetic/upstream/synthetic-words/keywords/best.ckpt
cries=(--data $onu/data/synthetic.yaml)
run onu-cries svm $onu/svm.yaml "${cries[@]}"
run onu-cries scratch $onu/no_transfer.yaml "${cries[@]}"
run onu-cries transfer $onu/transfer.yaml "${cries[@]}" --model.init_args.weights=$keywords
run onu-cries transfer-noise $onu/transfer.yaml "${cries[@]}" --model.init_args.weights=$keywords --data.feature configs/feature/waveform_8k.yaml \
  --model.init_args.front_end configs/feature/mfcc_8k.yaml --model.init_args.augment_waveform="${mixed/RATE/8000}"
compare onu-cries svm scratch transfer transfer-noise

zhao=configs/papers/zhao2020
babies=(--data $zhao/data/synthetic.yaml --data.corpus.init_args.n_infants=40 --data.corpus.init_args.n_cries=8 --data.split.test=0.3 --trainer.max_epochs=4)
run zhao-cries vggish $zhao/finetune.yaml "${babies[@]}"
run zhao-cries vggish-noise $zhao/finetune.yaml "${babies[@]}" --data.feature='{class_path: cry_lightning.features.Waveform, init_args: {sample_rate: 16000}}' \
  --model.init_args.front_end $zhao/feature.yaml --model.init_args.augment_waveform="${mixed/RATE/16000}"
compare zhao-cries vggish vggish-noise

#!/usr/bin/env bash
# How many labels SimCLR saves on real recordings. Wants data/fsdd, data/noise, data/donateacry and data/donateacry_raw.
#   benchmarks/few_labels.sh                   # two hours and a half on two cores; goes on where it was stopped
# For each test speaker an encoder is pretrained that has heard neither that speaker nor the test installs of Donate-a-Cry.
set -euo pipefail
cd "$(dirname "$0")/.."
export WANDB_MODE=disabled OMP_NUM_THREADS=1
probe="probe --model.init_args.frozen=true --model.init_args.head=cry_lightning.tasks.heads.ProbeHead"
probe=(--arguments "$probe --model.init_args.optimizer.init_args.lr=0.03")
response='{class_path: cry_lightning.tasks.augment.FrequencyResponse, init_args: {max_db: 6}}' # of another microphone
speakers=(george jackson lucas nicolas theo yweweler)
cry() { .venv/bin/python -m cry_lightning "$@"; }

digits() { # NETWORK ARGUMENTS...: label efficiency on spoken digits of a speaker who was never heard, pooled over six
  cry label-efficiency --config configs/few_labels.yaml --trainer.max_steps=400 --data configs/data/digits.yaml --data.split.column=null \
    --data.split.scheme=leave_one_out --data.split.group=subject --data.split.val=0 --data.batch_size=32 \
    --model.init_args.encoder configs/encoder/$1.yaml --folds 0 1 2 3 4 5 --per-class 10 --seeds 0 1 "${@:2}"
}
cries() { # TARGET ENCODERS...: label efficiency on Donate-a-Cry
  local target=$1; shift
  cry label-efficiency --config configs/few_labels.yaml --data configs/data/donateacry.yaml \
    --data.corpus.init_args.target "$target" --fractions 0.25 0.5 1 --seeds 0 1 --encoders "$@" \
    --out runs/donateacry/few-labels-$target
}
pretrain() { # NETWORK EPOCHS FOLD: SimCLR without that speaker and without the installs that are tested
  local point=points/donateacry/scratch-label_fraction0.25-seed0/predictions.csv
  [[ ! -e runs/plentiful/$1-speaker$3/fit/finished ]] || return 0
  mkdir -p runs/plentiful
  echo "fsdd:${speakers[$3]}" >runs/plentiful/speaker$3.txt
  cry fit --config configs/simclr.yaml --data configs/data/plentiful.yaml --name $1-speaker$3 \
    --model.init_args.encoder configs/encoder/$1.yaml --model.init_args.augment+="$response" \
    --data.exclude_subjects="[runs/plentiful/speaker$3.txt, runs/donateacry/few-labels-reason/$point, runs/donateacry/few-labels-age/$point]" \
    --trainer.max_epochs=$2 --trainer.enable_model_summary=false --overwrite=true
}

both() { # COMMAND COMMAND: at once, one core each
  eval "$1" &
  eval "$2" &
  wait -n && wait -n
}

# Their scores tell which installs are tested; the points are used again below.
both "cries reason scratch" "cries age scratch"
cry prepare --config configs/simclr.yaml --data configs/data/plentiful.yaml
for network in "res8_narrow 100" "cnn6_small 30"; do
  both "for fold in 0 2 4; do pretrain $network \$fold; done" "for fold in 1 3 5; do pretrain $network \$fold; done"
done

# The last weights: the loss on other subjects would choose those that tell subjects apart.
of() { echo "runs/plentiful/$1-speaker{fold}/last.ckpt"; }
# Ten digits take scratch more steps than two kinds of cries do.
small() { digits cnn6_small --out runs/fsdd/few-labels "${probe[@]}" --encoders scratch {finetuned,probe}="$(of cnn6_small)"; }
narrow() { digits res8_narrow --out runs/fsdd/few-labels-res8 "${probe[@]}" --encoders scratch {finetuned,probe}="$(of res8_narrow)"; }
coloured() { # scratch, too, with the augmentation that SimCLR has
  digits cnn6_small --out runs/fsdd/few-labels-coloured --model.init_args.augment "[$response]" --encoders scratch finetuned="$(of cnn6_small)"
}
onto() { cries "$1" scratch {finetuned,probe}=runs/plentiful/cnn6_small-speaker0/last.ckpt "${probe[@]}"; }
both "narrow; onto reason; onto age" "small; coloured"

#!/usr/bin/env bash
# The grid of Gorin et al. 2023 as one table: {scratch, supervised, simclr, adapt} x {probe, finetune} x {injury, trigger}.
#   configs/papers/gorin2023/grid.sh SOUNDS CRIES [ARGUMENTS OF EVERY FIT...]
# SOUNDS is a folder of VGGSound clips with vggsound.csv in it, CRIES a manifest.csv with the columns path, subject, injury and trigger. With both empty
# it is rehearsed on made sound with a small encoder. What is finished is not run again, so a stopped grid goes on.
set -euo pipefail
here=configs/papers/gorin2023
sounds=$1 cries=$2
shift 2
cry() { "${PYTHON:-python}" -m cry_lightning "$@"; }

if [[ -z $sounds && -z $cries ]]; then
  echo "gorin2023: a rehearsal on made sound; SOUNDS= and CRIES= name real recordings"
  sounds_corpus=synthetic-words cries_corpus=synthetic-cries
  small=(--model.init_args.encoder configs/encoder/cnn6_small.yaml "$@")
  sounds_args=(--data configs/data/words.yaml --data.fit=repeat --data.drop_last=true)
  cries_args=(--data configs/data/cries.yaml --data.corpus.init_args.kinds='[normal,asphyxia,pain,hunger,discomfort]')
  unlabelled_args=(--data.unlabelled=true --data.balanced=false --data.fit=repeat --data.drop_last=true --data.batch_size=128)
  crop='[{class_path: cry_lightning.tasks.augment.RandomCrop, init_args: {length: 80}}, {class_path: cry_lightning.tasks.augment.SpecAugment}]'
  views=(--model.init_args.augment="$crop" --trainer.max_epochs=8 --model.init_args.warmup_epochs=1)
  labels=(--trainer.max_epochs=8 --model.init_args.warmup_epochs=0)
  injury=(--data.corpus.init_args.classes='{injury: [asphyxia], healthy: [normal]}')
  trigger=(--data.corpus.init_args.classes='{pain: [pain], hunger: [hunger], discomfort: [discomfort]}')
elif [[ -e $sounds && -e $cries ]]; then
  sounds_corpus=vggsound cries_corpus=cries
  small=("$@")
  sounds_args=(--data.corpus.init_args.root "$sounds" --data.corpus.init_args.clip_list "$sounds/vggsound.csv")
  cries_args=(--data.corpus.init_args.root "$cries")
  unlabelled_args=() views=() labels=()
  injury=(--data.corpus.init_args.label=injury)
  trigger=(--data.corpus.init_args.label=trigger)
else
  echo "gorin2023: SOUNDS='$sounds' and CRIES='$cries' must both be there, or both be left out" >&2
  exit 2
fi

# What every stage is made of besides its own YAML: the recordings, their tables, and how they are heard.
recordings=$("${PYTHON:-python}" -m cry_lightning.inputs "$sounds" "$cries")
yamls=$(cat "$here"/data/*.yaml configs/data/{words,cries}.yaml configs/encoder/{cnn14,cnn6_small}.yaml configs/feature/{fbank_16k,logmel_8k}.yaml)

stage() { # CORPUS NAME STAGE [ARGUMENTS...]: fit, unless this very command on these very inputs has been finished
  local folder=runs/$1/$2 name=$2 config=$here/$3.yaml weights
  shift 3
  weights=$(grep -oE '[^= ]+best\.ckpt|[^= ,"]+predictions\.csv' <<<"$*" || true)
  local made_of
  made_of="$* $(cat "$config" $weights <(echo "$yamls $recordings") | cksum)"
  [[ -e $folder/fit/finished && $(cat "$folder/made_of" 2>/dev/null) == "$made_of" ]] && return
  echo "== $folder"
  cry fit --config "$config" --name "$name" "$@" --overwrite=true
  echo "$made_of" >"$folder/made_of"
}

target() { # TARGET START WAY [WEIGHTS]: the last stage and its test
  local name=gorin2023-$1-$2-$3 table
  local of_target=("${injury[@]}")
  [[ $1 == injury ]] || of_target=("${trigger[@]}")
  table=runs/$cries_corpus/$name/predictions.csv
  stage "$cries_corpus" "$name" "$3" "${cries_args[@]}" "${of_target[@]}" "${labels[@]}" "${small[@]}" \
    --model.init_args.weights="${4:-null}"
  [[ -e $table && ! $table -ot runs/$cries_corpus/$name/made_of ]] || cry test --config "runs/$cries_corpus/$name/config.yaml"
  runs+=("runs/$cries_corpus/$name")
}

runs=()
for what in injury trigger; do
  for way in probe finetune; do target $what scratch $way; done
done
# Whom the last stages test is known now: adaptation must not hear them, not even without their labels.
tested=$(printf '"runs/%s/gorin2023-%s-scratch-probe/predictions.csv",' "$cries_corpus" injury "$cries_corpus" trigger)

stage $sounds_corpus gorin2023-supervised supervised "${sounds_args[@]}" "${views[@]}" "${small[@]}"
stage $sounds_corpus gorin2023-simclr simclr "${sounds_args[@]}" --data.unlabelled=true "${views[@]}" "${small[@]}"
simclr=runs/$sounds_corpus/gorin2023-simclr/best.ckpt
stage "$cries_corpus" gorin2023-adapt adapt "${cries_args[@]}" "${unlabelled_args[@]}" "${views[@]}" "${small[@]}" \
  --data.exclude_subjects="[${tested%,}]" --model.init_args.weights=$simclr

for what in injury trigger; do
  for way in probe finetune; do
    target $what supervised $way runs/$sounds_corpus/gorin2023-supervised/best.ckpt
    target $what simclr $way $simclr
    target $what adapt $way "runs/$cries_corpus/gorin2023-adapt/best.ckpt"
  done
done
cry evaluate "${runs[@]}" --out "runs/$cries_corpus/gorin2023"

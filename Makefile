# The main job: make pretrain finetune evaluate        On your own recordings: ... DATA=path/to/recordings
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PY := .venv/bin/python
CRY := $(PY) -m cry_lightning

## DATA=PATH      what to fine-tune on: a folder of class folders, a manifest.csv, a Donate-a-Cry folder, or a data YAML
DATA ?=
## METHOD=NAME    how to pretrain: simclr (default), supervised, or adapt (simclr, then adaptation to the cries)
METHOD ?= $(if $(filter adapt,$(MAKECMDGOALS)),adapt,simclr)
## ARGS="..."     further arguments of fit and test in the fine-tuning, e.g. ARGS="--trainer.max_epochs=30"
ARGS ?=
## SOUNDS=PATH, CRIES=PATH  for gorin2023: a VGGSound folder; a manifest.csv with columns injury and trigger
## ON=NAME        for onu2019, zhao2020, le2020: donateacry or synthetic, in place of the publication's own corpus
## EVALUATE_ARGS="..."  further arguments of evaluate, e.g. EVALUATE_ARGS="--positive asphyxia"

ifeq ($(DATA),)
CORPUS := synthetic-cries
DATA_YAML := configs/data/cries.yaml
DATA_ARGS :=
EVALUATE_ARGS ?= --positive asphyxia
else
$(if $(shell test -e "$(DATA)" && echo there),,$(error DATA=$(DATA): no such file or folder))
# Named by the file or folder (a manifest.csv by its folder); where another DATA has that name already, numbered.
WHERE := $(shell realpath -m "$(DATA)")
NAME := $(shell echo "$(WHERE)" | sed -E 's|/manifest\.csv$$||; s|.*/||; s/\.(csv|ya?ml)$$//; s/[^A-Za-z0-9._-]+/-/g')
OWNER := $(shell head -n 1 "runs/$(NAME)/recordings" 2>/dev/null)
CORPUS := $(NAME)$(if $(OWNER),$(if $(filter-out $(WHERE),$(OWNER)),-$(firstword $(shell echo "$(WHERE)" | cksum))))
DATA_YAML := $(if $(filter %.yaml %.yml,$(DATA)),$(DATA),configs/data/own.yaml)
DATA_ARGS := --data "$(DATA_YAML)" --data.corpus.init_args.name "$(CORPUS)"
DATA_ARGS += $(if $(filter %.yaml %.yml,$(DATA)),,--data.corpus.init_args.path "$(DATA)")
endif

SUPERVISED := runs/synthetic-words/pretrain
SIMCLR := runs/synthetic-words/simclr
ADAPT := runs/$(CORPUS)/adapt
# Whose cries the test has must hold in the adaptation too, or it would hear them.
DIVIDED := $(foreach word,$(filter --data.corpus.% --data.split.%,$(ARGS)),$(if $(findstring =,$(word)),$(word)))
FINETUNE := runs/$(CORPUS)/finetune
RECORDINGS := runs/$(CORPUS)/recordings

# The checkpoint that fine-tuning starts from.
WEIGHTS_supervised := $(SUPERVISED)/best.ckpt
WEIGHTS_simclr := $(SIMCLR)/best.ckpt
WEIGHTS_adapt := $(ADAPT)/best.ckpt
WEIGHTS := $(or $(WEIGHTS_$(METHOD)),$(error METHOD=$(METHOD): it is simclr, supervised or adapt))
# What a data YAML for fine-tuning lacks for adaptation: clips without labels are heard too, in batches with many others.
UNLABELLED := --data.unlabelled=true --data.balanced=false --data.drop_last=true --data.fit=repeat --data.batch_size=128

# The YAMLs that YAMLs name, relative to themselves; and a stage's config with all that it names, two levels deep.
named = $(foreach f,$(1),$(addprefix $(dir $(f)),$(shell sed 's/\#.*//' $(f) | grep -oE '[A-Za-z0-9_./-]+\.ya?ml')))
config = $(1) $(call named,$(1)) $(call named,$(call named,$(1)))

.PHONY: help install pretrain simclr adapt finetune evaluate onu2019 zhao2020 le2020 gorin2023 test test-all test-newest test-oldest lint clean FORCE

help:  ## list the targets and variables
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9 -]+):.*## */  make \1\t/' | expand -t 18
	@grep -hE '^## [A-Z]' $(MAKEFILE_LIST) | sed 's/^## /  /'

install: .venv/installed  ## make .venv and install what is needed, as tested; CONSTRAINTS= takes the newest

CONSTRAINTS ?= constraints.txt
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
.venv/installed: pyproject.toml $(or $(CONSTRAINTS),FORCE)
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) $(PIP_INSTALL) $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager)
	@touch $@

pretrain: $(if $(filter supervised,$(METHOD)),$(SUPERVISED),$(SIMCLR))/best.ckpt  ## pretrain the encoder on sound that is not cries, by METHOD

simclr: $(SIMCLR)/best.ckpt  ## pretrain it without labels

adapt: $(ADAPT)/best.ckpt  ## go on without labels on cries (yours with DATA=), then used by finetune

finetune: $(FINETUNE)/best.ckpt  ## fine-tune it on labelled cries (yours with DATA=)

evaluate: $(FINETUNE)/report.txt  ## test on unseen subjects: table, figures and report
	@cat $<

$(SUPERVISED)/best.ckpt: $(call config,configs/pretrain.yaml) | .venv/installed
	$(CRY) fit --config configs/pretrain.yaml --overwrite=true

$(SIMCLR)/best.ckpt: $(call config,configs/simclr.yaml) | .venv/installed
	$(CRY) fit --config configs/simclr.yaml --overwrite=true

$(ADAPT)/best.ckpt: $(SIMCLR)/best.ckpt $(RECORDINGS) $(ADAPT).args $(call config,configs/adapt.yaml $(DATA_YAML)) | .venv/installed
	$(CRY) fit --config configs/adapt.yaml $(if $(DATA),$(DATA_ARGS) $(UNLABELLED)) $(DIVIDED) --overwrite=true

$(FINETUNE)/best.ckpt: $(WEIGHTS) $(RECORDINGS) $(FINETUNE).args $(call config,configs/finetune.yaml $(DATA_YAML)) | .venv/installed
	$(CRY) fit --config configs/finetune.yaml --model.init_args.weights $(WEIGHTS) $(DATA_ARGS) $(ARGS) --overwrite=true

$(FINETUNE)/predictions.csv: $(FINETUNE)/best.ckpt
	$(CRY) test --config $(FINETUNE)/config.yaml

$(FINETUNE)/report.txt: $(FINETUNE)/predictions.csv
	$(CRY) evaluate $(FINETUNE) $(EVALUATE_ARGS) > $@

# Which recordings, and which arguments, a run was made from; rewritten only where they changed, so that only then it is
# made again.
$(RECORDINGS): FORCE
	@$(call record,echo "$(WHERE)"; configs/recordings.sh "$(DATA)")
$(ADAPT).args: FORCE
	@$(call record,echo "$(DIVIDED)")
$(FINETUNE).args: FORCE
	@$(call record,echo "$(WEIGHTS)"; echo "$(ARGS)")
record = mkdir -p $(dir $@); { $(1); } > $@.part; cmp -s $@.part $@ && rm $@.part || mv $@.part $@

onu2019 zhao2020 le2020: .venv/installed  ## a published system whole, its table beside ours (ON=, ARGS= as of fit)
	$(CRY) paper configs/papers/$@ $(if $(ON),--corpus $(ON)) $(ARGS)

gorin2023: .venv/installed  ## the grid of Gorin et al. 2023: SOUNDS= and CRIES= yours, else a rehearsal on made sound
	PYTHON=$(PY) configs/papers/gorin2023/grid.sh "$(SOUNDS)" "$(CRIES)" $(ARGS)

test: .venv/installed  ## lint, types and the default tests (under 3 minutes, no network, no GPU)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest --numprocesses 2 --dist worksteal

test-all: .venv/installed  ## every test, the long ones too
	$(PY) -m pytest -m '' --numprocesses 2 --dist worksteal

# Each in an environment of its own, in a temporary folder: the newest releases, and the oldest that pyproject.toml admits.
test-newest test-oldest:  ## the default tests with the newest, or with the oldest, libraries (some 6 GB for a while)
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; python="$$folder/venv/bin/python"; \
	$(PYTHON) -m venv "$$folder/venv"; : > "$$folder/releases.txt"; \
	if [ $@ = test-oldest ]; then "$$python" -m pip install --quiet --disable-pip-version-check uv; \
	"$$python" -m uv pip compile --quiet --resolution lowest-direct --extra dev pyproject.toml -o "$$folder/releases.txt"; fi; \
	"$$python" $(PIP_INSTALL) --constraint "$$folder/releases.txt"; "$$python" -m pip list; \
	"$$python" -m pytest --numprocesses 2 --dist worksteal

lint: .venv/installed  ## mend style where that can be done by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove runs, caches and .venv
	rm -rf runs cache/* .venv

# The main job: make pretrain finetune evaluate        On your own recordings: ... DATA=path/to/recordings
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PY := .venv/bin/python
CRY := $(PY) -m cry_lightning

## DATA=PATH      what to fine-tune on: a folder of class folders, a manifest.csv, a Donate-a-Cry folder, or a data YAML
DATA ?=
## ARGS="..."     further arguments of fit and test in the fine-tuning, e.g. ARGS="--trainer.max_epochs=30"
ARGS ?=
## EVALUATE_ARGS="..."  further arguments of evaluate, e.g. EVALUATE_ARGS="--positive asphyxia"

ifeq ($(DATA),)
CORPUS := synthetic-cries
DATA_YAML := configs/data/cries.yaml
DATA_ARGS :=
EVALUATE_ARGS ?= --positive asphyxia
else
# Named by the file or folder (a manifest.csv by its folder); where another DATA has that name already, numbered.
WHERE := $(shell realpath -m "$(DATA)")
NAME := $(shell echo "$(WHERE)" | sed -E 's|/manifest\.csv$$||; s|.*/||; s/\.(csv|ya?ml)$$//; s/[^A-Za-z0-9._-]+/-/g')
OWNER := $(shell head -n 1 "runs/$(NAME)/finetune.data" 2>/dev/null)
CORPUS := $(NAME)$(if $(OWNER),$(if $(filter-out $(WHERE),$(OWNER)),-$(firstword $(shell echo "$(WHERE)" | cksum))))
DATA_YAML := $(if $(filter %.yaml %.yml,$(DATA)),$(DATA),configs/data/own.yaml)
DATA_ARGS := --data "$(DATA_YAML)" --data.corpus.init_args.name "$(CORPUS)"
DATA_ARGS += $(if $(filter %.yaml %.yml,$(DATA)),,--data.corpus.init_args.path "$(DATA)")
endif

PRETRAIN := runs/synthetic-words/pretrain
FINETUNE := runs/$(CORPUS)/finetune

# The YAMLs that YAMLs name, relative to themselves; and a stage's config with all that it names, two levels deep.
named = $(foreach f,$(1),$(addprefix $(dir $(f)),$(shell sed 's/\#.*//' $(f) | grep -oE '[A-Za-z0-9_./-]+\.ya?ml')))
config = $(1) $(call named,$(1)) $(call named,$(call named,$(1)))

.PHONY: help install pretrain finetune evaluate test test-all lint clean FORCE

help:  ## list the targets and variables
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18
	@grep -hE '^## [A-Z]' $(MAKEFILE_LIST) | sed 's/^## /  /'

install: .venv/installed  ## make .venv and install what is needed

.venv/installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

pretrain: $(PRETRAIN)/best.ckpt  ## pretrain the encoder on keyword-like words

finetune: $(FINETUNE)/best.ckpt  ## fine-tune it on cries (yours with DATA=)

evaluate: $(FINETUNE)/report.txt  ## test on unseen subjects: table, figures and report
	@cat $<

$(PRETRAIN)/best.ckpt: $(call config,configs/pretrain.yaml) | .venv/installed
	$(CRY) fit --config configs/pretrain.yaml --overwrite=true

$(FINETUNE)/best.ckpt: $(PRETRAIN)/best.ckpt $(FINETUNE).data $(call config,configs/finetune.yaml $(DATA_YAML)) | .venv/installed
	$(CRY) fit --config configs/finetune.yaml $(DATA_ARGS) $(ARGS) --overwrite=true

$(FINETUNE)/predictions.csv: $(FINETUNE)/best.ckpt
	$(CRY) test --config $(FINETUNE)/config.yaml

$(FINETUNE)/report.txt: $(FINETUNE)/predictions.csv
	$(CRY) evaluate $(FINETUNE) $(EVALUATE_ARGS) > $@

# Which recordings and arguments a run was made from; rewritten only where they changed, so that only then it is refitted.
$(FINETUNE).data: FORCE
	@mkdir -p $(dir $@)
	@{ echo "$(WHERE)"; echo "$(ARGS)"; test -z "$(DATA)" || ls -lRL "$(DATA)" | cksum; } > $@.part
	@cmp -s $@.part $@ && rm $@.part || mv $@.part $@

test: .venv/installed  ## lint, types and the default tests (under 3 minutes, no network, no GPU)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest --numprocesses 2 --dist loadscope

test-all: .venv/installed  ## every test, the long ones too
	$(PY) -m pytest -m '' --numprocesses 2 --dist loadscope

lint: .venv/installed  ## mend style where that can be done by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove runs, caches and .venv
	rm -rf runs cache/* .venv

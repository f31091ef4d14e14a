# The main job: make pretrain finetune evaluate        On your own recordings: ... DATA=path/to/recordings
SHELL := /bin/bash
.DEFAULT_GOAL := help

export OMP_WAIT_POLICY ?= PASSIVE
PYTHON ?= python3
PY := .venv/bin/python
CRY := $(PY) -m cry_lightning

## DATA=PATH      what to fine-tune on: a folder of class folders, a manifest.csv, a Donate-a-Cry folder, or a data YAML
DATA ?=
## METHOD=NAME    how to pretrain: simclr (default), supervised, adapt (then adapted to the cries), audioset (published)
METHOD ?= $(if $(filter adapt,$(MAKECMDGOALS)),adapt,simclr)
## WEIGHTS=PATH   for audioset: your copy of mn04_as_mAP_432.pt, from the releases of github.com/fschmid56/EfficientAT
WEIGHTS ?= mn04_as_mAP_432.pt
## ARGS="..."     further arguments of fit and test in the fine-tuning, e.g. ARGS="--trainer.max_epochs=30"
ARGS ?=
## SOUNDS=PATH, CRIES=PATH  for gorin2023: a VGGSound folder; a manifest.csv with columns injury and trigger
## ON=NAME        for the publications: donateacry or synthetic, in place of the publication's own corpus
## EVALUATE_ARGS="..."  further arguments of evaluate, e.g. EVALUATE_ARGS="--positive asphyxia"

EVALUATE_ARGS ?= $(if $(DATA),,--positive asphyxia --clinical)
## OVERWRITE=1    a run that was made from something else is replaced, not kept beside the new one
OVERWRITE ?=
ifneq ($(filter-out 1 yes true 0 no false,$(OVERWRITE)),)
$(error OVERWRITE=$(OVERWRITE): it is 1, yes or true, or else 0, no or false)
endif

KNOWN = ARGS CONSTRAINTS CRIES DATA EVALUATE_ARGS METHOD OMP_WAIT_POLICY ON OVERWRITE PYTHON SOUNDS WEIGHTS
UNKNOWN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(filter-out $(KNOWN),$(name))))
ifneq ($(strip $(UNKNOWN)),)
$(error $(strip $(UNKNOWN)): no such variable; there are $(KNOWN), and those of the environment go before "make")
endif

# What the user gave, as one word of the shell, whatever is in it.
quoted = '$(subst ','\'',$(value $(1)))'
expanded = '$(subst ','\'',$($(1)))'
PIPELINE = $(PY) -m cry_lightning.make.command $(TOGETHER) --method=$(call expanded,METHOD) --data=$(call quoted,DATA) --arguments=$(call quoted,ARGS) \
	--weights=$(call quoted,WEIGHTS) --evaluate=$(call expanded,EVALUATE_ARGS) $(if $(filter 1 yes true,$(OVERWRITE)),--overwrite)
ROOT = --$(1).data.corpus.init_args.root=$(call quoted,$(2))
ROOTS = $(if $(SOUNDS),$(foreach stage,supervised simclr,$(call ROOT,$(stage),SOUNDS) --$(stage).data.corpus.init_args.clip_list=$(call quoted,SOUNDS)/vggsound.csv)) \
	$(if $(CRIES),$(foreach stage,adapt probe finetune,$(call ROOT,$(stage),CRIES)))

.NOTPARALLEL:
.PHONY: help install pretrain simclr adapt finetune evaluate onu2019 zhao2020 le2020 gorin2023 benchmark test test-fast test-all test-newest test-oldest lint docs clean clean-runs FORCE

help:  ## list the targets and variables
	@awk -F ':.*## *' '/^[a-z0-9 -]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@sed -n 's/^## \([A-Z]\)/  \1/p' $(MAKEFILE_LIST)

install: .venv/installed  ## make .venv and install what is needed, as tested; CONSTRAINTS= takes the newest

CONSTRAINTS ?= constraints.txt
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
.venv/installed: pyproject.toml $(or $(CONSTRAINTS),FORCE)
	@echo "installing into .venv: 2 to 9 minutes, as the network is, and up to 7 GB (torch with its CUDA libraries)"
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) $(PIP_INSTALL) $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager)
	@touch $@

# Goals side by side are brought about by one process, at the first of them, since its imports take long.
STAGES = pretrain simclr adapt finetune evaluate
ASKED = $(filter $(STAGES),$(MAKECMDGOALS))
TOGETHER = $(or $(if $(findstring $(ASKED),$(MAKECMDGOALS)),$(ASKED)),$@)

# Which runs there are, and which of them are out of date, is known to cry_lightning/make/command.py.
pretrain:  ## pretrain the encoder on sound that is not cries, by METHOD
simclr:  ## pretrain it without labels
adapt:  ## go on without labels on cries (yours with DATA=), then used by finetune
finetune:  ## fine-tune it on labelled cries (yours with DATA=)
evaluate:  ## test it on unseen subjects: table, figures and report; trains nothing
$(STAGES): .venv/installed
	$(if $(filter $@,$(firstword $(TOGETHER))),$(PIPELINE),@:)

onu2019 zhao2020 le2020: .venv/installed  ## a published system whole, its table beside ours (ON=, ARGS= as of fit)
	$(CRY) paper configs/papers/$@ $(if $(ON),--corpus $(call quoted,ON)) $(ARGS)

gorin2023: .venv/installed  ## the grid of Gorin et al. 2023: SOUNDS= and CRIES= yours, else a rehearsal on synthetic sound
	$(CRY) paper configs/papers/$@ --corpus $(or $(if $(ON),$(call quoted,ON)),$(if $(SOUNDS)$(CRIES),cries,synthetic)) $(ROOTS) $(ARGS)

test: .venv/installed  ## lint, types and the default tests (some 3 minutes on two cores, no network, no GPU)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest --numprocesses 2 --dist worksteal

# What computes the figures, without a training: for every commit.
FAST = layers spelling cells listing annotations splits datamodule features losses heads encoders probe diagnostics \
	events evaluation leakage
test-fast: .venv/installed  ## the tests that train nothing, under a minute
	$(PY) -m pytest --numprocesses 2 --dist worksteal $(FAST:%=tests/test_%.py)

test-all: .venv/installed  ## every test, the long ones too, and which lines of the package none of them runs
	$(PY) -m pytest -m '' --numprocesses 2 --dist worksteal --cov=cry_lightning --cov-report=term:skip-covered

# Each in an environment of its own, in a temporary folder: the newest releases, and the oldest that pyproject.toml admits.
test-newest test-oldest:  ## the default tests with the newest, or with the oldest, libraries (some 6 GB for a while)
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; python="$$folder/venv/bin/python"; \
	$(PYTHON) -m venv "$$folder/venv"; : > "$$folder/releases.txt"; \
	if [ $@ = test-oldest ]; then "$$python" -m pip install --quiet --disable-pip-version-check uv; \
	"$$python" -m uv pip compile --quiet --resolution lowest-direct --extra dev pyproject.toml -o "$$folder/releases.txt"; fi; \
	"$$python" $(PIP_INSTALL) --constraint "$$folder/releases.txt"; "$$python" -m pip list; \
	"$$python" -m pytest --numprocesses 2 --dist worksteal

benchmark: .venv/installed  ## speed beside that of others, as ratios, into benchmarks/table.md (under 15 minutes)
	$(PY) benchmarks/everything.py

lint: .venv/installed  ## mend style where that can be done by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: .venv/installed  ## build the manual into site/; open site/index.html
	$(PY) -m mkdocs build --quiet

clean:  ## remove caches and .venv, but no run
	rm -rf cache/* .venv

clean-runs:  ## remove all runs
	rm -rf runs

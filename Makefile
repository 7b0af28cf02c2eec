# kd: everything that a person or CI does here. Each target installs what it needs, once.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
ARGS ?=
# Where MNIST lies (the four IDX files, or torchvision's layout); downloaded there if it is absent.
MNIST ?= data
# How long `make reproduce` trains students: short (meant for 20 minutes an experiment, at most, on 2 cores) or full.
BUDGET ?= short
OUTPUT ?= outputs
BENCHMARKS = training.py,--mnist,$(MNIST) training.py,--threads,2,--mnist,$(MNIST) small_student.py dump.py stored_targets.py \
	augmentation.py population.py growth.py \
	specialists_solver.py sweep.py,--mnist,$(MNIST) verification.py,--mnist,$(MNIST)

.DEFAULT_GOAL := help
# A processor without AVX-512 and bf16, imitated on one that has them; the tests that a processor's numbers go into.
PORTABLE = ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 KD_HIDE_BF16=1
NUMERIC = $(addprefix tests/,measure models objectives steps targets train data/test_mixing.py test_device.py)

.PHONY: help setup distill sweep teachers reproduce bench test test-portable faults mutants check fix docs clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## create .venv and install kd into it

distill: $(VENV)/.installed ## teacher, soft targets, student and baseline on the embedded digits; ARGS="temperature=8 …"
	$(BIN)/kd distill $(ARGS)

sweep: $(VENV)/.installed ## four temperatures by three seeds, in one table; ARGS="…" adds overrides
	$(BIN)/kd sweep temperature=1,2,4,8 seed=0,1,2 $(ARGS)

teachers: $(VENV)/.installed ## the five strong teachers on MNIST that the experiments share, an hour; MNIST=<folder>
	$(BIN)/kd train-teacher --multirun experiment=teachers_mnist dataset.root=$(MNIST) output_dir=$(OUTPUT)

reproduce: $(VENV)/.installed-paper ## all experiments into docs/paper.md; MNIST=<folder> BUDGET=short|full ARGS="--only …"
	$(BIN)/python reproduce/paper.py --mnist $(MNIST) --output $(OUTPUT) --budget $(BUDGET) $(ARGS)

bench: $(VENV)/.installed ## what is claimed to be fast or small, measured; MNIST=<folder>; writes benchmarks/RESULTS.md
	@set -o pipefail; { printf '# Measured\n\n`make bench MNIST=<folder>`, %s\n' "$$(date +%F)"; for words in $(BENCHMARKS); do \
		words="$${words//,/ }"; printf '\n## `python benchmarks/%s`\n\n' "$${words//$(MNIST)/<folder>}"; \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$words || exit 1; done; } | tee benchmarks/RESULTS.md

test: $(VENV)/.installed-dev ## the whole test suite; ARGS="-m 'not slow'" leaves out the slow part
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

test-portable: $(VENV)/.installed-dev ## the suite as on a processor without AVX-512 and bf16; SHORT=1: what depends on it
	OMP_NUM_THREADS=1 $(PORTABLE) $(BIN)/python -m pytest -n auto $(if $(SHORT),-m 'not slow' $(NUMERIC)) $(ARGS)

faults: $(VENV)/.installed-dev ## kill it, again and again: tests/faults/*.py into tests/faults/RESULTS.md; takes minutes
	@set -o pipefail; { status=0; echo "# Faults"; for script in tests/faults/*.py; do \
		printf '\n`python %s`, %s\n\n' $$script $$(date -I); $(BIN)/python $$script || status=1; \
		done; exit $$status; } | tee tests/faults/RESULTS.md

mutants: $(VENV)/.installed-dev ## plausible mistakes, one at a time: tests/mutants/RESULTS.md says which test notices each; minutes
	@set -o pipefail; { printf '# Mutants\n\n`make mutants`, %s\n\n' "$$(date -I)"; \
		$(BIN)/python tests/mutants/run.py $(ARGS); } | tee tests/mutants/RESULTS.md

check: $(VENV)/.installed-dev ## ruff, format check, mypy and the direction of imports; never writes
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.installed-docs docs/figures/distill.svg ## the pages, into build/site; nothing is fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs/figures/distill.svg: | $(VENV)/.installed-docs # remove it to draw it anew
	$(BIN)/python docs/terminal.py

fix: $(VENV)/.installed-dev ## what check would complain of and ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "kd needs Python 3.11 to 3.13; set PYTHON=<interpreter>." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-paper: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[paper]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

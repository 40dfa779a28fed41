# Two commands do everything: `make demo` and `make test`. `make help` explains the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# a version with known ones: where PyPI tells of none, it tells of none at all
ADVISORIES := https://pypi.org/pypi/pip/9.0.1/json

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-all chaos gpu gpu-study check audit format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml resflow/__init__.py # the last one holds the version
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), sys.version' || \
	  { echo "resflow needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "python3-venv is missing: apt install python3-venv make"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed -e '' $(if $(GPU),-e 's/ ; extra == "gpu" and / ; /; s/ ; extra == "gpu"//',) requirements.lock > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(READY) ## make .venv and install resflow with all it needs, from the lock file; GPU=1: CUDA too

demo: $(READY) ## run the depth study on drawn flowers and write its report: minutes on two cores
	$(BIN)/resflow study depth --profile demo

quick: $(READY) ## run the tests that take no longer than a minute together on two cores
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --quick --durations 5 --durations-min 5

test: $(READY) ## run the tests: under ten minutes on two cores
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

test-all: $(READY) ## run the tests that take long as well
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "long or not long"

chaos: $(READY) ## disturb a small study fifty times, and keep what came of it in results/reliability
	$(BIN)/resflow bench chaos --interruptions 50 --out results/reliability

# On machines that are lent by the minute: no installation, where `python -m resflow` runs from here by itself.
gpu gpu-study: export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
RESFLOW = $(or $(if $(filter file,$(origin PYTHON)),$(wildcard $(BIN)/python)),$(PYTHON)) -m resflow
DEVICE ?= gpu
OUT ?= gpu-figures
TIME ?= 60

gpu: ## measure what only a GPU can answer, in five minutes; OUT=DIR, DEVICE=cpu tries it, PYTHON=… needs no .venv
	$(RESFLOW) bench gpu --device $(DEVICE) --out $(OUT) $(if $(MINUTES),--minutes $(MINUTES))

gpu-study: ## for TIME minutes, go on with depth, residual and finetune --profile gpu; DATA_DIR=, PHOTOS=, WEIGHTS=
	@end=$$(($$(date +%s) + 60 * $(TIME))); \
	study() { \
	  left=$$((end - $$(date +%s))); \
	  if [ $$left -le 0 ]; then echo "No time is left for $$1: the same command goes on with it."; return; fi; \
	  $(RESFLOW) study "$$@" --profile gpu --time-budget $$left; \
	}; \
	failed=0; \
	study depth $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") || failed=1; \
	study residual $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") || failed=1; \
	$(if $(PHOTOS),study finetune --data "folder:$(PHOTOS)" $(if $(WEIGHTS),--set "weights=$(WEIGHTS)") || failed=1, \
	  echo "finetune was left out: PHOTOS=DIR names photos in a folder a class."); \
	exit $$failed

check: $(READY) ## lint, format, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory audit

audit: $(READY) ## ask PyPI for known vulnerabilities in what the lock file pins, where it can be asked
	@if $(BIN)/python -c 'import requests; assert requests.get("$(ADVISORIES)", timeout=10).json()["vulnerabilities"]' 2>/dev/null; \
	then $(BIN)/pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off; \
	else echo "NOT AUDITED: PyPI's advisories cannot be asked for from here."; fi

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## write the lock file anew from pyproject.toml; KEEP=1 keeps the versions in it
	$(BIN)/uv pip compile --quiet $(if $(KEEP),,--upgrade) --universal --python-version 3.11 --extra gpu --extra onnx --group dev \
	  --generate-hashes --no-header pyproject.toml --output-file requirements.lock
	@# what a GPU alone needs is marked, so that pip passes over it: GPU=1 takes the marks off (see setup)
	sed -i -E 's/^(nvidia-[^ ]+) ; (.*) \\$$/\1 ; extra == "gpu" and (\2) \\/; s/^(nvidia-[^ ;]+) \\$$/\1 ; extra == "gpu" \\/' requirements.lock

clean: ## remove the environment and what tools left behind; never results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

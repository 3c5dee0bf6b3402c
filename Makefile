# make demo    atlases of the shipped instrument-note network and of a GANSynth, paths printed at the end
# make test    lint, types, tests, a small demo, the notebooks, the wheel: what .ci/run calls
# make lint    formatting, lint and types only
# make bench   the speed figures of docs/{speed,training_speed,generator_priors,attribution,dissection,gansynth,numbers}.md
# Each makes its own .venv and installs what it needs; a second call skips that.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# The demo's chapter on a generator: 64 of its channels, each at five pitches.
GANSYNTH := --layers block1/conv1 block2/conv1 block3/conv1 block4/conv1 --units 16 --steps 24 --learning-rate 0.3 \
  --clips 256 --snapshots 4 --out out/gansynth
# Two workers each start a jax of their own; on one core they only get in each other's way.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -ge 2 ] && echo 2 || echo 0)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint bench format clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,5p' Makefile

demo: $(VENV)/report.stamp
	$(BIN)/python experiments/visualize.py $(ARGS)
	$(BIN)/python experiments/visualize.py --network checkpoints/notes_gansynth $(GANSYNTH)

test: lint browser
	$(BIN)/python -m pytest --complete-run --numprocesses=$(WORKERS) --dist=loadfile --durations=15 $(ARGS)

lint: $(VENV)/test.stamp
	@failed=; for check in "ruff format --check ." "ruff check ." mypy; do \
	  echo "$$check"; $(BIN)/$$check || failed="$$failed [$$check]"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

bench: $(VENV)/bench.stamp
	$(BIN)/python experiments/benchmark_convolutions.py
	$(BIN)/python experiments/benchmark_visualize.py $(ARGS)
	$(BIN)/python experiments/benchmark_inverse.py
	$(BIN)/python experiments/benchmark_train.py
	$(BIN)/python experiments/benchmark_priors.py
	$(BIN)/python experiments/benchmark_attribution.py
	$(BIN)/python experiments/benchmark_dissect.py
	$(BIN)/python experiments/benchmark_gansynth.py

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "nd_jax needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(call install,python3-venv) && $(PYTHON) -m venv $(VENV); }

# One stamp an extra: the set that demo installs is a part of the set that test installs.
$(VENV)/%.stamp: setup.cfg constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

# Tests drive a real browser. Where it is missing it is installed from Debian's packages, else those tests are skipped.
.PHONY: browser
browser:
	@{ command -v chromium && command -v chromedriver; } >/dev/null 2>&1 || $(call install,chromium chromium-driver) \
	  || echo "no chromium and no right to install it: the browser tests will be skipped"

define install
{ command -v apt-get >/dev/null && echo "installing $(1)" && \
  if [ "$$(id -u)" = 0 ]; then run=; else run="sudo -n"; fi && \
  $$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }
endef

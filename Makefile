# Nothing here needs root. Everything lands in .venv of this checkout; `make clean` removes it again.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVE := $(VENV)/transformers-serve
# Tests wait for processes half of their time, so there are more workers than cores. A file's tests stay with one worker:
# what a file makes once would be made by each.
JOBS ?= 3
BY_FILE := --dist loadfile --no-loadscope-reorder

# The first of these that is Python 3.11 or 3.12; `make install PYTHON=/path/to/python` says which.
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)

.PHONY: help install demo test check lint format clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## the package with all its dependencies, as tested together, in .venv

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or 3.12 found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	|| { echo "make: $(PYTHON) is not Python 3.11 or 3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
	|| { echo "make: $(PYTHON) cannot make a virtual environment (on Debian: the package python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BIN)/prometheus: infra/install-prometheus | $(STAMP)  # for the test that scrapes a run
	infra/install-prometheus $@
	@touch -h $@

# What transformers' server needs beyond ours, for the test that asks it. Elsewhere than in site-packages, without what it
# depends on: that is here already, and a torchvision that is found beside a torch without CUDA breaks transformers' models.
$(SERVE)/.installed: constraints.txt | $(STAMP)
	rm -rf $(SERVE)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt \
		--target $(SERVE) accelerate jiter openai psutil torchvision
	@touch $@

demo: install  ## make a few videos, index them, ask about them
	$(BIN)/tempo demo

test: install $(BIN)/prometheus $(SERVE)/.installed  ## the whole test suite
	$(BIN)/pytest -m "" --numprocesses $(JOBS) $(BY_FILE) --durations 10 --durations-min 5

check: lint  ## the linters and the fast tests
	$(BIN)/pytest --numprocesses $(JOBS) $(BY_FILE)

lint: install  ## style, types and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## put the code into the house's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove what was installed and cached
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make run · make test · make check · make setup      (python3 and make are all a machine needs)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
INPUTS := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup run test check clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ ##/' | awk -F ' ## ' '{printf "make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## make .venv and install everything that run and test need

$(VENV)/.ready: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "brokerwatch needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "brokerwatch: installing into $(VENV) (about half a minute, once)" >&2
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module here (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.checkers: $(VENV)/.ready
	@$(PIP) --editable '.[check]'
	@touch $@

run: setup  ## a simulated cluster on this machine; options: make run ARGS="--duration 20 --json"
	@$(BIN)/python run_cluster.py --demo $(ARGS)

test: setup  ## all tests; options: make test ARGS="-k fallback"
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.checkers  ## types and style: ruff, mypy strict, basedpyright strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/basedpyright

clean:  ## remove .venv and what tools left behind
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

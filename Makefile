# make run · make test · make check · make setup      (python3 and make are all a machine needs)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of folders named like a package at every editable install; ours are meant to be.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
# pip compiles everything on one core, and most of ccxt is never imported here.
COMPILE := $(BIN)/python -m compileall -q -j 0 -x '/(pip|setuptools|pygments|ccxt/(pro|test|static_dependencies))/' $(VENV)/lib
INPUTS := setup.cfg pyproject.toml constraints.txt
# Most tests wait more than they compute, so there are more workers than a small machine has cores.
WORKERS ?= 6

.DEFAULT_GOAL := help
.PHONY: help setup run test storm soak node ray check check-mypy check-basedpyright check-deploy fuzz hostile simulate chaos partitions mutants exchanges bench dist clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ ##/' | awk -F ' ## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## make .venv and install what running needs

$(VENV)/.ready: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "brokerwatch needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "brokerwatch: installing into $(VENV) (once)" >&2
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module here (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@# An older pip reads each of ccxt's thousands of releases for ten seconds. Without isolation nothing is installed twice.
	@$(PIP) --upgrade pip setuptools
	@$(PIP) --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.tests: $(VENV)/.ready
	@$(PIP) --no-build-isolation --editable '.[test]'
	@$(COMPILE)
	@touch $@

# Else each worker rewrites the asserts of all tests by itself, a quarter of a minute of CPU each.
$(VENV)/.rewritten: $(VENV)/.tests
	@for half in 'tests/[a-g]*' 'tests/[h-z]*'; do \
	  PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -q $$half >/dev/null & done; wait
	@touch $@

# The types of tests are checked too, so their libraries have to be there.
$(VENV)/.checkers: $(VENV)/.tests
	@$(PIP) --no-build-isolation --editable '.[check]'
	@touch $@

run: setup  ## a simulated cluster on this machine; options: make run ARGS="--duration 20 --json"
	@$(BIN)/python run_cluster.py --demo $(ARGS)

# All of them in parallel; what is chosen by hand in one process, where a debugger works.
test: $(VENV)/.rewritten  ## all tests; some, without workers: make test ARGS="-k fallback"
	@# The programs that tests start compile themselves once, also where the environment forbids the files.
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(or $(ARGS),-n $(WORKERS) --dist loadgroup)

# npm writes this file at the end. Both modules work without scripts of their own, so none is run.
NODE_MODULES := examples/node/node_modules/.package-lock.json
node: $(NODE_MODULES)  ## install what the example for Node needs, with which its tests run

$(NODE_MODULES): examples/node/package.json examples/node/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing (Debian and Ubuntu: apt install nodejs npm)" >&2; exit 1; }
	@cd examples/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.ray: $(VENV)/.tests
	@$(PIP) --no-build-isolation --editable '.[ray]'
	@touch $@

ray: $(VENV)/.ray  ## install Ray, with which the tests of its nodes run (200 MB)

storm: $(VENV)/.tests  ## 200 reloads of the configuration while orders run; another number: make storm RELOADS=1000
	@BROKERWATCH_STORM=$(or $(RELOADS),200) $(BIN)/python -m pytest tests/cluster/test_reload_storm.py

check: $(VENV)/.checkers  ## types, style and layers: ruff, mypy, basedpyright, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs 2 check-mypy check-basedpyright
	@$(BIN)/lint-imports

check-mypy: $(VENV)/.checkers
	@$(BIN)/mypy

check-basedpyright: $(VENV)/.checkers
	@$(BIN)/basedpyright

$(VENV)/.deployers: $(VENV)/.tests
	@$(PIP) --no-build-isolation --editable '.[deploy]'
	@touch $@

# The programs that read these files for real are no part of an installation: systemd, Prometheus.
check-deploy: $(VENV)/.deployers  ## the files in deploy/ against the schemas of compose and Kubernetes, and by systemd
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
	@$(BIN)/kubernetes-validate --strict deploy/kubernetes/*.yaml
	@command -v systemd-analyze >/dev/null || { echo "systemd-analyze is missing (Debian and Ubuntu: apt install systemd)" >&2; exit 1; }
	@units=$$(mktemp -d) || exit 1; trap 'rm -rf "$$units"' EXIT; \
	for unit in deploy/systemd/*.service; do \
	  sed 's#/opt/brokerwatch/bin/#$(abspath $(BIN))/#' "$$unit" > "$$units/$$(basename "$$unit" | sed 's/@/@a/')" || exit 1; \
	done; \
	for unit in "$$units"/*.service; do \
	  systemd-analyze verify --man=no "$$unit" && \
	  systemd-analyze security --no-pager --offline=true --threshold=20 "$$unit" > "$$units/said" || { cat "$$units/said"; exit 1; }; \
	  tail -1 "$$units/said"; \
	done

$(VENV)/.builders: $(VENV)/.ready
	@$(PIP) --no-build-isolation --editable '.[dist]'
	@touch $@

# From a copy: a build leaves folders behind that a later one would take for sources.
dist: $(VENV)/.builders  ## a wheel and an sdist, in dist/
	@copy=$$(mktemp -d) || exit 1; trap 'rm -rf "$$copy"' EXIT; trap 'exit 130' INT TERM; \
	git ls-files -z | xargs -0 cp --parents --no-dereference --target-directory "$$copy" && \
	$(BIN)/python -m build --no-isolation --outdir dist "$$copy" >/dev/null && ls -l dist

$(VENV)/.fuzzers: $(VENV)/.tests
	@$(PIP) --no-build-isolation --editable '.[fuzz]'
	@touch $@

fuzz: $(VENV)/.fuzzers  ## search for bytes that break the codec (two minutes); ARGS="-max_total_time=3600"
	@$(BIN)/python -m tests.fuzz.codec $(ARGS)

hostile: $(VENV)/.tests  ## attack a cluster and a listener (a quarter of an hour); ARGS="--seconds 60 churn"
	@$(BIN)/python -m tests.hostile $(ARGS)

SEEDS ?= 100000
simulate: $(VENV)/.tests  ## simulated histories (SEEDS=100000); one with its trace: make simulate ARGS="--seed 4711"
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

# Its programs compile themselves once, also where the environment forbids the files.
CHAOS_S ?= 480
chaos: $(VENV)/.tests  ## kill and cut off real processes and check what was shown (ten minutes); CHAOS_S=60 SEED=4711
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m tests.chaos --seconds $(CHAOS_S) $(if $(SEED),--seed $(SEED)) $(ARGS)

PARTITIONS ?= 1000
partitions: $(VENV)/.tests  ## cut nodes of a pool off from their database (half an hour); PARTITIONS=50 SEED=4711
	@$(BIN)/python -W ignore -m tests.pool.partitions --partitions $(PARTITIONS) $(if $(SEED),--seed $(SEED)) $(ARGS)

$(VENV)/.mutators: $(VENV)/.tests
	@$(PIP) --no-build-isolation --editable '.[mutants]'
	@touch $@

# On a copy, so that no changed source can be left in the tree, also not after Ctrl-C.
mutants: $(VENV)/.mutators  ## change the pure floor on purpose and see the tests fail; ARGS='brokerwatch.exchanges.rate_limit*'
	@copy=$$(mktemp -d) || exit 1; \
	trap 'rm -rf "$$copy"' EXIT; trap 'exit 130' INT TERM; \
	cp -RL brokerwatch tests setup.cfg "$$copy" && cd "$$copy" && \
	$(abspath $(BIN))/mutmut run $(ARGS) && \
	echo "brokerwatch: what is listed here was not noticed by any test" && \
	$(abspath $(BIN))/mutmut results

$(VENV)/.benchers: $(VENV)/.ready
	@$(PIP) --no-build-isolation --editable '.[bench]'
	@touch $@

# The table in docs/exchanges.md.
exchanges: $(VENV)/.tests  ## write the table in docs/exchanges.md from the code
	@$(BIN)/python -m tests.support.exchange_table

$(VENV)/.soakers: $(VENV)/.ready
	@$(PIP) --no-build-isolation --editable '.[soak]'
	@touch $@

SOAK_S ?= 600
soak: $(VENV)/.soakers  ## a cluster under random trouble for ten minutes, and whether it holds; SOAK_S=60
	@$(BIN)/python -m benchmarks.soak --seconds $(SOAK_S) $(ARGS)

bench: $(VENV)/.benchers  ## what it costs, into docs/benchmarks.md (half an hour); one: make bench ARGS="reading"
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove .venv and what tools left behind
	rm -rf $(VENV) examples/node/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

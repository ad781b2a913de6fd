# `make demo` and `make test` need nothing but Python 3.11+ and make.
DEFAULT_PYTHON := python3
DEFAULT_SEEDS := 2000
DEFAULT_SECONDS := 60
DEFAULT_ARCH := arm64
STACK ?= arcanna-metrics

# Only STACK may also come from the environment, such as from build/local.env. A shell's EMAIL, BUCKET or YES may be meant
# for another program.
#
# Values on the command line are data. make would expand a value whenever it uses it or passes it on, and run a
# $(shell ...) in it. So each value is taken unexpanded, and commands read it from their environment, where no shell
# expands it either.
GIVEN := STACK URL EMAIL BUCKET KEY_FILE ARGS JOB MODEL KEY FILE REASON ID TIMEOUT YES FORCE SEEDS SECONDS ARCH COVERAGE STRICT PYTHON
ON_COMMAND_LINE := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,STACK $(ON_COMMAND_LINE),$(eval override $(name) := $$(value $(name))))
$(foreach name,$(filter-out STACK $(ON_COMMAND_LINE),$(GIVEN)),$(eval override $(name) := $$(DEFAULT_$(name))))
export $(GIVEN)
override MAKEOVERRIDES := # another make, started from here, would expand them
UNKNOWN := $(firstword $(filter-out $(GIVEN),$(ON_COMMAND_LINE)))
ifneq ($(and $(UNKNOWN),$(filter 0,$(MAKELEVEL))),)
$(error No target takes $(UNKNOWN) (see make help). Variables of other programs go before make: $(UNKNOWN)=... make ...)
endif

VENV := .venv
BIN := $(VENV)/bin
LAMBDA_ENV := build/lambda-env
SOURCES := functions layers/arcanna_metrics tests
BESIDE := --dist loadfile --no-loadscope-reorder -n
# exec replaces the shell, so that a signal to make's child reaches the command.
OPERATE := exec $(BIN)/python -m arcanna_metrics_cli
# Whoever types YES=n or YES=False must not confirm anything.
is_yes = $(if $(filter-out 1 yes,$($1)),,$($1))
CONFIRMED = $(if $(call is_yes,YES),--yes)
# The SAM CLI would look for the AWS profile even if it calls nothing in AWS.
SAM := env -u AWS_PROFILE -u AWS_DEFAULT_PROFILE SAM_CLI_TELEMETRY=0 $(BIN)/sam

export PYTHONPATH := layers/arcanna_metrics
# The project's files are UTF-8, whatever the locale.
export PYTHONUTF8 := 1
# Many containers set it. Then each process would compile every module that it imports again.
export PYTHONDONTWRITEBYTECODE :=
# A company's proxy signs with a CA that only the system knows.
export UV_SYSTEM_CERTS := 1
# This Makefile decides where pip installs and where Python finds modules, not the user's settings.
unexport PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME PYTHONSAFEPATH

.DEFAULT_GOAL := help
.PHONY: help demo local check test long lint unit e2e simulate explore load fuzz bench picture clean
.PHONY: deploy status report recompute accept redrive discard route settings forget doctor build lock audit

help:  ## Show this list
	@awk -F ':.*## *' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9]+:.*##/ { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Try it

# What the demo deploys is built while the demo starts. The demo itself reports a build that fails.
demo: install  ## See the main job work here: uploads, recomputes, fresh metrics
	@$(BIN)/python -m tests.support.building >/dev/null 2>&1 & exec $(BIN)/python -m tests.tools.demo

local: install  ## Run a stack here, with a live report and an Arcanna to break
	@$(BIN)/python -m tests.tools.local

##@ Work on it

check: $(VENV)/.installed  ## While working: style, types, and the fast tests
	@mkdir -p build
	@$(BIN)/mypy >build/mypy.txt 2>&1 & mypy=$$!; trap 'kill $$mypy 2>/dev/null; exit 130' INT; \
	$(BIN)/ruff check --quiet $(SOURCES) && $(BIN)/ruff format --quiet --check $(SOURCES) && \
	{ $(BIN)/lint-imports --no-logo --no-cache >build/imports.txt || { cat build/imports.txt; false; }; }; style=$$?; \
	$(BIN)/pytest tests/unit -q -n auto --maxprocesses 8 --dist worksteal --hypothesis-profile=quick; tests=$$?; \
	wait $$mypy; types=$$?; cat build/mypy.txt; \
	test $$style -eq 0 -a $$tests -eq 0 -a $$types -eq 0

# The end-to-end tests mostly wait, so the others run beside them. Coverage doubles the time of the others. It leaves
# out the simulation: a line that only the simulation runs has no test that says what it is for.
test: lint  ## Before a commit: lint, and all but the long tests; COVERAGE=1
	@rm -f .coverage .coverage.*
	@$(BIN)/pytest tests/e2e tests/simulation -m 'not long' $(BESIDE) 4 >build/e2e.txt 2>&1 & e2e=$$!; \
	trap 'kill $$e2e 2>/dev/null; exit 130' INT; \
	$(BIN)/pytest tests/integration tests/contract tests/unit $(BESIDE) 2 $(if $(filter-out 0 no,$(COVERAGE)),--cov); others=$$?; \
	wait $$e2e; e2e=$$?; echo "--- End to end, and simulation:"; cat build/e2e.txt; \
	test $$others -eq 0 -a $$e2e -eq 0

# Most test files have an installation of their own, and mostly wait.
long: install  ## Faults, load, permissions, runbook, deployments, networks
	$(BIN)/pytest tests/e2e tests/simulation -m long $(BESIDE) 2

lint: install build/node/.installed  ## Style, types, imports, template, workflow; STRICT=1: with npm
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(SAM) validate --lint
	@$(BIN)/python -m tests.tools.lint_workflow

unit: install  ## The unit and contract tests, one after the other
	$(BIN)/pytest tests/unit tests/contract

e2e: install  ## All end-to-end tests, the long ones too
	$(BIN)/pytest tests/e2e

simulate: install  ## Search random histories for a broken guarantee: SEEDS=100000
	exec $(BIN)/python -m tests.simulation --seeds="$$SEEDS"

explore: install  ## Explore every order of events on the real transitions; long
	exec $(BIN)/python -m tests.simulation.explore

load: install  ## 10,000 updates over 100 models, with faults and garbage
	$(BIN)/python -m tests.e2e.load

# bash changes SECONDS itself, so the value has another name in the environment.
fuzz: export FUZZ_SECONDS := $(SECONDS)
fuzz: install  ## Feed random input to everything that reads input: SECONDS=600
	exec $(BIN)/python -m tests.tools.fuzz --seconds="$$FUZZ_SECONDS"

bench: install build/bench/lambda-env/.installed  ## Measure speed, size and cost against their targets
	@$(BIN)/python -m tests.tools.benchmarks

picture: install  ## Draw the picture of the report in the README again
	@$(BIN)/python -m tests.tools.picture

# Removes the marks first, so that an interrupted clean does not look installed.
clean:  ## Remove everything that make has made
	@rm -f $(VENV)/.installed build/*/.installed build/bench/lambda-env/.installed
	rm -rf $(VENV) build .aws-sam .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

##@ Deploy and operate the stack STACK=...

# Text from a terminal is in the terminal's encoding.
deploy status report recompute accept redrive discard route settings forget doctor: export PYTHONUTF8 :=

deploy: $(VENV)/.installed  ## Deploy or update: URL= KEY_FILE= EMAIL= BUCKET= ARGS=
	@exec $(BIN)/python -m tests.tools.deploy --stack="$$STACK" --url="$$URL" --email="$$EMAIL" --bucket="$$BUCKET" \
	  --key-file="$$KEY_FILE" --args="$$ARGS"

# The command itself has more: `pip install .`, then arcanna-metrics --help.
status: $(VENV)/.installed  ## Show the state of the models, or of one: JOB= MODEL=
	@$(OPERATE) status --stack="$$STACK" --job="$$JOB" --model="$$MODEL"

report: $(VENV)/.installed  ## Serve a live page about all models, or write it: FILE=
	@$(OPERATE) report --stack="$$STACK" $(if $(FILE),--output="$$FILE",--watch)

recompute: $(VENV)/.installed  ## Recompute and follow it to its end: JOB= MODEL= TIMEOUT=30m
	@$(OPERATE) recompute --stack="$$STACK" --job="$$JOB" --model="$$MODEL" --wait --timeout="$$TIMEOUT"

accept: $(VENV)/.installed  ## Accept a model that got worse: JOB= MODEL= YES=1
	@$(OPERATE) accept --stack="$$STACK" --job="$$JOB" --model="$$MODEL" $(CONFIRMED)

redrive: $(VENV)/.installed  ## Show the dead letters and send them again: REASON= YES=1
	@$(OPERATE) redrive --stack="$$STACK" --reason="$$REASON" $(CONFIRMED)

discard: $(VENV)/.installed  ## Delete dead letters, one by one or by REASON= or ID=; YES=1
	@$(OPERATE) discard --stack="$$STACK" --reason="$$REASON" --id="$$ID" $(CONFIRMED)

route: $(VENV)/.installed  ## Show which models an object belongs to: KEY= FILE=settings
	@$(OPERATE) route --stack="$$STACK" --settings-file="$$FILE" -- "$$KEY"

settings: $(VENV)/.installed  ## Show the settings, or replace them by those in FILE=; YES=1
	@$(OPERATE) settings $(if $(FILE),put --stack="$$STACK" $(CONFIRMED) -- "$$FILE",show --stack="$$STACK")

forget: $(VENV)/.installed  ## Delete what the ledger knows: JOB= MODEL= FORCE=1 YES=1
	@$(OPERATE) forget --stack="$$STACK" --job="$$JOB" --model="$$MODEL" $(CONFIRMED) $(if $(call is_yes,FORCE),--force)

doctor: $(VENV)/.installed  ## Find what stops the stack from working, and what to do
	@$(OPERATE) doctor --stack="$$STACK"

##@ Release

build: install  ## Run `sam build` on the template, into .aws-sam: ARCH=x86_64
	$(SAM) build --parameter-overrides "Architecture=$$ARCH"

lock: install  ## Pin the newest versions of all requirements, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --no-emit-index-annotation \
	  pyproject.toml --output-file tests/command.txt
	@for name in layers/dependencies/requirements tests/support/local_cloud/requirements tests/requirements tests/audit; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-strip-extras --no-emit-index-url --no-emit-find-links --no-emit-index-annotation \
	    $$name.in --output-file $$name.txt || exit; \
	done

audit: install build/audit/.installed  ## Look up all pinned packages in PyPI's advisory database
	@$(BIN)/python -m tests.tools.audit

# --- What the targets need: installed once, and again only when the requirements change -------------------

INSTALL := @exec "$$PYTHON" tests/tools/install.py

.PHONY: install again
install: $(VENV)/.installed $(LAMBDA_ENV)/.installed build/command/.installed

# If the system's Python was replaced, the environment has no Python any more.
$(VENV)/.installed: tests/bootstrap.txt tests/requirements.txt $(if $(realpath $(BIN)/python),,again)
	$(INSTALL) tools

$(LAMBDA_ENV)/.installed: $(VENV)/.installed tests/support/local_cloud/requirements.txt
	$(INSTALL) lambda

build/command/.installed: $(VENV)/.installed tests/command.txt template.yaml pyproject.toml \
    $(wildcard layers/arcanna_metrics/*/*.py layers/arcanna_metrics/*/*/*.py)
	$(INSTALL) command

build/bench/lambda-env/.installed: $(VENV)/.installed tests/support/local_cloud/requirements.txt
	$(INSTALL) bench

build/audit/.installed: $(VENV)/.installed tests/audit.txt
	$(INSTALL) audit

build/node/.installed: tests/tools/install.py
	$(INSTALL) validator

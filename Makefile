# Every task of the project, for people and for CI alike. Needs Python 3.11 or newer, make, and the package registries.
# The environment is made from requirements.lock (pinned, with hashes) on first use and again when the lock changes.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help demo serve test check format lock bench scale fuzz faults soak clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## Install, run one asynchronous call end to end, show and check it
	@$(BIN)/holdfast demo

serve: $(VENV)/.ready ## Run everything on this machine until Ctrl-C (options: make serve ARGS="--port 9000")
	@$(BIN)/holdfast serve $(ARGS)

test: $(VENV)/.ready ## Run the tests (options: make test ARGS="-k callback")
	@$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

check: $(VENV)/.ready ## Lint, formatting, types, import contracts, lock file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.ready ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.peers ## Measure beside the same work on other tools; writes bench/results/
	@$(BIN)/python -m bench $(ARGS)

scale: $(VENV)/.ready ## A million waiting calls, 1,000 functions, 10,000 connections (options: make scale ARGS="--only slow")
	@$(BIN)/python -m bench.scale $(ARGS)

fuzz: $(VENV)/.fuzz ## Fuzz what reads hostile bytes, guided by coverage (options: make fuzz ARGS="--seconds 600 requests")
	@$(BIN)/python -m tests.fuzz $(ARGS)

faults: $(VENV)/.ready ## Break everything and count what is lost (options: make faults ARGS="--only random-kills")
	@$(BIN)/python -m tests.faults $(ARGS)

soak: $(VENV)/.ready ## Ten minutes at 80 % of capacity: what is lost, what grows (options: make soak ARGS="--minutes 60")
	@$(BIN)/python -m tests.faults.soak $(ARGS)

lock: $(VENV)/.uv ## Choose the newest versions again and write requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --group dev --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --group fuzz --output-file requirements-fuzz.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --constraint requirements.lock --group peers --output-file requirements-peers.lock

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit("Holdfast needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 …") if sys.version_info < (3, 11) else None'
	@echo "making the environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.ready: $(VENV)/.uv requirements.lock pyproject.toml
	@$(BIN)/uv pip sync --quiet --require-hashes --allow-empty-requirements --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

$(VENV)/.fuzz: $(VENV)/.ready requirements-fuzz.lock
	@$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements-fuzz.lock
	@touch $@

$(VENV)/.peers: $(VENV)/.ready requirements-peers.lock
	@$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements-peers.lock
	@touch $@

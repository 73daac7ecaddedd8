# Pileus: `make up` is all that it takes. `make help` lists the rest.
#
# A target that finds nothing changed does nothing: each step of the installation leaves a stamp in .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMPS := .venv/stamps
INSTALL := scripts/uv pip install --quiet --compile-bytecode
LOCK := scripts/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

##@ Use
.PHONY: up
up: $(STAMPS)/serve ## Install, get the default model, serve it on 127.0.0.1:8000 (ARGS="--port 9000" for more)
	@exec $(BIN)/pileus up $(ARGS)

##@ Develop
.PHONY: test
test: $(STAMPS)/dev ## Run the tests, but for the slow ones; faults, load and the console one after the other
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --ignore-glob "*/test_console*" \
		tests/unit tests/contract tests/acceptance tests/attacks $(ARGS)
	$(BIN)/python -m pytest -m "not slow" tests/faults tests/acceptance/test_console*.py $(ARGS)

.PHONY: test-all
test-all: $(STAMPS)/dev ## Run all tests
	$(BIN)/python -m pytest $(ARGS)

.PHONY: lint
lint: $(STAMPS)/dev ## Check style, types, and that no room imports one above it
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: bench
bench: $(STAMPS)/dev ## Measure against other engines: table, plot and JSON in benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: extras
extras: $(STAMPS)/extras ## Install what training, data, compression and evaluation need: PyTorch and more

.PHONY: docs
docs: $(STAMPS)/dev ## Write the pages of docs/ that are made from the code
	$(BIN)/python -m pileus.bootstrap.reference > docs/configuration.md

.PHONY: lock
lock: .venv/bin/uv ## Resolve the dependencies anew and pin each by its hashes
	$(LOCK) --upgrade --output-file requirements/uv.txt - <<< uv
	$(LOCK) --upgrade --group build --extra telemetry pyproject.toml --output-file requirements/serve.txt
	$(LOCK) --upgrade --group build --extra telemetry --group dev --constraints requirements/serve.txt pyproject.toml \
		--output-file requirements/dev.txt
	$(LOCK) --upgrade --extra train --extra data --extra eval --extra demo --constraints requirements/dev.txt pyproject.toml \
		--no-emit-package torch --output-file requirements/extras.txt

.PHONY: clean
clean: ## Remove what make made here; models, keys and settings stay where they are
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- what the targets stand on ----------------------------------------------------------------------------------------

.venv/bin/uv: requirements/uv.txt scripts/venv
	@echo "Making .venv"
	@scripts/venv
	@touch $@

# The project itself comes last and without isolation: its build backend is in the lock, like everything else.
$(STAMPS)/serve: requirements/serve.txt pyproject.toml .venv/bin/uv
	@echo "Installing what serving needs"
	@$(INSTALL) --require-hashes -r requirements/serve.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@mkdir -p $(@D) && touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/serve
	@echo "Installing what the checks need"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@mkdir -p $(@D) && touch $@

# PyTorch is pinned by its version alone: its build for this machine may be a wheel on disk, with hashes of its own.
$(STAMPS)/extras: requirements/extras.txt $(STAMPS)/dev
	@echo "Installing what training needs"
	@$(INSTALL) --constraints requirements/extras.txt -r pyproject.toml --extra train --extra data --extra eval --extra demo
	@mkdir -p $(@D) && touch $@

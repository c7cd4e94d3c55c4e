# `make demo`, `make test`, `make lint`: each creates .venv and installs what it needs, torch first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test slow lint clean
help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt tosa-tools
	touch $(STAMP)

demo: $(STAMP) ## train a baseline, search, export, run on the emulated engine, print the table
	$(BIN)/python examples/demo.py --output runs/demo

test: $(STAMP) ## all fast tests, under 10 minutes on 2 cores
	$(BIN)/pytest -n 2 -q -m "not slow"

slow: $(STAMP) ## the tests that take minutes
	$(BIN)/pytest -n 2 -q -m slow

lint: $(STAMP) ## ruff, pyright, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean: ## remove the environment and all caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

# Two commands for a new user: `make demo` and `make test`. `make ui` opens what the demo made.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export FLYWHEEL_HOME ?= $(CURDIR)/data

.PHONY: demo test ui install install-dev install-bench lint slow bench clean

demo: install
	$(BIN)/flywheel demo

ui: install
	$(BIN)/flywheel ui

# Two processes share the tests (flywheel_tests/conftest.py says how); to look at one test: .venv/bin/pytest FILE -k NAME.
test: install-dev lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate -w workspace.yaml

bench: install-bench
	$(BIN)/python -m bench

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev
install-bench: $(VENV)/.installed-bench

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m pip install --quiet --no-deps mosaicml-streaming==0.13.0
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

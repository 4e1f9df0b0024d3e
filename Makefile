VENV ?= .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint docs bench

setup: $(STAMP)
$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV) && $(VENV)/bin/python -m pip install --quiet --upgrade pip && $(VENV)/bin/python -m pip install --quiet --editable ".[dev]" && touch $@

demo: setup
	$(VENV)/bin/bayes-pfl demo --out demo

test: setup
	$(VENV)/bin/python -m pytest

lint: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

docs: setup
	$(VENV)/bin/mkdocs build --strict

bench: setup
	$(VENV)/bin/python tools/benchmark.py metrics

VENV ?= .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-app lint docs bench

setup: $(STAMP)
$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV) && $(VENV)/bin/python -m pip install --quiet --upgrade pip && $(VENV)/bin/python -m pip install --quiet --editable ".[dev]" && touch $@

demo: setup
	$(VENV)/bin/bayes-pfl demo --out demo

test: setup
	$(VENV)/bin/python -m pytest

# Gradio wants an older Pillow than the tests: a second environment, on top of the first.
test-app: setup
	test -d $(VENV)-app || { $(PYTHON) -m venv $(VENV)-app && $(VENV)/bin/python -c \
		"import sysconfig; print(sysconfig.get_paths()['purelib'])" \
		> "$$($(VENV)-app/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")/beneath.pth"; }
	$(VENV)-app/bin/python -m pip install --quiet "gradio>=6.0" && $(VENV)-app/bin/python -m pytest tests/test_app.py

lint: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

docs: setup
	$(VENV)/bin/mkdocs build --strict

bench: setup
	$(VENV)/bin/python tools/benchmark.py metrics

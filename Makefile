# Two commands for everybody: `make quickstart` and `make test`. Each sets up .venv on a fresh machine first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test lint test-peft flower check clean

quickstart: $(VENV)/.installed  ## watch four heterogeneous clients learn from one another
	$(BIN)/fedmosaic run miniature/quickstart

test: $(VENV)/.test  ## the default test suite
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.lint  ## style and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

test-peft: $(VENV)/.peft  ## PEFT's own test suite, run on Co-LoRA
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.peft_suite

flower: $(VENV)-flower/.installed  ## Flower, in an environment of its own, for the tests that compare with it

check: lint flower test test-peft  ## everything CI runs

clean:
	rm -rf $(VENV) $(VENV)-flower build dist .pytest_cache .mypy_cache .ruff_cache

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

$(VENV)/.peft: $(VENV)/.installed
	$(PIP) -e '.[peft-suite]'
	touch $@

# Its pins (protobuf, rich, typer) do not agree with ours.
$(VENV)-flower/.installed:
	$(PYTHON) -m venv $(VENV)-flower
	$(VENV)-flower/bin/python -m pip install --quiet --disable-pip-version-check flwr==1.42.0 safetensors
	touch $@

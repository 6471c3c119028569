# Everything sets itself up: a machine with Python 3.11+ and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# by files, since those share what is costly to make; a thread each, or they would take each other's cores
TWO_AT_ONCE = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup browser quickstart bench test test-fast lint audit format clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY)  ## make .venv and install avst with the tested versions

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	# beside the environment, for the tests that are about it: every program that finds DeepSpeed imports it, for seconds
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(VENV)/engines --no-deps \
		--constraint constraints.txt deepspeed einops hjson msgpack ninja py-cpuinfo
	touch $(READY)

browser:  ## install Debian's Chromium where there is none and this is root; without it the report's page is not tested
	@sh scripts/install_browser.sh

quickstart: $(READY)  ## scenes -> GRPO from the packaged policy -> table and plot, in minutes on two cores
	$(BIN)/avst quickstart

bench: $(READY)  ## benchmarks against TRL and the plain ways: a table and runs/bench.json, about an hour
	$(BIN)/python -m scripts.bench

test: $(READY) lint  ## linters, type checker and all tests
	$(TWO_AT_ONCE)

test-fast: $(READY)  ## tests without the slow ones
	$(TWO_AT_ONCE) -m 'not slow'

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(READY)  ## known vulnerabilities of the tested versions, by pip-audit; needs a network, and says so without one
	$(BIN)/python scripts/audit.py

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what runs have left
	rm -rf $(VENV) runs build dist *.egg-info

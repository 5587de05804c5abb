# `make` prints the targets. Everything works on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo test test-long lint bench lock clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## build .venv from the hash-pinned lock file

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("ntro needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 install") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## two clients' month-ends, from raw files to trial balances (ONCE=1: stop by itself)
	$(BIN)/ntro demo $(if $(ONCE),--once)

test: install ## the whole suite, the short form of slow suites
	$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

test-long: install ## the long forms: chaos, fuzzing, full data
	$(BIN)/python -m pytest -m long $(ARGS)

lint: install ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## side-by-side ratios, written to benchmarks/results.json
	$(BIN)/python -m benchmarks $(ARGS)

lock: install ## write requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --no-annotate --group dev --output-file requirements.lock pyproject.toml

clean: ## remove .venv and caches (never a home)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist

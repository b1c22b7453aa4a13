# Everything a newcomer needs; `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := data/raw/demo
NOTEBOOKS := data_check personas drop_off voice_of_customer journey_map monitor

.DEFAULT_GOAL := help
.PHONY: help setup check test test-all notebooks report demo lab lock wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv and install the pinned lock (once)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "journeylab needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

check: $(READY) ## formatting, lint, types, stripped notebooks, lock and environment in step
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb
	$(BIN)/pytest tests/test_packaging.py

test: $(READY) ## the test suite (simulations at reduced size)
	$(BIN)/pytest -n auto --dist loadfile

test-all: $(READY) ## the test suite with every simulation at full size
	JOURNEYLAB_FULL=1 $(BIN)/pytest -n auto --dist loadfile

demo: $(DEMO)/truth.toml ## write the demo data to data/raw/demo

$(DEMO)/truth.toml: $(READY) journeylab/sources/demo.py
	$(BIN)/journeylab demo --out $(DEMO)

report: $(DEMO)/truth.toml ## run the notebooks on the demo data: reports/demo/index.html
	$(BIN)/journeylab run $(NOTEBOOKS) -p data=$(DEMO)/events.csv --out reports/demo

notebooks: $(READY) ## run every notebook on the small demo data that ships with the package
	$(BIN)/journeylab run quickstart explore $(NOTEBOOKS) --out reports/notebooks

lab: $(READY) ## open JupyterLab
	$(BIN)/jupyter lab notebooks

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove what was made: .venv, caches, builds (never data or reports)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

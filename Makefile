# Everything installs itself: each command first makes .venv and what it needs in it, once.
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="-k names -x" goes to pytest.

VENV := .venv
BIN := $(VENV)/bin
# Three on two cores: a third of the time a test waits for a server.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal

# The tests start some hundred processes: without byte code each would compile the whole project.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check bench setup setup-dev help
.DEFAULT_GOAL := help

run: $(VENV)/.run .env ## set up, migrate the catalog and serve on http://127.0.0.1:5000 (HOST and PORT move it)
	@$(BIN)/unify db create-config-table
	@exec $(BIN)/unify serve

test: $(VENV)/.dev ## set up and run the whole suite (REQUIRE_ENGINES=sqlite,postgresql,mysql: none may be missing)
	@$(PYTEST) $(ARGS)

check: $(VENV)/.dev ## what CI runs: format, lint, types, layer rules, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/house/test_layers.py
	@$(PYTEST) $(ARGS)

bench: $(VENV)/.dev ## run the benchmarks beside their baselines, into bench/results/latest.json and its charts
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.charts

setup: $(VENV)/.dev .env ## only the set-up: environment, dependencies, .env

setup-dev: $(VENV)/.dev

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 14

# An environment that is there and works is kept; one whose interpreter has gone is made anew.
$(VENV)/.run: pyproject.toml constraints.txt
	@set -e; \
	suits() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if ! suits $(BIN)/python; then \
	  found=; \
	  for name in $${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python}; do \
	    if suits "$$name"; then found=$$name; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Unify needs Python 3.11 or newer and found none ($${PYTHON:-python3, python3.11 ...}); name one with PYTHON=/path/to/python3." >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$found ..."; \
	  rm -rf $(VENV); \
	  "$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$$found cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "Installing Unify into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing the development tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

# No prerequisite that could be newer: a .env that is there is never touched.
.env: | $(VENV)/.run
	@$(BIN)/python -m utils.make_env

# make demo | make test | make lint: each sets up its own virtual environment on first use.
PY ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format clean

demo: $(VENV)/.ready
	$(BIN)/vosdata demo --out runs/demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest

test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

# The stamp depends on what it installs, so a changed dependency reinstalls and a second make is instant.
$(VENV)/.ready: pyproject.toml $(CONSTRAINTS)
	@$(PY) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 12); \
	sys.exit(None if ok else "vosdata needs Python 3.11 or 3.12, but $(PY) is %d.%d; try: make PY=python3.12" % sys.version_info[:2])'
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,video]'
	@touch $@

# make lab   opens the course in JupyterLab        make test   runs every test
# Both make .venv on first use. The rest is for those who write the course: see docs/developing.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB_ARGS ?=
# nbval runs each notebook afresh; a cell that takes longer than this is a mistake.
CELL_TIMEOUT := 180
# Tests run in this many processes of one thread each.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help lab test lint unit notebooks-test notebooks bench docs clean

help:
	@head -2 Makefile | sed 's/^# //'

lab: $(VENV)/.lab
	$(BIN)/jupyter lab --notebook-dir=. $(LAB_ARGS) notebooks/00_start_here.ipynb

test: lint docs unit notebooks-test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/update_docs.py --check

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not browser" tests
	$(BIN)/python -m pytest -m browser tests  # alone: a browser, its server and its kernel want both cores

notebooks-test: $(VENV)/.dev
	$(BIN)/python tools/build_notebooks.py --check
	KDCOURSE_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -x --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=$(CELL_TIMEOUT) -p no:python notebooks/*.ipynb

notebooks: $(VENV)/.dev
	$(BIN)/python tools/build_notebooks.py --execute

# A page for each family: pdoc by itself leaves out the modules whose names a package hands on.
FAMILIES := $(sort $(subst /,.,$(patsubst %.py,%,$(wildcard kdcourse/[a-z]*.py kdcourse/losses/[a-z]*.py))))
docs: $(VENV)/.dev
	rm -rf site
	$(BIN)/python -W error::UserWarning -m pdoc --docformat numpy --math --output-directory site \
	  kdcourse kdcourse.losses kdcourse.recipes $(FAMILIES)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.lab: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[lab]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[dev,peers]'
	touch $@ $(VENV)/.lab

clean:
	rm -rf $(VENV) .venv-* artifacts site build *.egg-info

# make lab   opens the course in JupyterLab        make test   runs every test
# Both make .venv on first use. The rest is for those who write the course: see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB_ARGS ?=
# nbval runs each notebook afresh; a cell that takes longer than this is a mistake.
CELL_TIMEOUT := 180
# Tests run in this many processes of one thread each; make unit ORDER=123 repeats an order, ORDER= takes that of the files.
JOBS ?= 2
ORDER ?= random

.DEFAULT_GOAL := help
.PHONY: always help lab test check lint doctests quick unit tests browser notebooks-test notebooks bench evidence evidence-quick site clean

help:
	@head -2 Makefile | sed 's/^# //'

lab: $(VENV)/.lab
	$(BIN)/jupyter lab --notebook-dir=. $(LAB_ARGS) notebooks/00_start_here.ipynb

# Each of these runs its stages to the end, whatever fails, and tells the seconds of each.
STAGES := MAKE="$(MAKE)" $(BIN)/python tools/run_stages.py

test: $(VENV)/.dev
	$(STAGES) lint site doctests tests browser notebooks-test

check: $(VENV)/.dev
	$(STAGES) lint doctests quick

unit: $(VENV)/.dev
	$(STAGES) doctests tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/update_docs.py --check

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

doctests: $(VENV)/.dev
	$(PYTEST) -q -n $(JOBS) --doctest-modules kdcourse

IN_PARALLEL := $(PYTEST) -n $(JOBS) --dist worksteal $(if $(ORDER),--order-seed=$(ORDER))

tests: $(VENV)/.dev
	$(IN_PARALLEL) --durations=20 -m "not browser" tests

quick: $(VENV)/.dev
	$(IN_PARALLEL) -m "not slow and not browser and not colab and not peers" tests

browser: $(VENV)/.dev
	$(PYTEST) --durations=5 -m browser tests/browser tests/site  # one at a time: a browser, its server and its kernel want both cores

# The last chapters are the longest: begun first, they leave neither process without work at the end.
notebooks-test: $(VENV)/.dev
	$(BIN)/python tools/build_notebooks.py --check
	KDCOURSE_THREADS=1 $(PYTEST) -n $(JOBS) --dist loadfile -p tools.cells_in_a_row --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=$(CELL_TIMEOUT) -p no:python $(shell ls -r notebooks/*.ipynb)

notebooks: $(VENV)/.dev
	$(BIN)/python tools/build_notebooks.py --execute
	$(BIN)/python tools/build_exercises.py --execute

# The course as pages, in build/site: open build/site/index.html, or put the folder on a web server.
site: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/build_site.py

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# Every claim of docs/ledger.md but the longest (docs/studies.md says how long); after a stop it goes on where it was.
evidence: $(VENV)/.dev
	$(BIN)/python -m experiments
	$(BIN)/python tools/update_docs.py

evidence-quick: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments --quick

# Always asked: what is in order is left alone, what an earlier try left half made is made anew.
$(VENV)/.lab $(VENV)/.dev: always
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here: install Python 3.11 or newer (python.org)."; exit 1; }
	@$(PYTHON) tools/environment.py $(patsubst .%,%,$(@F))

always:

clean:
	rm -rf $(VENV) .venv-* artifacts build *.egg-info

# The book, in a few words: `make run` trains, measures and renders; `make test` checks.
# All paths are relative and every tool is called through .venv/bin/python -m, so a checkout may lie in a folder with spaces.
.DEFAULT_GOAL := help
.PHONY: help run test bench lab records notebooks setup clean FORCE
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed

# Waiting threads spin for a moment and then sleep: two busy processes on two cores then stay out of each other's way.
OMP_WAIT_POLICY ?= PASSIVE
GOMP_SPINCOUNT ?= 1000
# glibc keeps the memory of a training step for the next one instead of handing it back; ignored elsewhere.
MALLOC_MMAP_THRESHOLD_ ?= 4000000000
MALLOC_TRIM_THRESHOLD_ ?= 4000000000
# A kernel of this environment before one of the user's.
JUPYTER_PREFER_ENV_PATH ?= 1
export OMP_WAIT_POLICY GOMP_SPINCOUNT MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ JUPYTER_PREFER_ENV_PATH

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

run: $(STAMP) ## set up, train and measure at preset digits, render the book into _book/html
	@"$(PY)" scripts/run.py

test: $(STAMP) ## set up, then every check, notebook and test; ends with "N passed, N failed"
	@MPLBACKEND=agg "$(PY)" scripts/gate.py

bench: $(STAMP) ## measure the speed of everything on this machine, a few minutes; ends with each target and its verdict
	@"$(PY)" -m jem_nb.cli bench

lab: $(STAMP) ## JupyterLab on the notebooks
	@"$(PY)" -m jupyterlab nbs

records: $(STAMP) ## train and measure every seed of the committed records (hours; append-only)
	@"$(PY)" -m jem_nb.cli records

notebooks: $(STAMP) ## execute all notebooks in place, clean, export; render the README
	@"$(PY)" scripts/book.py --in-place
	@"$(PY)" scripts/readme.py

setup: $(STAMP) ## only make .venv

clean: ## remove the rendered book and the caches; .venv and data/ stay
	rm -rf _book build jem_nb.egg-info .pytest_cache .ruff_cache
	find jem_nb nbs scripts tests -name __pycache__ -prune -exec rm -rf {} +

# The stamp holds the folder it was made in: a checkout that has moved, or lost its Python, is installed again.
ifneq ($(shell test -x $(PY) && cat $(STAMP) 2>/dev/null),$(shell pwd -P))
$(STAMP): FORCE
endif
$(STAMP): settings.ini setup.py pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "jem_nb needs Python 3.10 or newer; $(PYTHON) is older or not there. Try: make PYTHON=python3.12"; exit 1; }
	@rm -f $(STAMP)
	@"$(PY)" -c 'import sys, pip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv || { rm -rf .venv; \
	  echo "This Python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv; else choose another with make PYTHON=..."; exit 1; }
	@echo "Installing into .venv (one to a few minutes, 1.5 GB or more)"
	@"$(PY)" -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@"$(PY)" -m pip check
	@pwd -P > $(STAMP)

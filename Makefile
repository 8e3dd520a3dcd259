# The book, in a few words: `make run` trains, measures and renders; `make test` checks.
# All paths are relative and every tool is called through .venv/bin/python -m,
# so a checkout may lie in a folder with spaces. Nothing here needs more than GNU make 3.81.
.DEFAULT_GOAL := help
.PHONY: help run book test clients portable bench lab records notebooks setup clean FORCE
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed

# Waiting threads spin for a moment and then sleep: two busy processes on two cores
# then stay out of each other's way.
OMP_WAIT_POLICY ?= PASSIVE
GOMP_SPINCOUNT ?= 1000
# glibc keeps the memory of a training step for the next one; ignored elsewhere.
MALLOC_MMAP_THRESHOLD_ ?= 4000000000
MALLOC_TRIM_THRESHOLD_ ?= 4000000000
# A kernel of this environment before one of the user's.
JUPYTER_PREFER_ENV_PATH ?= 1
export OMP_WAIT_POLICY GOMP_SPINCOUNT MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ JUPYTER_PREFER_ENV_PATH

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

run: $(STAMP) ## set up, train and measure at preset digits, render the book into _book/html
	@"$(PY)" scripts/run.py

book: $(STAMP) ## the same, with every notebook executed anew
	@"$(PY)" scripts/run.py --anew

test: $(STAMP) ## set up, then every check, notebook and test; ends with "N passed, N failed"
	@MPLBACKEND=agg "$(PY)" scripts/gate.py

clients: $(STAMP) ## other people's tools on a model of ours, in .venv too: two pages in a browser, torchebm, torch-fidelity, AutoAttack, mlflow, wandb, a hub
	@"$(PY)" -m pip install --quiet -e '.[clients]'
	@"$(PY)" -m pytest -q -rs tests/clients

portable: $(STAMP) ## make test as on other machines: other CPUs, one thread, busy cores, other seeds; an hour or more
	@MPLBACKEND=agg "$(PY)" scripts/portable.py

bench: $(STAMP) ## measure the speed of everything on this machine, a few minutes; ends with each target and its verdict
	@"$(PY)" -m jem_nb.cli bench

lab: $(STAMP) ## JupyterLab on the notebooks
	@"$(PY)" -m jupyterlab nbs

records: $(STAMP) ## train and measure every seed of the committed records (hours; append-only)
	@"$(PY)" -m jem_nb.cli records

notebooks: $(STAMP) ## execute in place the notebooks that changed, clean, export; render the README
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
$(STAMP): settings.ini setup.py pyproject.toml constraints.txt scripts/install.py
	@"$(PYTHON)" -c '' || { echo "There is no $(PYTHON) here. Try: make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" scripts/install.py

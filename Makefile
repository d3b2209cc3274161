# Fine structure under neural collapse. `make help` lists what there is to make.
#
# Needs make and Python 3.11 or newer; everything else goes into .venv, once. After that no target
# touches the network. Programs are started as `python -m`: scripts of a .venv whose path contains a
# space do not start.

export GOMP_SPINCOUNT := 0
export OMP_WAIT_POLICY := passive
# Idle OpenMP threads that spin cost a shared machine nearly half of its training speed.

PYTHON ?=
python := .venv/bin/python

.PHONY: help book browser pdf test portable faults notebooks teaching bench lint clean lock
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1 - /p' Makefile

book: .venv/.installed ## build the book, executing the notebooks that changed; warnings are errors
	@$(python) book/build.py

browser: .venv/.installed ## check the built pages in Chromium: errors, links, accessibility, sizes
	@$(python) book/browser

pdf: .venv/.installed ## print the built book into one PDF, with Chromium
	@$(python) book/pdf.py

test: .venv/.installed ## run the whole test suite, a process for each processor
	@$(python) -m pytest -n auto --maxprocesses 8 --dist worksteal

portable: .venv/.installed ## run numeric tests and chapters as other processors compute: about an hour
	@$(python) tests/portable.py

faults: .venv/.installed ## kill processes, fill disks, flip bytes, pass hostile values: what is lost? Half an hour
	@$(python) tests/faults.py --write benchmarks/results/faults.json

notebooks: .venv/.installed ## write each notebook's .ipynb from its .md
	@$(python) notebooks/pair.py

teaching: .venv/.installed ## write student and solution notebooks and slides into _build/teaching
	@$(python) book/teaching.py

bench: .venv/.installed ## measure speed on this machine: measures, distances, many seeds, training
	@$(python) -m benchmarks.measures
	@$(python) -m benchmarks.distances
	@$(python) -m benchmarks.sharded
	@$(python) -m benchmarks.many_seeds
	@$(python) -m benchmarks.phase_diagram
	@$(python) -m benchmarks.training
	@$(python) -m benchmarks.wide
	@$(python) -m benchmarks.same_learning
	@$(python) -m benchmarks.same_convolutions
	@$(python) -m benchmarks.subpopulations
	@$(python) -m benchmarks.hidden_classes
	@$(python) -m benchmarks.act_on_it

lint: .venv/.installed ## check style
	@$(python) -m ruff check .

clean: ## remove the built book and all caches, keep .venv
	@rm -rf _build .pytest_cache .ruff_cache .hypothesis

# With the oldest Python that the book supports, so that newer ones find the same versions.
lock: ## write requirements.lock anew: the newest versions that pyproject.toml allows (network)
	@rm -rf _build/lock && $(find_python) && "$$found" -m venv _build/lock
	@_build/lock/bin/python -m pip install --upgrade pip setuptools wheel 'torch==2.13.0' 'torchvision==0.28.0' '.[book,run,test,tsne]'
	@{ sed '/^[^#]/,$$d' requirements.lock; _build/lock/bin/python -m pip freeze --all --exclude pip --exclude nclib | sed 's/+cpu$$//'; } > _build/lock/requirements.lock
	@mv _build/lock/requirements.lock requirements.lock

.venv/.installed: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing the book's packages into .venv: a few minutes, once."
	@$(python) -m pip install --disable-pip-version-check --quiet --requirement requirements.lock
	@$(python) -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps --editable .
	@touch $@

.venv/bin/python:
	@$(find_python) && "$$found" -m venv --clear .venv

# Sets $found to the first Python that is new enough and can make environments, or explains.
define find_python
found=; for p in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3 python); do \
	if "$$p" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	echo "The book needs Python 3.11 or newer, with its venv module; there is: $$("$(or $(PYTHON),python3)" --version 2>&1)." >&2; \
	echo "Install one (on Debian and Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1; fi
endef

# Everything runs in .venv, made on first use. Only Python 3.11 or newer is needed: make demo PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
DATA ?= $(ATTENTDIFFERNET_DATA)
WORKERS ?= 3

.PHONY: demo dashboard test quick check results figures benchmark reliability audit lock models clean help

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: .venv/demo  ## the browser demo at http://localhost:7860: make demo PORT=8000
	$(BIN)/python app.py $(if $(PORT),--port $(PORT))

dashboard: .venv/dashboard  ## the analysis dashboard at http://localhost:8501: make dashboard PORT=8000
	$(BIN)/python -m demo.dashboard $(if $(PORT),--port $(PORT))

# A file of tests stays in one worker, which makes its models once; tests/conftest.py puts the longest files first.
test: .venv/test  ## all tests (those of the pages need Debian's chromium): make test WORKERS=4
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

quick: .venv/test  ## the tests that take no time, in under a minute
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "quick and not process"

check: .venv/test  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

results: .venv/demo  ## results/summary.csv and the generated parts of README.md, results/ and docs/, anew from the score files
	$(BIN)/python -m attentdiffernet.cli summarise results
	$(BIN)/python -m scripts.write_tables

benchmark: .venv/demo  ## fast against paper on this machine (LONG=1 for more), into benchmarks/latest.json
	$(BIN)/python -m benchmarks.benchmark $(if $(LONG),--long)

figures: .venv/demo  ## the figures and tables of a paper, into figures/
	$(BIN)/python -m attentdiffernet.cli figures results --models models --out figures
	$(BIN)/python -m scripts.qualitative_figures figures
	cp figures/differences.svg results/

reliability: .venv/demo  ## mutated files, killed processes and many visitors, into docs/reliability.md
	$(BIN)/python -m benchmarks.hostile_files & $(BIN)/python -m benchmarks.kills && wait $$!
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m scripts.write_tables

audit: .venv/demo  ## known vulnerabilities of the lock and of what is installed (needs the network)
	$(BIN)/python -m pip install --disable-pip-version-check -q pip-audit
	$(BIN)/python -m pip_audit --no-deps --disable-pip -r requirements.lock
	$(BIN)/python -m pip_audit --local --skip-editable

lock: .venv/test  ## the exact versions of what is installed, into requirements.lock: make clean lock
	{ grep '^#' requirements.lock; $(BIN)/python -m pip list --format=freeze --exclude attentdiffernet | sed 's/+cpu$$//'; } \
		> .venv/lock && mv .venv/lock requirements.lock

models: .venv/demo  ## train and evaluate what is shipped: make models DATA=FOLDER_OF_DATASETS
	ATTENTDIFFERNET_DATA="$(DATA)" $(BIN)/python -m scripts.train_shipped sample $(if $(DATA),real)

clean:  ## the environment and what tools left behind
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q 'pip>=26.2'

.venv/demo: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.txt
	@touch $@

.venv/dashboard: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dashboard]'
	@touch $@

.venv/test: pyproject.toml .venv/demo
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[demo,test]'
	@touch $@

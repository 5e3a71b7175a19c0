# Each target sets up what it needs by itself. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CORES ?= all
STUDY ?= config/config.yaml
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL = help
.PHONY: help run test lint bench clean

help:
	@echo "make run     run the demo study (STUDY=config/studies/nci60.yaml for another); CORES=2 to limit"
	@echo "make test    run the whole test suite"
	@echo "make lint    ruff, snakefmt and snakemake --lint"
	@echo "make bench   measure readers, referee and one fit of every hypothesis (peers: docs/benchmarks.md)"
	@echo "make clean   remove results, logs and the virtual environment"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"oncoarena needs Python 3.11, 3.12 or 3.13 (TensorFlow has no build for {v[0]}.{v[1]}); run: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# The stamp is newer than the lists it was installed from, so an edit of either installs again.
$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tensorflow,torch]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tensorflow,torch,dev]'
	@touch $@

# The default study's run fetches both demo cohorts, so that the other one works offline afterwards.
DEMOS = $(if $(filter config/config.yaml,$(STUDY)),all fetch_srbct fetch_nci60)

run: $(VENV)/run.stamp
	@$(BIN)/snakemake $(DEMOS) --cores $(CORES) --configfile $(STUDY) --quiet host reason rules
	@$(BIN)/oncoarena leaderboard --configfile $(STUDY)

BROWSERS = chromium chromium-browser google-chrome google-chrome-stable chrome
BROWSER = $(firstword $(foreach name,$(BROWSERS),$(shell command -v $(name))))

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile $(if $(BROWSER),,-m "not browser")
	@$(if $(BROWSER),:,echo "LEFT OUT: tests/test_browser.py (no Chromium on PATH; Debian: apt-get install chromium)")

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

bench: $(VENV)/test.stamp
	$(BIN)/python bench/read_matrix.py
	$(BIN)/python bench/extraction.py --samples 8
	$(BIN)/python bench/evaluate.py
	$(BIN)/snakemake --cores $(CORES) --quiet all results/srbct/splits/receipt.json results/srbct/blocks/expression.json
	$(BIN)/python bench/claims.py

clean:
	rm -rf results resources logs .snakemake .pytest_cache .ruff_cache .hypothesis $(VENV)

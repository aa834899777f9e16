# Each target sets up what it needs: in .venv what runs, for `make test` what tests as well; the
# benchmarks' peers in .venv-bench and, as it needs an older scikit-learn, .venv-diffprivlib.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
READY := $(VENV)/.requirements-installed
DEV_READY := $(VENV)/.requirements-dev-installed
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.requirements-installed
DIFFPRIVLIB_VENV := .venv-diffprivlib
DIFFPRIVLIB_READY := $(DIFFPRIVLIB_VENV)/.requirements-installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help repro test audit bench bench-utility clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile

repro: $(READY) ## run the pipeline and show what it gave
	dvc repro
	@python -m stages.compare

test: $(DEV_READY) ## run linter, type checker and tests (a quarter of an hour)
	ruff check .
	ruff format --check .
	mypy
	pytest

audit: $(READY) ## attack the training and hold what is found against ε (five minutes)
	dvc repro preprocess
	python -m benchmarks.audit

bench: $(BENCH_READY) ## time it beside its peers (eleven minutes; QUICK=1: three, only prints)
	QUICK=$(QUICK) $(BENCH_VENV)/bin/python -m benchmarks.speed

bench-utility: $(BENCH_READY) $(DIFFPRIVLIB_READY) ## compare accuracy (an hour; WORKERS=2, QUICK=1)
	QUICK=$(QUICK) $(BENCH_VENV)/bin/python -m benchmarks.utility

clean: ## remove the environments
	rm -rf $(VENV) $(BENCH_VENV) $(DIFFPRIVLIB_VENV)

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check -r $<
	touch $@

$(DEV_READY): requirements-dev.txt $(READY)
	pip install --disable-pip-version-check -r $<
	touch $@

$(BENCH_READY): benchmarks/requirements.txt $(READY)
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --disable-pip-version-check -r $<
	touch $@

$(DIFFPRIVLIB_READY): benchmarks/diffprivlib_requirements.txt
	$(PYTHON) -m venv $(DIFFPRIVLIB_VENV)
	$(DIFFPRIVLIB_VENV)/bin/pip install --disable-pip-version-check -r $<
	touch $@

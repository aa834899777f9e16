# `make repro` runs the pipeline, `make test` checks it, `make audit` attacks it, `make bench` times it
# beside its peers and `make bench-utility` compares their accuracy (either in five minutes with
# QUICK=1; the latter takes three hours, half of that with WORKERS=2). Each sets up what it needs in
# .venv, the benchmarks' peers in .venv-bench and, as it needs an older scikit-learn,
# .venv-diffprivlib.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
READY := $(VENV)/.requirements-installed
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.requirements-installed
DIFFPRIVLIB_VENV := .venv-diffprivlib
DIFFPRIVLIB_READY := $(DIFFPRIVLIB_VENV)/.requirements-installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test audit bench bench-utility clean

repro: $(READY)
	dvc repro
	@dvc metrics show

test: $(READY)
	ruff check .
	ruff format --check .
	mypy
	pytest

audit: $(READY)
	dvc repro preprocess
	python -m benchmarks.audit

bench: $(BENCH_READY)
	QUICK=$(QUICK) $(BENCH_VENV)/bin/python -m benchmarks.speed

bench-utility: $(BENCH_READY) $(DIFFPRIVLIB_READY)
	QUICK=$(QUICK) $(BENCH_VENV)/bin/python -m benchmarks.utility

$(BENCH_READY): $(READY) benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

$(DIFFPRIVLIB_READY): benchmarks/diffprivlib_requirements.txt
	$(PYTHON) -m venv $(DIFFPRIVLIB_VENV)
	$(DIFFPRIVLIB_VENV)/bin/pip install --disable-pip-version-check -r $<
	touch $@

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(DIFFPRIVLIB_VENV)

# `make repro` runs the pipeline, `make test` checks it, `make audit` attacks it, `make bench` times it
# beside its peers (`make bench QUICK=1` in five minutes); each sets up what it needs in .venv,
# the benchmark's peers in .venv-bench.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
READY := $(VENV)/.requirements-installed
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.requirements-installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test audit bench clean

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

$(BENCH_READY): $(READY) benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV)

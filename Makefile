# `make repro` runs the pipeline, `make test` checks it, `make audit` attacks it; each sets up what it
# needs in .venv.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
READY := $(VENV)/.requirements-installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test audit clean

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

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV)

# `make repro` runs the pipeline, `make test` checks it; both set up what they need in .venv.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
READY := $(VENV)/.requirements-installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test clean

repro: $(READY)
	dvc repro
	@dvc metrics show

test: $(READY)
	ruff check .
	ruff format --check .
	mypy
	pytest

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV)

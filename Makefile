# Each target sets up a fresh machine by itself, once.
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# A worker a core.
test slow: export OMP_NUM_THREADS := 1

.PHONY: setup repro test slow lint bench

setup: .venv/installed

repro: .venv/installed
	dvc repro

test: .venv/installed
	pytest -n auto --dist loadfile

slow: .venv/installed
	pytest -n auto --dist loadfile -m slow

lint: .venv/installed
	ruff check .
	ruff format --check .
	mypy

bench: .venv/installed
	python bench/demo.py run 1 2 3 4
	python bench/demo.py table

.venv/installed: pyproject.toml constraints.txt
	python3 -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

# Everything starts here: `make demo` and `make test` set up what they need on a machine with Python 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
SHARED ?= ../shared
# CompressAI needs numpy < 2 and torchvision, which does not import beside a torch built for the processor alone.
VENV_COMPRESSAI ?= .venv-compressai
BIN_COMPRESSAI = $(VENV_COMPRESSAI)/bin

.PHONY: help demo test check bench docs-figures test-compressai wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e '.[dev]'
	touch $@

demo: $(VENV)/.runtime  ## compress and decompress the example picture, and show what happened
	$(BIN)/python examples/demo.py

check: $(VENV)/.dev  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check  ## all checks and tests
	$(BIN)/python -m pytest

$(VENV_COMPRESSAI)/.installed: pyproject.toml constraints-compressai.txt
	test -x $(BIN_COMPRESSAI)/python || $(PYTHON) -m venv $(VENV_COMPRESSAI)
	$(BIN_COMPRESSAI)/pip install --quiet --disable-pip-version-check -c constraints-compressai.txt \
		-e '.[compressai]' pytest hypothesis
	touch $@

test-compressai: $(VENV_COMPRESSAI)/.installed  ## tests of the CompressAI bridge, in an environment of its own (Linux), and of the trellis with its older NumPy
	$(BIN_COMPRESSAI)/python -m pytest tests/compressai tests/unit/test_trellis.py tests/model/test_trellis_codec.py

bench: $(VENV)/.dev  ## curves and report on the Kodak pictures of $(SHARED) (resumes where it stopped)
	$(BIN)/python -m hvcodec_benchmarks all --images $(SHARED)/kodak

docs-figures: $(VENV)/.dev  ## regenerate every figure and table of README and docs from benchmarks/results
	$(BIN)/python -m hvcodec_benchmarks.docs_figures

wheel: $(VENV)/.dev  ## build a wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) $(VENV_COMPRESSAI) build dist demo *.egg-info

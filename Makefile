# Needs Python 3.10 or newer, make and git, nothing else:
#   demo   two example pictures answered by the embedded model      test   what the tests need, then the tests
#   lint   format and lint                                          check  lint and types
#   bench  every benchmark, results to benchmarks/results           clean  what these commands made, .venv too
# Everything is installed into .venv once; a stamp there keeps later runs off the network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RECIPE := pyproject.toml constraints.txt

# The exact versions of constraints.txt, or (a Python that has no wheels of them) what pyproject.toml allows.
define install
@echo "installing bellevl$(1) into $(VENV) (needs the network once)"
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".$(1)" \
	|| { echo "not with constraints.txt; trying the ranges of pyproject.toml"; \
	     $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".$(1)"; }
@touch $@
endef

.PHONY: demo test lint check bench clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "bellevl needs Python 3.10 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(RECIPE) | $(BIN)/python
	$(call install,)

$(INSTALLED)-test: $(RECIPE) | $(BIN)/python
	$(call install,[test])

$(INSTALLED)-dev: $(RECIPE) | $(BIN)/python
	$(call install,[test$(comma)dev])

comma := ,

# $(call ask,picture,question): the command as a person would type it, then its answer.
define ask
@printf '\n$$ bellevl ask %s "%s"\n' "$(1)" "$(2)"
@env -u BELLEVL_MODEL $(BIN)/bellevl ask "$(1)" "$(2)"
endef

demo: $(INSTALLED)
	$(call ask,examples/cat.png,描述图片)
	$(call ask,examples/草地.png,描述图片)

# One process a core, one thread each; a file's tests stay together, they share what they loaded.
test: $(INSTALLED)-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(INSTALLED)-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: lint
	$(BIN)/mypy

bench: $(INSTALLED)
	@for benchmark in $(sort $(wildcard benchmarks/[a-z]*.py)); do \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark" || exit $$?; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

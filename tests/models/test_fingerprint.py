"""A fingerprint changes with anything that changes the numbers, and with nothing else."""

import copy

import pytest
import torch
from forward.tiny import some_trees, tiny
from transformers import AutoTokenizer

from accord.data.tokenizer_digest import tokenizer_digest
from accord.forward.choose import choose
from accord.models import fingerprint


def test_same_weights_same_fingerprint():
    one, two = tiny("qwen3"), tiny("qwen3")
    wanted = fingerprint.weights(one.network)
    assert wanted == fingerprint.weights(two.network) and len(wanted) == 64
    choose(two, some_trees())  # another attention implementation is no other model
    two.network.config._name_or_path = "elsewhere"
    assert wanted == fingerprint.weights(two.network)


def flip_lowest_bit(network):
    weight = network.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        weight.view(torch.int32)[3, 5] ^= 1


def rename(network):
    network.model.other, network.model.norm = network.model.norm, None


def transpose(network):
    """The same bytes under another shape."""
    parameter = network.model.layers[0].self_attn.k_proj.weight
    parameter.data = parameter.data.reshape(parameter.shape[1], parameter.shape[0])


CHANGES = {
    "one bit": flip_lowest_bit,
    "dtype": lambda network: network.to(torch.bfloat16),
    "name": rename,
    "shape": transpose,
    "buffer": lambda network: network.register_buffer("extra", torch.zeros(1)),
    "rotary base": lambda network: network.config.rope_parameters.update(rope_theta=5e5),
    "epsilon": lambda network: setattr(network.config, "rms_norm_eps", 1e-5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_shows(change):
    network = tiny("qwen3").network
    before = fingerprint.weights(network)
    CHANGES[change](network)
    assert fingerprint.weights(network) != before


def test_adapters(tmp_path):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "adapter_config.json").write_text(
            '{"r": 2}' if folder != "b" else '{"r": 4}'
        )
        (tmp_path / folder / "adapter_model.safetensors").write_bytes(
            b"weights" if folder != "c" else b"Weights"
        )
    assert len({fingerprint.adapter(tmp_path / folder) for folder in "abc"}) == 3
    assert fingerprint.adapter(tmp_path / "a") == fingerprint.adapter(str(tmp_path / "a"))


def test_tokenizers(tokenizer, smollm2_folder):
    wanted = tokenizer_digest(tokenizer)
    assert wanted == tokenizer_digest(AutoTokenizer.from_pretrained(smollm2_folder))
    changed = [copy.deepcopy(tokenizer) for _ in range(3)]
    changed[0].chat_template += " "
    changed[1].add_tokens(["zebras"])
    changed[2].pad_token = (
        "<|endoftext|>" if tokenizer.pad_token != "<|endoftext|>" else "<|im_start|>"
    )
    assert len({wanted, *map(tokenizer_digest, changed)}) == 4

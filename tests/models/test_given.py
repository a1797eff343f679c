"""A loaded model is saved as it is, and its owner's object stays as it was."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from training.conftest import tokenizer  # noqa: F401

from accord.models.given import is_loaded, require_plain, save_given
from accord.models.load import load
from accord.types import UsageError


@pytest.fixture
def network(tiny_folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_folder)


def test_weights_and_settings_stay(network, tokenizer, tmp_path):  # noqa: F811
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = copy.deepcopy(network.config.to_dict())
    config, training = network.config, network.train().training
    network.config.architectures = None  # save_pretrained would write the class here
    settings["architectures"] = None
    save_given(network, tokenizer, tmp_path / "model")
    assert network.config is config and network.config.to_dict() == settings
    assert network.training is training
    assert all(torch.equal(state[name], now) for name, now in network.state_dict().items())
    loaded = load(str(tmp_path / "model"), dtype="float32")
    assert all(torch.equal(state[name], now) for name, now in loaded.network.state_dict().items())


class Plain:
    """A model as far as the checks look."""

    def __init__(self, **more):
        vars(self).update(more)

    def parameters(self):
        return [torch.zeros(1)]

    def state_dict(self):
        return {}

    def save_pretrained(self, *args, **kwargs):
        raise AssertionError("it must not come to this")


@pytest.mark.parametrize(
    "more, says",
    [
        ({"peft_config": {}}, "with adapters.*adapter=; or merge them first"),
        ({"_hf_peft_config_loaded": True}, "with adapters"),
        ({"is_quantized": True}, "quantised weights"),
        ({"hf_quantizer": object()}, "quantised weights"),
        ({"parameters": lambda: [torch.zeros(1, device="meta")]}, "not in memory"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_to_do(more, says):
    with pytest.raises(UsageError, match=says):
        require_plain(Plain(**more), SimpleNamespace(save_pretrained=None))


def test_a_model_needs_its_tokenizer(tmp_path):
    assert is_loaded(Plain()) and not is_loaded("smollm2")
    with pytest.raises(UsageError, match="needs its tokenizer: tokenizer=AutoTokenizer"):
        save_given(Plain(), None, tmp_path / "model")


def test_a_real_peft_model_is_refused(network, tokenizer):  # noqa: F811
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(network, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UsageError, match="with adapters"):
        require_plain(wrapped, tokenizer)

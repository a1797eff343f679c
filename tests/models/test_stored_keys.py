"""A folder whose tensors are not those that its config.json describes: refused with the setting
that is wrong. What an architecture leaves out by itself is no fault.
"""

import json
import shutil

import pytest
import torch
from forward.tiny import tiny
from safetensors.torch import load_file, save_file

from accord.models.load import load
from accord.models.reward import load_reward_model
from accord.types import UsageError
from accord.verify.tiny import tokenizer

WEIGHTS = "model.safetensors"


def saved(family, folder, **changes):
    tiny(family, **changes).network.save_pretrained(folder)
    tokenizer(97).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return saved("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def change(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def rewrite(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    save_file(edit(tensors), folder / WEIGHTS, {"format": "pt"})


def added(**tensors):
    return lambda f: rewrite(f, lambda held: held | tensors)


def renamed(prefix):
    return lambda f: rewrite(f, lambda held: {prefix + k: v for k, v in held.items()})


def without(part):
    return lambda f: rewrite(f, lambda held: {k: v for k, v in held.items() if part not in k})


def tied_and_not(folder):
    change(folder, tie_word_embeddings=True)


ONE = torch.ones(1)
FAULTS = {
    "fewer layers in config": (
        lambda f: change(f, num_hidden_layers=1),
        r"tensors of its files have no place.*hold 2 layers, and config.json says"
        " num_hidden_layers: 1. Set it to 2",
    ),
    "more layers in config": (
        lambda f: change(f, num_hidden_layers=3),
        "not in its files.*num_hidden_layers: 3, and the files hold 2",
    ),
    "an unknown tensor": (added(**{"model.extra.weight": ONE}), "such as model.extra.weight"),
    "a bias that the model lacks": (
        added(**{"model.layers.0.self_attn.q_proj.bias": torch.ones(24)}),
        "1 tensor of its files has no place.*q_proj.bias",
    ),
    "an adapter inside": (
        added(**{"model.layers.0.self_attn.q_proj.lora_A.weight": ONE}),
        "an adapter's: merge it",
    ),
    "wrapped": (renamed("module."), "saved from inside a wrapper"),
    "compiled": (renamed("_orig_mod."), "saved from inside a wrapper"),
    "no head": (without("lm_head"), "tie_word_embeddings: false, so the head needs weights"),
    "tied in config alone": (tied_and_not, "tie_word_embeddings: true, and the files hold a head"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refused_with_its_cause(fault, folder):
    spoil, words = FAULTS[fault]
    spoil(folder)
    with pytest.raises(UsageError, match=f"(?s){words}"):
        load(str(folder), dtype="float32", device="cpu")


def head_twice(folder):
    """The head of a tied model is stored as well, with the same values."""
    change(folder, tie_word_embeddings=True)
    rewrite(folder, lambda held: held | {"lm_head.weight": held["model.embed_tokens.weight"] + 0})


def further_predictions(folder):
    """DeepSeek, GLM: layers behind the last one predict further tokens."""
    change(folder, num_nextn_predict_layers=1)
    rewrite(folder, lambda held: held | {"model.layers.2.eh_proj.weight": ONE})


SILENT = {
    "as saved": lambda f: None,
    "rotary angles": added(**{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}),
    "numbers of positions": added(**{"model.position_ids": torch.arange(4)[None]}),
    "a causal mask": added(**{"model.layers.0.attn.bias": torch.ones(1, 1, 4, 4)}),
    "a mask's fill value": added(**{"model.layers.0.attn.masked_bias": torch.tensor(-1e4)}),
    "the tied head as well": head_twice,
    "layers that predict ahead": further_predictions,
}


@pytest.mark.parametrize("what", SILENT)
def test_silent_on_what_the_architecture_leaves_out(what, folder):
    SILENT[what](folder)
    assert load(str(folder), dtype="float32", device="cpu").notes == ()


def test_a_value_head_is_left_out_with_a_note(folder):
    added(**{"v_head.summary.weight": ONE})(folder)
    (note,) = load(str(folder), dtype="float32", device="cpu").notes
    assert "v_head.summary.weight is not read" in note


def test_float16_says_what_it_is_computed_and_saved_in(folder):
    rewrite(folder, lambda held: {k: v.half() for k, v in held.items()})
    (note,) = load(str(folder), dtype="bfloat16", device="cpu").notes
    assert "files hold float16" in note and "bfloat16, which rounds them" in note
    assert "saved in it" in note


@pytest.mark.parametrize("family", ["gpt2", "phi3", "mistral", "gemma2", "gpt_neox", "opt"])
def test_families_load_without_a_note(family, tmp_path):
    saved(family, tmp_path)
    assert load(str(tmp_path), dtype="float32", device="cpu").notes == ()


def test_a_language_model_is_no_reward_model(folder):
    with pytest.raises(UsageError, match="not in its files, such as score"):
        load_reward_model(str(folder), dtype="float32", device="cpu")

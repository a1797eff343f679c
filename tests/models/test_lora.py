"""Which weights train, under whatever names a family gives its modules."""

import json

import pytest
import torch
from forward.tiny import SHARE_A_PROMPT, some_trees, tiny
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from accord.forward.choose import choose
from accord.models.export import save
from accord.models.language import TRAINED
from accord.models.lora import add_lora, load_adapter, train_all_weights
from accord.models.targets import attention_names, linear_names
from accord.types import Refused, UsageError

LORA = dict(rank=2, alpha=4.0, targets="attention", dropout=0.0, dora=False, seed=0)

NAMES = {
    "llama": ["self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj"],
    "phi3": ["self_attn.o_proj", "self_attn.qkv_proj"],
    "gpt2": ["attn.c_attn", "attn.c_proj"],  # and not mlp.c_proj
    "gpt_neox": ["attention.dense", "attention.query_key_value"],
    "opt": ["self_attn.k_proj", "self_attn.out_proj", "self_attn.q_proj", "self_attn.v_proj"],
    "bloom": ["self_attention.dense", "self_attention.query_key_value"],
}


@pytest.mark.parametrize("family", NAMES)
def test_attention_under_each_familys_names(family):
    assert attention_names(tiny(family).network) == NAMES[family]


@pytest.mark.parametrize("family", SHARE_A_PROMPT)
def test_attention_adapters_alone_train(family):
    model = tiny(family)
    modules = attention_names(model.network)
    add_lora(model, **LORA)
    names = model.trainable()
    assert names and all(".lora_A." in name or ".lora_B." in name for name in names)
    assert all(".attn." in n or ".self_attn." in n or ".attention." in n for n in names)
    layers = {name.split(".lora_")[0] for name in names}
    assert len(layers) == 2 * len(modules), "every layer has them"


def test_an_architecture_without_attention():
    with pytest.raises(
        UsageError,
        match="(?s)targets = attention: this architecture has no module.*It has: .*in_proj",
    ):
        add_lora(tiny("mamba"), **LORA)


def test_an_unknown_target_names_those_that_exist():
    with pytest.raises(
        UsageError, match="(?s)model.lora.targets = .*wrong_proj.*down_proj, .*q_proj"
    ):
        add_lora(tiny(), **LORA | {"targets": ["wrong_proj"]})
    assert linear_names(tiny().network) == [
        "down_proj",
        "embed_tokens",
        "gate_proj",
        "k_proj",
        "lm_head",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    ]


@pytest.mark.parametrize("targets", ["attention", "all-linear", ["q_proj", "up_proj"]])
def test_fresh_adapters_change_nothing_and_come_from_the_seed(targets):
    trees = some_trees()
    base = choose(tiny(), trees)(trees).values.detach()
    drawn = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        model = tiny()
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        add_lora(model, **LORA | {"targets": targets, "seed": seed})
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(choose(model, trees)(trees).values, base)
        assert not model.network.training
        drawn.append(
            torch.cat([p.detach().flatten() for n, p in model.trainable().items() if "lora_A" in n])
        )
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_adapters_have_the_bases_dtype():
    model = tiny("llama", torch.bfloat16)
    add_lora(model, **LORA)
    assert {p.dtype for p in model.trainable().values()} == {torch.bfloat16}


def test_all_weights_train_and_tied_ones_count_once():
    tied, untied = (tiny("llama", tie_word_embeddings=tie) for tie in (True, False))
    for model in (tied, untied):
        train_all_weights(model)
        assert set(model.trainable()) == {name for name, _ in model.network.named_parameters()}
    assert set(untied.trainable()) - set(tied.trainable()) == {"lm_head.weight"}


# ---------------------------------------------------------------- going on with an adapter


@pytest.fixture
def incoming(tmp_path, tokenizer):
    model = tiny()
    model.tokenizer = tokenizer
    add_lora(model, **LORA)
    save(model, tmp_path / "sft", {})
    return tmp_path / "sft"


def refused(folder, match):
    with pytest.raises(UsageError, match=match):
        load_adapter(tiny(), str(folder))


def edit(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_adapter_goes_on_with_its_own_weights(incoming):
    model = tiny()
    load_adapter(model, str(incoming))
    stored = load_file(incoming / "adapter_model.safetensors")
    assert len(stored) == len(model.trainable())
    for name, parameter in model.trainable().items():
        assert torch.equal(parameter, stored[name.replace(f".{TRAINED}.", ".")])


def test_adapters_that_cannot_be_used(incoming, tmp_path):
    refused(tmp_path, "no adapter_config.json there")
    edit(incoming, peft_type="IA3", feedforward_modules=[])
    refused(incoming, "is a .*IA3 adapter; only LoRA")
    (incoming / "adapter_config.json").write_text("{")
    refused(incoming, "adapter_config.json cannot be read")


def test_a_pickled_adapter(incoming):
    (incoming / "adapter_model.safetensors").rename(incoming / "adapter_model.bin")
    refused(incoming, "pickled adapters are refused")


def test_a_damaged_adapter(incoming):
    file = incoming / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    refused(incoming, "does not fit")


def test_an_adapter_of_another_model(incoming):
    with pytest.raises(Refused, match="(?s)gpt2, is not that model.*model_type"):
        load_adapter(tiny("gpt2"), str(incoming))
    (incoming / "accord.json").unlink()  # as other tools leave it
    with pytest.raises(UsageError, match="does not fit gpt2"):
        load_adapter(tiny("gpt2"), str(incoming))
    with pytest.raises(UsageError, match="does not fit llama"):
        load_adapter(tiny("llama", hidden_size=32), str(incoming))


def test_an_adapter_whose_tensors_bear_other_names(incoming):
    """PEFT warns, and goes on with a fresh adapter: training would start from the base."""
    file = incoming / "adapter_model.safetensors"
    save_file({name.replace(".q_proj.", ".query."): t for name, t in load_file(file).items()}, file)
    refused(incoming, "does not fit llama: .* no counterpart")


@pytest.mark.parametrize(
    "beside",
    [
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"trainable_token_indices": [1, 2]},
    ],
    ids=str,
)
def test_adapters_that_train_whole_modules_are_refused(tmp_path, beside):
    """The frozen copy of what they train beside the low-rank updates would move: no reference would
    be left.
    """
    peft = get_peft_model(
        tiny("qwen2").network, LoraConfig(r=2, target_modules=["q_proj"], **beside)
    )
    peft.save_pretrained(tmp_path / "sft")
    with pytest.raises(
        UsageError, match="(?s)trains whole modules beside.*reference would move.*Merge the adapter"
    ):
        load_adapter(tiny("qwen2"), str(tmp_path / "sft"))

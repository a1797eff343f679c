"""Families that are not plain decoders: states, towers, fused experts, factors of the head."""

import pytest
import torch
from forward.tiny import some_trees

from accord.engine.micro_budget import MicroBudget
from accord.engine.step import UpdateContext
from accord.forward import attention
from accord.forward.choose import Forward, choose
from accord.forward.logps import tree_logps
from accord.models.families import outside_language, router_losses, state_of
from accord.models.language import LanguageModel
from accord.models.lora import add_lora, train_all_weights
from accord.models.reward import with_score_head
from accord.models.targets import attention_names, unreached
from accord.objectives.table import resolve
from accord.types import UsageError
from accord.verify import preflight
from benchmarks import small_models

LORA = dict(rank=2, alpha=4.0, dropout=0.0, dora=False, seed=0)


def small(family: str, **changes) -> LanguageModel:
    network = small_models.small_model(family, **changes)
    return LanguageModel(network, None, family, None)


def alone(network, trees) -> torch.Tensor:
    """Log-probs of every answer by the bare network: each row by itself, no mask, no padding."""
    found = []
    for tree in trees:
        for answer in tree.completions:
            ids = torch.tensor([[*tree.prompt, *answer]])
            logits = network(input_ids=ids, use_cache=False).logits[0, len(tree.prompt) - 1 : -1]
            found.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0])
    return torch.cat(found)


STATES = ["mamba", "lfm2", "jamba", "qwen3_next", "recurrent_gemma", "rwkv", "xlstm"]


@pytest.mark.parametrize("family", STATES)
def test_a_state_stays_in_its_row(family):
    """The tree path is never tried; in a padded batch each row has the bare network's log-probs."""
    model = small(family)
    forward = choose(model, some_trees())
    assert forward.path == "padded" and "it would mix rows" in forward.reason
    with torch.no_grad():
        apart = forward(some_trees()).values - alone(model.network, some_trees())
    assert apart.abs().max() < 5e-5


def test_a_small_convolution_would_not_be_seen():
    """What the tree path would compute of LFM2 is wrong by less than rounding may account for."""
    model = small("lfm2")
    assert "conv" in state_of(model.network)
    attention.register()
    model.network.set_attn_implementation(attention.NAME)
    with torch.no_grad():
        apart = tree_logps(model, some_trees()).values - alone(model.network, some_trees())
    assert 1e-6 < apart.abs().max() < 0.05


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "mistral", "gemma3"])
def test_a_plain_decoder_carries_no_state(family):
    assert state_of(small_models.small_model(family)) == ""


@pytest.mark.parametrize(
    "family, field, value",
    [
        ("falcon_h1", "lm_head_multiplier", 0.5),
        ("hyperclovax", "logits_scaling", 0.5),
        ("granite", "logits_scaling", 4.0),
        ("inkling_text", "logits_mup_width_multiplier", 3.0),
    ],
)
def test_the_factor_of_a_head_is_read(family, field, value):
    config = small_models.small_config(family)
    assert hasattr(config, field)
    network = small_models.small_model(family, **{field: value})
    model = LanguageModel(network, None, family, None)
    with torch.no_grad():
        ids = torch.arange(3, 20)[None]
        hidden = model.trunk(input_ids=ids, use_cache=False).last_hidden_state[0]
        own = network(input_ids=ids, use_cache=False).logits[0]
        assert torch.allclose(model.head.logits(hidden)[:, : own.shape[1]], own, atol=1e-4)


# ---------------------------------------------------------------- parts that no text reaches


def context(model: LanguageModel) -> UpdateContext:
    return UpdateContext(Forward(model, "tree", "", 0.0), resolve("dpo"), None, MicroBudget(64), 0)


def test_a_vision_tower_gets_no_adapter():
    model = small("gemma3")
    add_lora(model, targets="all-linear", **LORA)
    towers = ["model.vision_tower", "model.multi_modal_projector"]
    assert model.outside == towers
    assert not any(part in name for name in model.trainable() for part in ("vision", "multi_modal"))
    found = preflight.trainable(context(model))
    assert found.verdict == "ok" and "model.vision_tower" in found.says
    assert "no text reaches them" in found.says
    assert "vision_tower" in model.peft.peft_config["default"].exclude_modules


def test_a_vision_tower_stays_where_all_weights_train():
    model = small("gemma3")
    train_all_weights(model)
    trained = model.trainable()
    assert trained and not any("vision" in name or "multi_modal" in name for name in trained)
    assert all(
        "vision" in n or "multi_modal" in n
        for n, p in model.network.named_parameters()
        if not p.requires_grad
    )


def test_experts_that_a_text_does_not_choose_are_no_tower():
    """One short text cannot choose every expert, nor needs a layer of images."""
    for family in ("mixtral", "qwen3_moe", "jamba", "llama", "mamba"):
        assert outside_language(small_models.small_model(family)) == [], family


def test_a_reward_model_of_a_wrapper_is_refused():
    with pytest.raises(UsageError, match="more than a language model"):
        with_score_head(small("gemma3"), seed=0)


# ---------------------------------------------------------------- targets of adapters


def test_what_all_linear_leaves_out_is_said():
    model = small("gpt_oss")
    add_lora(model, targets="all-linear", **LORA)
    left = unreached(model)
    assert {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"} <= set(left)
    assert left["mlp.experts.gate_up_proj"] > 1_000
    assert "experts.gate_up_proj" in preflight.trainable(context(model)).says


def test_modules_that_were_named_leave_nothing_out():
    model = small("mixtral")
    add_lora(model, targets="attention", **LORA)
    assert unreached(model) == {}


@pytest.mark.parametrize("family", ["mamba", "falcon_h1"])
def test_what_peft_refuses_of_mamba_is_left_out_of_all_linear(family):
    """PEFT refuses LoRA on out_proj of these, also where all linear modules were meant."""
    model = small(family)
    add_lora(model, targets="all-linear", **LORA)
    assert not any("out_proj" in name for name in model.trainable())
    assert any(name.endswith("out_proj") for name in unreached(model))


def test_attention_in_a_list_is_found():
    names = attention_names(small_models.small_model("xlm"))
    assert names[:4] == [f"attentions.0.{name}_lin" for name in ("k", "out", "q", "v")]


def test_the_loss_of_a_router_is_said_to_be_off():
    assert router_losses(small_models.small_model("llama")) == {}
    (found,) = preflight.router(context(small("mixtral")))
    assert found.check == "step0.router" and found.verdict == "note"
    assert "router_aux_loss_coef = 0.001" in found.says and "off" in found.says

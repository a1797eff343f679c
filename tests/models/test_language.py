"""The model as the rest sees it: its head, what trains, and that nothing is ever dropped but where
asked.
"""

import pytest
import torch
from forward.tiny import SHARE_A_PROMPT, some_trees, tiny

from accord.forward.choose import choose
from accord.models.lora import add_lora


@pytest.mark.parametrize("family", [*SHARE_A_PROMPT, "gpt_oss", "mamba", "bloom"])
def test_trunk_and_head_are_the_whole_model(family):
    """Scales and caps of the logits included: Granite, Cohere, Gemma 2."""
    model = tiny(family)
    ids = torch.tensor([some_trees()[0].prompt])
    with torch.no_grad():
        whole = model.network(input_ids=ids).logits[0]
        parts = model.head.logits(model.trunk(input_ids=ids).last_hidden_state[0])
    torch.testing.assert_close(parts, whole)
    assert whole.abs().max() > 0.5


def test_head_specs():
    assert tiny("granite").head.scale == pytest.approx(1 / 3) and tiny("cohere").head.scale == 0.25
    gemma2 = tiny("gemma2").head
    assert gemma2.softcap == 3.0 and not gemma2.plain
    llama = tiny().head
    assert (llama.scale, llama.softcap, llama.plain) == (1.0, None, True)


def test_an_adapter_on_the_head_makes_it_another_head():
    model = tiny("llama", tie_word_embeddings=False)
    add_lora(model, rank=2, alpha=2.0, targets=["lm_head"], dropout=0.0, dora=False, seed=0)
    assert not model.head.plain


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_dropout_of_the_base_is_never_on(family):
    """These families ship with dropout 0.1."""
    model, trees = tiny(family), some_trees()
    forward = choose(model, trees)
    add_lora(model, rank=2, alpha=2.0, targets="attention", dropout=0.0, dora=False, seed=0)
    for context in (model.adapter_dropout(), model.adapter_dropout(False)):
        with context:
            assert torch.equal(forward(trees).values, forward(trees).values)


def test_dropout_of_adapters_is_on_only_inside():
    model, trees = tiny(), some_trees()
    add_lora(model, rank=2, alpha=2.0, targets="all-linear", dropout=0.5, dora=False, seed=0)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.normal_()
    forward = choose(model, trees)
    wanted = forward(trees).values
    with model.adapter_dropout():
        assert not torch.equal(forward(trees).values, forward(trees).values)
    assert torch.equal(forward(trees).values, wanted)
    with pytest.raises(KeyboardInterrupt), model.adapter_dropout():
        raise KeyboardInterrupt
    assert torch.equal(forward(trees).values, wanted)
    with model.adapter_dropout(False):
        assert torch.equal(forward(trees).values, wanted)

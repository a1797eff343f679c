"""The fast ways of decoding give what the plain way gives: shared prompts, blocked weights; and
they leave no trace.
"""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from numpy.testing import assert_allclose
from peft import LoraConfig, get_peft_model
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from accord.compat import cache_of
from accord.sampling import onednn_weights as packing
from accord.sampling.decoding import Copied, Shared
from accord.sampling.local import LocalSampler
from accord.sampling.onednn_weights import packed_weights
from accord.sampling.shared_prompt import Places, shared_cache
from accord.sampling.trials import begin_decoding

torch.set_num_threads(1)
VOCABULARY, END = 37, 5
TOKENIZER = SimpleNamespace(eos_token_id=END, decode=lambda tokens, skip_special_tokens: "")
A, B, C = (3, 1, 4), (1, 5, 9, 2, 6, 5, 3), (8, 2)
# rows of a prompt do not stand together, and not every prompt has as many
PROMPTS = [A, B, A, A, C, B, A]
CPU = torch.device("cpu")


def llama(**change) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = dict(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        initializer_range=0.7,
        eos_token_id=END,
        **shape,
        **change,
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def alone(model, tokens) -> torch.Tensor:
    """Logits after a row without cache, padding or neighbours."""
    return model(torch.tensor([tokens])).logits[0, -1]


def as_alone(model, rows: list[tuple[int, ...]], logits: torch.Tensor) -> bool:
    return all(
        torch.allclose(own, alone(model, row), rtol=1e-4, atol=1e-5)
        for own, row in zip(logits, rows, strict=True)
    )


# ---------------------------------------------------------------- shared prompts


@torch.no_grad()
def test_rows_that_share_a_prompt_are_as_if_alone():
    """Step by step; then rows leave: all of a prompt's, then all but one."""
    model, rows = llama(), list(PROMPTS)
    with begin_decoding(model, rows, CPU, 6) as batch:
        assert as_alone(model, rows, batch.logits)
        # positions among those that are left
        for step, kept in enumerate([None, None, [0, 1, 2, 3, 5, 6], [4, 1, 2], [0]]):
            if kept is not None:
                batch.keep(torch.tensor(kept))
                rows = [rows[i] for i in kept]
            tokens = torch.arange(len(rows)) + 7 + step
            logits = batch.step(tokens)
            rows = [(*row, token) for row, token in zip(rows, tokens.tolist(), strict=True)]
            with own_attention(model):
                assert as_alone(model, rows, logits)
        assert (
            type(batch.inner.way) is Shared and len(batch.inner.way.cache.layers[0].prompt[0]) == 1
        )


def own_attention(model):
    """The model's own attention inside, and afterwards the one that it had."""

    class Own:
        def __enter__(self):
            self.name = model.config._attn_implementation
            model.set_attn_implementation("sdpa")

        def __exit__(self, *_):
            model.set_attn_implementation(self.name)

    return Own()


@torch.no_grad()
def test_prompts_are_held_once():
    with begin_decoding(llama(), [A] * 8, CPU, 6) as batch:
        batch.step(torch.arange(8))
        layer = batch.inner.way.cache.layers[0]
        assert layer.prompt[0].shape == (1, 2, 3, 4) and layer.keys.shape == (8, 2, 1, 4)


@torch.no_grad()
def test_rows_that_end_at_their_first_token_take_their_prompt_along():
    model = llama()
    with begin_decoding(model, PROMPTS, CPU, 6) as batch:
        batch.keep(torch.tensor([1, 4, 5]))  # no row of A
        logits = batch.step(torch.tensor([7, 8, 9]))
        assert type(batch.inner.way) is Shared
    assert as_alone(model, [(*B, 7), (*C, 8), (*B, 9)], logits)


@pytest.mark.parametrize(
    "prompts",
    [[A, B, C], [A] * 9 + [B, C, (1,), (2,), (3,), (4,), (6,)]],
    ids=["one each", "uneven"],
)
@torch.no_grad()
def test_copies_where_sharing_saves_nothing(prompts):
    model = llama()
    with begin_decoding(model, prompts, CPU, 4) as batch:
        logits = batch.step(torch.full((len(prompts),), 7))
        assert type(batch.inner.way) is Copied
    assert as_alone(model, [(*prompt, 7) for prompt in prompts], logits)


def test_places():
    """Rows of three prompts, of which the second has none left; and rows that stand in order
    already.
    """
    places = Places.of(torch.tensor([2, 0, 2, 2]))
    assert (places.prompts.tolist(), places.each, places.place.tolist()) == (
        [0, 2],
        3,
        [3, 0, 4, 5],
    )
    x = torch.arange(4.0)[:, None]
    assert places.lay(x)[:, 0].tolist() == [1, 0, 0, 0, 2, 3] and torch.equal(
        places.pick(places.lay(x)), x
    )
    assert Places.of(torch.tensor([0, 0, 1, 1])).place is None


def gemma2() -> Gemma2ForCausalLM:
    """Soft caps in its attention, which the shared one does not have;
    every layer sees everything.
    """
    torch.manual_seed(0)
    shape = dict(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
    )
    kinds = dict(layer_types=["full_attention"] * 2, attn_logit_softcapping=1.0)
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        initializer_range=0.7,
        eos_token_id=END,
        pad_token_id=0,
        **shape,
        **kinds,
    )
    return Gemma2ForCausalLM._from_config(config, attn_implementation="eager").eval()


@torch.no_grad()
def test_a_model_that_asks_for_more_keeps_its_own_attention():
    model = gemma2()
    with begin_decoding(model, PROMPTS, CPU, 4) as batch:
        logits = batch.step(torch.full((7,), 7))
        assert type(batch.inner.way) is Copied and model.config._attn_implementation == "eager"
    assert as_alone(model, [(*prompt, 7) for prompt in PROMPTS], logits)


@torch.no_grad()
def test_a_model_with_an_attention_of_its_own_is_found_out(monkeypatch):
    """It never asks transformers' table of attentions: the rows' own parts alone would be what it
    attends to.
    """
    own = modeling_llama.eager_attention_forward
    monkeypatch.setattr(
        modeling_llama.ALL_ATTENTION_FUNCTIONS, "get_interface", lambda name, default: own
    )
    model = llama(attn_implementation="eager")
    with begin_decoding(model, PROMPTS, CPU, 4) as batch:
        logits = batch.step(torch.full((7,), 7))
        assert type(batch.inner.way) is Copied
    assert as_alone(model, [(*prompt, 7) for prompt in PROMPTS], logits)


def test_the_models_attention_is_its_own_again(monkeypatch):
    """After sampling, and after an error in it."""
    model = llama()
    LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=3)
    assert model.config._attn_implementation == "sdpa"

    def interrupted(self, tokens):
        raise KeyboardInterrupt

    monkeypatch.setattr(Shared, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=3)
    assert model.config._attn_implementation == "sdpa"


@torch.no_grad()
def test_the_cache_goes_with_the_batch():
    """Without waiting for the garbage collector: it may be most of the memory."""
    gc.disable()
    try:
        with begin_decoding(llama(), PROMPTS, CPU, 4) as batch:
            batch.step(torch.full((7,), 7))
            held = weakref.ref(batch.inner.way.cache.layers[0])
        del batch
        assert held() is None
    finally:
        gc.enable()


@torch.no_grad()
def test_nothing_is_shared_on_other_devices_or_of_other_layers():
    cache = cache_of(llama()(torch.tensor([[3, 1], [4, 1]]), use_cache=True))
    mask, rows = torch.ones(2, 2, dtype=torch.bool), torch.tensor([0, 0, 1, 1])
    assert shared_cache(cache, mask, rows, 3) is not None
    assert shared_cache(cache, mask.to("meta"), rows, 3) is None
    cache.layers[1].__class__ = type("Another", (type(cache.layers[1]),), {})
    assert shared_cache(cache, mask, rows, 3) is None


# ---------------------------------------------------------------- blocked weights

needs_kernels = pytest.mark.skipif(
    not packing._supported(), reason="oneDNN has no bfloat16 kernels for this processor"
)


@needs_kernels
@torch.no_grad()
def test_blocked_weights_give_the_same_numbers():
    """Also with a bias; float32 is left alone; and the layers are what they were afterwards,
    whatever happens inside.
    """
    model = llama(attention_bias=True).to(torch.bfloat16)
    ids = torch.randint(VOCABULARY, (5, 3), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.nn.init.normal_(model.model.layers[0].self_attn.q_proj.bias)
    own = model(ids).logits
    with pytest.raises(ZeroDivisionError), packed_weights(model, 64) as count:
        assert count == 15  # seven in each of two layers, and the head
        assert_allclose(model(ids).logits.float(), own.float(), atol=0.02 * own.abs().max().item())
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in model.modules())
    model.lm_head.weight.zero_()
    assert not model(ids).logits.any()
    with packed_weights(model.float(), 64) as count:
        assert count == 0


@needs_kernels
def test_few_tokens_or_large_weights_are_not_worth_it(monkeypatch):
    model = llama().to(torch.bfloat16)
    with packed_weights(model, packing.TOKENS - 1) as count:
        assert count == 0
    monkeypatch.setattr(packing, "AT_MOST", 1_000)
    with packed_weights(model, 64) as count:
        assert count == 0


@needs_kernels
def test_an_adapted_layer_keeps_its_adapter():
    model = get_peft_model(
        llama().to(torch.bfloat16),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
    ).eval()
    with torch.no_grad():
        ids = torch.tensor([[3, 1, 4]])
        own = model(ids).logits
        with model.disable_adapter():
            bare = model(ids).logits
        with packed_weights(model, 64) as count:
            assert count == 15 and torch.allclose(
                model(ids).logits, own, atol=0.03 * own.abs().max().item()
            )
            assert not torch.allclose(own, bare, atol=0.03 * own.abs().max().item())


@needs_kernels
def test_weights_of_another_kind_are_left_alone():
    """Cut into parts or quantized: blocking would fail, or lose what they are."""
    layer = torch.nn.Linear(16, 37).to(torch.bfloat16)
    layer.weight = torch.nn.Parameter(
        layer.weight.detach().as_subclass(type("Part", (torch.Tensor,), {}))
    )
    with packed_weights(torch.nn.Sequential(layer), 64) as count:
        assert count == 0


@needs_kernels
def test_kernels_that_compute_something_else_are_not_used(monkeypatch):
    monkeypatch.setattr(
        packing,
        "_multiply",
        lambda weight, bias, x: -torch.nn.functional.linear(x, torch.ones(37, 16, dtype=x.dtype)),
    )
    model = torch.nn.Sequential(torch.nn.Linear(16, 37)).to(torch.bfloat16)
    with packed_weights(model, 64) as count:
        assert count == 0


def test_sample_decodes_by_both(monkeypatch):
    """Else the tests above would hold for nothing."""
    seen, step = set(), Shared.step
    monkeypatch.setattr(
        Shared, "step", lambda self, tokens: seen.add("shared") or step(self, tokens)
    )
    monkeypatch.setattr(packing, "_supported", lambda: bool(seen.add("blocked")))
    LocalSampler(llama(), TOKENIZER).sample(PROMPTS, max_new_tokens=9)
    assert seen == {"shared", "blocked"}

"""Whatever fails in a fast way of decoding, and any other number at the first token: the answers
are the plain way's, one line says why, and nothing of the fast way stays behind.
"""

import copy
import warnings

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from accord import compat
from accord.environment import settings
from accord.errors import AccordWarning
from accord.sampling import decoding, kv_cache, shared_prompt
from accord.sampling import onednn_weights as packing
from accord.sampling.decoding import Copied, Plain, Shared
from accord.sampling.local import LocalSampler

torch.set_num_threads(1)


class Tokenizer:
    eos_token_id = 5

    def decode(self, tokens, skip_special_tokens):
        return ""


A, B, C = (3, 1, 4), (1, 5, 9, 2, 6, 5, 3), (8, 2)
SEVERAL = [A, B, A, A, C, B, A]  # prompts are shared
ONCE = [A, B, C]  # each row has a cache with room ahead
# by this seed rows of both leave after a few tokens while others take all that they may have
SEED, TOKENS, ENDS = 77, 12, [5, 6]


@pytest.fixture(autouse=True)
def first_warning(monkeypatch):
    monkeypatch.setattr(settings, "_warned", set())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=37,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.7,
        eos_token_id=5,
    )
    made = LlamaForCausalLM(config).eval()
    made.generation_config.eos_token_id = ENDS
    return made


@pytest.fixture
def model(network):
    """A model of its own for each test: one whose fast way failed does without it from then on."""
    return copy.deepcopy(network)


def answers(model, prompts, **options):
    options = {"max_new_tokens": TOKENS, "seed": SEED, **options}
    return LocalSampler(model, Tokenizer()).sample(prompts, **options)


def plain_answers(network, prompts, **options):
    model = copy.deepcopy(network)
    for kind in (Shared, Copied):
        decoding._failed[kind].add(model)
    return answers(model, prompts, **options)


def warned_answers(model, prompts, **options):
    """Answers of two calls, and the lines of warning that came of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = answers(model, prompts, **options)
        again = answers(model, prompts, **options)
    assert same(found, again)
    return found, [str(w.message) for w in caught if w.category is AccordWarning]


def same(found, wanted) -> bool:
    return [one.tokens for one in found] == [one.tokens for one in wanted] and all(
        one.logprob == pytest.approx(other.logprob, abs=1e-4)
        for one, other in zip(found, wanted, strict=True)
    )


def is_clean(model) -> bool:
    return model.config._attn_implementation == "sdpa" and not any(
        "forward" in vars(layer) for layer in model.modules()
    )


def broken(*arguments, **keywords):
    raise RuntimeError("injected here\nand a second line")


def after(count: int, function):
    """The function, which raises from its `count + 1`-th call on."""
    calls = []

    def call(*arguments, **keywords):
        calls.append(1)
        return function(*arguments, **keywords) if len(calls) <= count else broken()

    return call


# where the way of shared prompts can fail: construction, registration, the first step (taking the
# attention, writing the cache, the kernel), a later one, rows that leave
SHARED = {
    "construction": (shared_prompt, "shared_cache", broken),
    "layers": (shared_prompt.SharedLayer, "__init__", broken),
    "places": (shared_prompt.Places, "of", broken),
    "registration": (compat, "register_attention", broken),
    "no table of attentions": (compat, "register_attention", lambda name, function: False),
    "first step": (Shared, "step", broken),
    "cache at the first step": (shared_prompt.SharedLayer, "update", broken),
    "kernel at the first step": (compat, "attention_with_sums", broken),
    "attended at the first step": (Shared, "all_attended", broken),
    "second step": (Shared, "step", after(1, Shared.step)),
    "cache at a later step": (
        shared_prompt.SharedLayer,
        "update",
        after(7, shared_prompt.SharedLayer.update),
    ),
    "kernel at a later step": (
        compat,
        "attention_with_sums",
        after(20, compat.attention_with_sums),
    ),
    "last step": (Shared, "step", after(TOKENS - 2, Shared.step)),
    "rows that leave": (Shared, "keep", broken),
    "rows that leave a layer": (shared_prompt.SharedLayer, "keep", broken),
}

COPIED = {
    "construction": (decoding, "spread_rows", broken),
    "second layer": (kv_cache.RoomyLayer, "make_room", after(1, kv_cache.RoomyLayer.make_room)),
    "first step": (Copied, "step", broken),
    "cache at the first step": (kv_cache.RoomyLayer, "update", broken),
    "second layer at the first step": (
        kv_cache.RoomyLayer,
        "update",
        after(1, kv_cache.RoomyLayer.update),
    ),
    "later step": (Copied, "step", after(3, Plain.step)),
    "cache at a later step": (kv_cache.RoomyLayer, "update", after(9, kv_cache.RoomyLayer.update)),
    "rows that leave": (kv_cache.RoomyLayer, "batch_select_indices", broken),
}

CASES = [
    *((SEVERAL, "sharing prompts", *where) for where in SHARED.values()),
    *((ONCE, "a cache with room ahead", *where) for where in COPIED.values()),
]
NAMES = [*(f"shared, {name}" for name in SHARED), *(f"copied, {name}" for name in COPIED)]


@pytest.mark.parametrize("prompts, way, owner, name, fault", CASES, ids=NAMES)
def test_a_fast_way_that_fails_ends_in_the_plain_one(
    prompts, way, owner, name, fault, model, network, monkeypatch
):
    wanted = plain_answers(network, prompts)
    monkeypatch.setattr(owner, name, fault)
    found, lines = warned_answers(model, prompts)
    assert same(found, wanted)
    assert len(lines) == 1 and way in lines[0] and "\n" not in lines[0]
    assert ("injected here" in lines[0]) == (fault is not SHARED["no table of attentions"][2])
    assert "second line" not in lines[0]
    assert is_clean(model)


def off(function, by):
    """The function with its logits changed by a part of their spread."""

    def step(self, tokens):
        logits = function(self, tokens)
        noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        return logits + by * logits.std() * noise

    return step


@pytest.mark.parametrize("by", [1e-2, float("nan")])
@pytest.mark.parametrize(
    "prompts, kind, step",
    [(SEVERAL, Shared, Shared.step), (ONCE, Copied, Plain.step)],
    ids=["shared", "copied"],
)
def test_another_number_at_the_first_token_is_found(
    prompts, kind, step, by, model, network, monkeypatch
):
    wanted = plain_answers(network, prompts)
    monkeypatch.setattr(kind, "step", off(step, by))
    found, lines = warned_answers(model, prompts)
    assert same(found, wanted) and is_clean(model)
    assert len(lines) == 1 and "WrongNumbers" in lines[0]


@pytest.mark.parametrize("prompts", [SEVERAL, ONCE], ids=["shared", "copied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sound_way_is_not_suspected(prompts, dtype, model):
    """In either dtype, also where rows are compared in every batch."""
    model = model.to(dtype)
    _, lines = warned_answers(model, prompts, max_new_tokens=decoding.WORTH)
    assert not lines
    kind = Shared if prompts is SEVERAL else Copied
    assert model in decoding._compared[kind] and model not in decoding._failed[kind]


def test_every_long_batch_is_compared_and_a_short_one_once(model, monkeypatch):
    counts = []
    expected = decoding.Rows._expected
    monkeypatch.setattr(
        decoding.Rows, "_expected", lambda self, t: counts.append(1) or expected(self, t)
    )
    answers(model, SEVERAL, max_new_tokens=6)
    answers(model, SEVERAL, max_new_tokens=6)
    assert len(counts) == 1
    answers(model, SEVERAL, max_new_tokens=decoding.WORTH)
    assert len(counts) == 2


def test_comparing_changes_no_answer(network, monkeypatch):
    """The plain way's step beside the fast one leaves the fast one's numbers alone, bit for bit."""
    compared = answers(copy.deepcopy(network), SEVERAL)
    monkeypatch.setattr(decoding, "WORTH", 10_000)
    model = copy.deepcopy(network)
    decoding._compared[Shared].add(model)
    assert answers(model, SEVERAL) == compared


def test_numbers_that_are_no_numbers_are_nobodys_fault(model):
    """A model that has diverged has the same NaN by every way: no warning, no fallback."""
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    rows = decoding.Rows(model, SEVERAL, torch.device("cpu"), 4)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        rows.step(torch.full((len(SEVERAL),), 7))
    rows.close()
    assert type(rows.way) is Shared


@pytest.mark.parametrize("prompts, kind", [(SEVERAL, Shared), (ONCE, Copied)])
def test_memory_that_runs_out_is_the_callers_to_mend(prompts, kind, model, monkeypatch):
    """The plain way takes no less memory; a run halves its micro-batch."""

    def full(self, tokens):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(kind, "step", full)
    with pytest.raises(torch.OutOfMemoryError), warnings.catch_warnings():
        warnings.simplefilter("error")
        answers(model, prompts)
    assert is_clean(model) and model not in decoding._failed[kind]


def test_an_error_of_the_model_itself_is_not_hidden(model, monkeypatch):
    monkeypatch.setattr(type(model), "forward", broken)
    with pytest.raises(RuntimeError, match="injected here"):
        answers(model, SEVERAL)
    assert is_clean(model)


def test_a_layer_that_sees_a_window_is_selected_by_itself():
    """`select_rows` leaves the cache that it is given as it is."""
    from transformers import DynamicCache

    cache = DynamicCache()
    cache.update(torch.arange(12.0).view(3, 1, 2, 2), torch.zeros(3, 1, 2, 2), 0)
    made = decoding.select_rows(cache, torch.tensor([2, 2, 0]))
    assert made.layers[0].keys[:, 0, 0, 0].tolist() == [8, 8, 0]
    assert cache.layers[0].keys.shape == (3, 1, 2, 2) and type(cache.layers[0]) is type(
        made.layers[0]
    )


# ---------------------------------------------------------------- blocked weights

BLOCKED = {
    "support": ("_supported", broken),
    "construction": ("_blocked", broken),
    "second layer": ("_blocked", None),
    "first product": ("_multiply", broken),
    "later product": ("_multiply", None),
    "another number": (
        "_multiply",
        lambda w, b, x: torch.nn.functional.linear(x, w, b) * (1 + 2**-4),
    ),
    "no number": ("_multiply", lambda w, b, x: torch.nn.functional.linear(x, w, b) * torch.nan),
}


@pytest.fixture
def kernels(monkeypatch):
    """oneDNN's kernels played by torch's own product, on a processor that has none too."""
    monkeypatch.setattr(packing, "_supported", lambda: True)
    monkeypatch.setattr(packing, "_blocked", lambda layer: layer.weight.detach().clone())
    monkeypatch.setattr(packing, "_multiply", torch_product)


def torch_product(weight, bias, x):
    return torch.nn.functional.linear(x, weight, bias)


def test_sound_kernels_are_used_without_a_word(model, network, kernels):
    model = model.to(torch.bfloat16)
    with packing.packed_weights(model, TOKENS) as count:
        assert count == 15
    wanted = plain_answers(network.to(torch.bfloat16), ONCE)
    network.to(torch.float32)
    found, lines = warned_answers(model, ONCE)
    assert not lines and same(found, wanted) and is_clean(model)


@pytest.mark.parametrize("stage", BLOCKED)
def test_blocked_weights_that_fail_end_in_the_layers_own(stage, model, kernels, monkeypatch):
    model = model.to(torch.bfloat16)
    monkeypatch.setattr(packing, "AT_MOST", 0)
    wanted = answers(model, ONCE)
    monkeypatch.setattr(packing, "AT_MOST", 2**31)
    name, fault = BLOCKED[stage]
    if stage == "second layer":
        fault = after(1, lambda layer: layer.weight.detach().clone())
    elif stage == "later product":
        fault = after(40, torch_product)
    monkeypatch.setattr(packing, name, fault)
    found, lines = warned_answers(model, ONCE)
    assert found == wanted and is_clean(model)
    # one line, though a wrong product is off by another number in every layer
    assert len(lines) == 1 and "weights as they are" in lines[0]


def test_a_warning_is_said_once_for_each_cause(monkeypatch):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in ("one\nline", "one line", "another"):
            settings.warn_once(text)
        for text in ("off by 1", "off by 2"):
            settings.warn_once(text, cause="numbers")
    assert [str(w.message) for w in caught] == ["one line", "another", "off by 1"]

"""Sampling: greedy equals transformers' own, the draws follow the model, and a row does not hang on
its neighbours.
"""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import chisquare
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from accord import compat
from accord.sampling.kv_cache import RoomyLayer, spread_rows
from accord.sampling.local import LocalSampler, _batches, _invert, _nucleus
from accord.types import UsageError

torch.set_num_threads(1)
VOCABULARY, END = 37, 5
PROMPTS = [
    (3, 1, 4),
    (1, 5, 9, 2, 6, 5, 3),
    (5,),
    (8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2),
    (3, 1, 4),
    (2, 7),
    (1, 8, 2, 8),
]


def decode(tokens, skip_special_tokens) -> str:
    return " ".join(str(token) for token in tokens if not (skip_special_tokens and token == END))


TOKENIZER = SimpleNamespace(eos_token_id=END, decode=decode)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
    shape["num_key_value_heads"] = 2
    ends = dict(eos_token_id=END, pad_token_id=0, bos_token_id=1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=64, initializer_range=0.7, **shape, **ends
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    ends = dict(eos_token_id=END, pad_token_id=0, bos_token_id=1)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.7,
        **ends,
    )
    return GPT2LMHeadModel(config).eval()  # dropout of 0.1 in training mode


@pytest.fixture(params=[llama, gpt2], ids=["llama", "gpt2"])
def model(request):
    return request.param()


def first_logits(model, prompt) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0, -1].double()


def test_greedy_equals_transformers_generate(model):
    """Row by row, without padding, against `generate`; in our one padded batch some rows end long
    before others.
    """
    running_on = LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=20, temperature=0)
    model.generation_config.eos_token_id = [END, running_on[1].tokens[4], running_on[3].tokens[2]]
    answers = LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=20, temperature=0)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20
        )
        assert list(answer.tokens) == expected[0, len(prompt) :].tolist()
    # else no row left the batch before the others
    assert len({len(answer.tokens) for answer in answers}) > 1


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_p": 0.8}], ids=str)
def test_a_row_does_not_hang_on_its_batch(model, options):
    together = LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=12, seed=3, **options)
    for batch_tokens in (1, 45):  # every row alone; two or three at once
        apart = LocalSampler(model, TOKENIZER, batch_tokens=batch_tokens).sample(
            PROMPTS, max_new_tokens=12, seed=3, **options
        )
        assert [a.tokens for a in apart] == [a.tokens for a in together]
        assert_allclose([a.logprob for a in apart], [a.logprob for a in together], rtol=1e-5)


def test_randomness_is_of_seed_and_row():
    """The same prompt in other rows is answered otherwise; rows added behind change nothing."""

    def tokens(prompts, seed=0):
        return [
            a.tokens
            for a in LocalSampler(model, TOKENIZER).sample(prompts, max_new_tokens=12, seed=seed)
        ]

    model, same = llama(), [PROMPTS[0]] * 8
    assert len(set(tokens(same))) > 4
    assert tokens(same + PROMPTS)[:8] == tokens(same) != tokens(same, seed=1)
    # 0 unless another is named
    assert [
        a.tokens for a in LocalSampler(model, TOKENIZER).sample(same, max_new_tokens=12)
    ] == tokens(same)


def test_rows_of_like_length_are_computed_together():
    """So that little is padded, and a prompt that comes again is computed once; no batch holds more
    than it may.
    """
    long, short = (5,) * 9, (7, 7)
    prompts = [long, short, (6,) * 9, short, long]
    assert list(_batches(prompts, 1, 20)) == [[1, 3], [0, 4], [2]]
    assert list(_batches(prompts, 1, 30)) == [[1, 3, 0], [4, 2]]
    assert list(_batches(prompts, 1, 1)) == [[1], [3], [0], [4], [2]]


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"top_p": 0.7}, {"temperature": 0}], ids=str
)
def test_logprob_is_the_models_at_temperature_one(model, options):
    """Against one full forward without cache or padding, whatever the answer was sampled at."""
    for prompt, answer in zip(
        PROMPTS,
        LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=9, seed=2, **options),
        strict=True,
    ):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer.tokens])).logits[0].double()
        logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        expected = logps[range(len(answer.tokens)), list(answer.tokens)].sum().item()
        assert answer.logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.6), (2.0, 0.6)]
)
def test_first_tokens_follow_the_distribution(temperature, top_p):
    """Frequencies of 8,000 draws within 5 standard errors of the closed form, and nothing outside
    the nucleus.
    """
    model, draws = llama(), 8_000
    options = {"temperature": temperature, "top_p": top_p}
    answers = LocalSampler(model, TOKENIZER).sample(
        [PROMPTS[1]] * draws, max_new_tokens=1, **options
    )
    expected = (first_logits(model, PROMPTS[1]) / temperature).softmax(0).numpy()
    order = np.argsort(-expected)
    # smallest set that holds top_p
    inside = order[: 1 + int(np.searchsorted(np.cumsum(expected[order]), top_p))]
    nucleus = np.zeros_like(expected)
    nucleus[inside] = expected[inside] / expected[inside].sum()
    drawn = np.bincount([a.tokens[0] for a in answers], minlength=VOCABULARY) / draws
    assert not drawn[nucleus == 0].any()
    assert (np.abs(drawn - nucleus) <= 5 * np.sqrt(nucleus * (1 - nucleus) / draws) + 1e-9).all()


def test_inverse_cdf_never_takes_what_has_no_probability():
    """At the ends of the uniform's range, with zeros around,
    and with a total that is not quite 1.
    """
    rows = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]] * 3 + [[0.0, 0.3, 0.0, 0.3, 0.0]])
    uniform = torch.tensor([0.0, 0.25, 1 - 2**-24, 1 - 2**-24])
    assert _invert(rows, uniform).tolist() == [1, 3, 3, 3]


def test_an_answer_ends_where_the_model_ends_it():
    answers = LocalSampler(llama(), TOKENIZER).sample(PROMPTS * 4, max_new_tokens=10, seed=7)
    assert {a.ended for a in answers} == {True, False}
    for answer in answers:
        assert answer.ended == (answer.tokens[-1] == END)
        assert END not in answer.tokens[:-1]
        assert answer.ended or len(answer.tokens) == 10
        assert answer.text.split() == [str(t) for t in answer.tokens if t != END]


def test_every_end_token_of_the_generation_settings_ends():
    """Chat models may have several: the tokenizer's alone would let answers run on."""
    model = llama()
    model.generation_config.eos_token_id = [END, 11]
    answers = LocalSampler(model, TOKENIZER).sample(PROMPTS * 6, max_new_tokens=10, seed=7)
    assert {a.tokens[-1] for a in answers if a.ended} == {END, 11}


def test_training_is_not_disturbed():
    """Dropout is off while sampling; modes, gradients and the global generators are as they were
    before.
    """
    model = gpt2()
    quiet = LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=8)
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=8) == quiet
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_repeated_prompt_is_computed_once():
    model, seen = llama(), []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    LocalSampler(model, TOKENIZER).sample(
        [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]], max_new_tokens=2
    )
    assert seen[0] == (2, 7)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"max_new_tokens": 0}, "at least one token"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"prompts": [()]}, "prompt is empty"),
        ({"max_new_tokens": 60}, "64 positions"),
    ],
)
def test_what_cannot_be_is_refused_in_words(change, says):
    options = {"prompts": PROMPTS, "max_new_tokens": 4, **change}
    with pytest.raises(UsageError, match=says):
        LocalSampler(llama(), TOKENIZER).sample(options.pop("prompts"), **options)


def test_an_answer_may_fill_the_last_position():
    """11 tokens of the longest prompt and 53 new ones are the model's 64 positions; one more are
    not.
    """
    assert LocalSampler(llama(), TOKENIZER).sample([PROMPTS[3]], max_new_tokens=53, temperature=0)
    with pytest.raises(UsageError, match="64 positions"):
        LocalSampler(llama(), TOKENIZER).sample([PROMPTS[3]], max_new_tokens=54, temperature=0)


def test_no_prompts_no_answers():
    assert LocalSampler(llama(), TOKENIZER).sample([], max_new_tokens=4) == []


# ---------------------------------------------------------------- the fast ways


def test_inverse_cdf_over_many_blocks():
    """Against one cumulative sum in float64, over a vocabulary that no block divides; zeros are
    never taken.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(400, 3 * 256 + 37, generator=generator) ** 8
    weights[:, 100:600] = 0
    uniform = torch.rand(400, generator=generator)
    cumulative = weights.double().cumsum(1)
    expected = torch.searchsorted(
        cumulative, uniform.double()[:, None] * cumulative[:, -1:], right=True
    ).squeeze(1)
    found = _invert(weights, uniform)
    assert (found == expected).double().mean() > 0.97  # rounding moves a border now and then
    apart = (
        cumulative.gather(1, found[:, None]) - cumulative.gather(1, expected[:, None])
    ).abs() / cumulative[:, -1:]
    assert apart.max() < 0.02 and (weights.gather(1, found[:, None]) > 0).all()


def test_a_large_nucleus_and_a_small_one_in_one_batch():
    """One row's nucleus is a token, the other's has 900 of 1,000: each gets its own, whatever
    stands beside it.
    """
    flat, sharp = torch.ones(1_000), torch.zeros(1_000)
    sharp[7] = 1
    uniform = torch.rand(2_000, generator=torch.Generator().manual_seed(0))
    together = _nucleus(torch.stack([flat, sharp]).repeat(1_000, 1), uniform, 0.9)
    assert (together[1::2] == 7).all()
    # equal weights keep their order
    assert together[::2].unique().numel() > 500 and together[::2].max() < 900
    assert torch.equal(together[::2], _nucleus(flat.repeat(1_000, 1), uniform[::2], 0.9))


def test_whole_answers_follow_the_distribution():
    """Chi-square of 6,000 answers of two tokens against the model's own probabilities of each
    pair.
    """
    model, draws = llama(), 6_000
    answers = LocalSampler(model, TOKENIZER, batch_tokens=10**6).sample(
        [PROMPTS[1]] * draws, max_new_tokens=2, seed=11
    )
    first = first_logits(model, PROMPTS[1]).softmax(0)
    expected = {(END,): first[END].item()}
    for token in range(VOCABULARY):
        if token != END:
            second = first_logits(model, (*PROMPTS[1], token)).softmax(0)
            expected |= {
                (token, other): (first[token] * second[other]).item() for other in range(VOCABULARY)
            }
    seen = Counter(answer.tokens for answer in answers)
    common = [pair for pair, p in expected.items() if p * draws >= 5]
    rare = 1 - sum(expected[pair] for pair in common)
    counts = [seen[pair] for pair in common]
    outcome = chisquare(
        [*counts, draws - sum(counts)], [*(expected[pair] * draws for pair in common), rare * draws]
    )
    assert outcome.pvalue > 1e-3 and len(common) > 50


def test_the_cache_writes_new_tokens_in_their_place():
    """No tensor of the cache is made anew while an answer grows; rows that leave take nothing of
    the others along.
    """
    model, rows = llama(), torch.tensor([0, 0, 1])
    with torch.no_grad():
        cache = compat.cache_of(model(torch.tensor([[3, 1, 4], [1, 5, 9]]), use_cache=True))
        spread_rows(cache, rows, 5)
        where = cache.layers[0].keys.data_ptr()
        model(
            torch.tensor([[2], [6], [5]]), use_cache=True, **{compat.cache_argument(model): cache}
        )
        assert (
            type(cache.layers[0]) is RoomyLayer
            and cache.layers[0].keys.data_ptr() == where
            and cache.get_seq_length() == 4
        )
        cache.batch_select_indices(torch.tensor([1, 2]))
        found = model(
            torch.tensor([[7], [8]]), use_cache=True, **{compat.cache_argument(model): cache}
        ).logits[:, -1]
        expected = model(torch.tensor([[3, 1, 4, 6, 7], [1, 5, 9, 5, 8]])).logits[:, -1]
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_sliding_window_keeps_its_own_cache():
    """Its layers forget; they are no plain ones. Greedy answers longer than the window equal
    `generate`.
    """
    torch.manual_seed(3)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        sliding_window=6,
        initializer_range=0.7,
        eos_token_id=END,
        pad_token_id=0,
        bos_token_id=1,
    )
    model = MistralForCausalLM(config).eval()
    for answer, prompt in zip(
        LocalSampler(model, TOKENIZER).sample(PROMPTS, max_new_tokens=14, temperature=0),
        PROMPTS,
        strict=True,
    ):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=14
        )
        assert list(answer.tokens) == expected[0, len(prompt) :].tolist()

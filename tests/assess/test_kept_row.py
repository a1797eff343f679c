"""A row that stays from one answer to the next: the tokens that sampling draws, and no token of a
conversation computed twice.
"""

from types import SimpleNamespace

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from accord.models.load import load
from accord.sampling import kept_row
from accord.sampling.growing_text import GrowingText
from accord.sampling.kept_row import NEVER, PIECES, TOKENS, KeptRow
from accord.sampling.local import LocalSampler
from accord.types import UsageError

VOCABULARY, END = 37, 5
A, B = (3, 1, 4, 1, 7), (9, 2, 6)
SHAPE = dict(
    vocab_size=VOCABULARY,
    max_position_embeddings=64,
    initializer_range=0.7,
    eos_token_id=END,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def model_of(network):
    tokenizer = SimpleNamespace(eos_token_id=END, decode=lambda tokens, skip_special_tokens: "")
    return SimpleNamespace(network=network.eval(), device=network.device, tokenizer=tokenizer)


@pytest.fixture
def llama():
    torch.manual_seed(0)
    return model_of(LlamaForCausalLM(LlamaConfig(**SHAPE)))


@pytest.fixture
def sliding():
    """A model with a window of 4 positions in every other layer: such a cache gives nothing up."""
    torch.manual_seed(0)
    return model_of(Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=4, sliding_window=4)))


def answer_of(kept: KeptRow, prompt, **options) -> tuple[int, ...]:
    return tuple(token.id for token in kept.draw(prompt, **{"max_new_tokens": 8} | options))


def sampled(model, prompt, row=0, **options):
    sampler = LocalSampler(model.network, model.tokenizer)
    return sampler.sample([prompt], **{"max_new_tokens": 8} | options, first_row=row)[0]


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.8, "top_p": 0.9}, {}])
@pytest.mark.parametrize("number", [0, 3])
def test_tokens_and_logps_are_those_of_sampling(llama, options, number):
    row = KeptRow(llama)
    expected = sampled(llama, A, row=number, seed=7, **options)
    drawn = list(row.draw(A, max_new_tokens=8, seed=7, row=number, **options))
    assert tuple(token.id for token in drawn) == expected.tokens
    assert [token.logp for token in drawn] == pytest.approx(expected.logps, abs=1e-5)
    assert drawn[-1].ends == expected.ended and row.way == PIECES


def test_nothing_is_computed_twice(llama):
    """Every token of a conversation goes through the network once, the last of an answer when the
    next turn comes.
    """
    row = KeptRow(llama)
    first = answer_of(row, A, temperature=0)
    assert row.computed == len(A) + len(first) - 1
    prompt = (*A, *first, *B)
    second = answer_of(row, prompt, temperature=0)
    assert row.computed == len(prompt) + len(second) - 1
    assert second == answer_of(KeptRow(llama), prompt, temperature=0)
    assert second == sampled(llama, prompt, temperature=0).tokens


def test_another_draw_computes_one_token(llama):
    row = KeptRow(llama)
    answer_of(row, A, seed=1)
    before = row.computed
    again = answer_of(row, A, seed=1, row=1)
    assert row.computed == before + len(again)  # the last token of the prompt, and the answer's
    assert again == sampled(llama, A, row=1, seed=1).tokens


@pytest.mark.parametrize("name", ["llama", "sliding"])
def test_a_conversation_that_goes_on_otherwise(name, request):
    """The tokens that differ are taken back, or all of them where the cache cannot give them up."""
    model = request.getfixturevalue(name)
    row = KeptRow(model)
    for prompt in (A, (*A, 8, 2), (*A[:3], 9, 9, 9, 9, 1), B, (*A, *B, *A)):
        assert answer_of(row, prompt, temperature=0) == sampled(model, prompt, temperature=0).tokens


def test_an_answer_that_is_broken_off(llama):
    row = KeptRow(llama)
    stopped = row.draw(A, max_new_tokens=8, temperature=0)
    first = [next(stopped).id, next(stopped).id]
    stopped.close()
    prompt = (*A, *first, *B)
    assert answer_of(row, prompt, temperature=0) == sampled(llama, prompt, temperature=0).tokens


@pytest.mark.parametrize(("shortest", "way"), [(2, TOKENS), (1, NEVER)])
def test_a_cache_that_continues_wrongly_is_not_trusted(llama, monkeypatch, shortest, way):
    """A recurrent model may leave its state out where several tokens come at once."""
    right = kept_row.call

    def forgetful(model, ids, cache):
        return right(model, ids, None if ids.shape[1] >= shortest else cache)

    row, expected = KeptRow(llama), [sampled(llama, p, temperature=0).tokens for p in (A, B)]
    said = []
    monkeypatch.setattr(kept_row, "call", forgetful)
    monkeypatch.setattr(kept_row, "warn_once", lambda text, cause: said.append(text))
    assert [answer_of(row, p, temperature=0) for p in (A, B)] == expected
    assert row.way == way and len(said) == (1 if way == TOKENS else 2)
    assert "are not continued by pieces, which is slower: its logits differ" in said[0]


def test_a_prompt_that_does_not_fit_is_refused_with_its_length(llama):
    with pytest.raises(UsageError, match="60 tokens and 8 new ones"):
        answer_of(KeptRow(llama), A * 12)


def test_no_half_of_a_character_is_shown(tiny_folder):
    tokenizer = load(str(tiny_folder), dtype="float32").tokenizer
    text = "naïve 🙂 漢字 end"
    growing = GrowingText(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [growing.add(token) for token in ids]
    assert len(ids) > len(text) - 5 and "".join(pieces) == text and "\ufffd" not in "".join(pieces)
    cut = GrowingText(tokenizer)
    pieces = [cut.add(token) for token in ids[: ids.index(ids[-1])][:9]]
    assert "".join(pieces) + cut.finish() == cut.text

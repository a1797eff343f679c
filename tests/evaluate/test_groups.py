"""Answers of models whose padding or cache is not what their forward pass computes."""

import warnings

import pytest
import torch

from accord.environment.settings import AccordWarning
from accord.sampling import trials
from accord.sampling.local import LocalSampler
from benchmarks import small_models

PROMPTS = [(3, 17, 40), (50, 61, 9, 20, 26, 35, 31), (75,), (3, 17, 40), tuple(range(20, 41))]


class Words:
    """A tokenizer of which only the end and the text are read."""

    eos_token_id = 2

    def decode(self, ids, skip_special_tokens=True):
        return str(ids)


def apart(network, prompt, answer) -> float:
    """Largest difference of an answer's log-probs to those of the bare network, the row alone."""
    ids = torch.tensor([[*prompt, *answer.tokens]])
    with torch.no_grad():
        logits = network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    own = logits.log_softmax(-1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
    return (own - torch.tensor(answer.logps)).abs().max().item()


# what each kind decodes by: a state; positions counted by the cache; a window; no cache at all
WAYS = {
    "mamba": trials.GROUPED,
    "lfm2": trials.GROUPED,
    "bart": trials.GROUPED,
    "rwkv": trials.ANEW,
    "moshi": trials.ANEW,
    "openai-gpt": trials.ANEW,
    "mistral": trials.PADDED,
    "gpt2": trials.PADDED,
}


@pytest.mark.parametrize("family", WAYS)
def test_answers_have_the_bare_networks_log_probs(family):
    network = small_models.small_model(family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccordWarning)
        sampler = LocalSampler(network, Words())
        answers = sampler.sample(PROMPTS, max_new_tokens=12, seed=1)
        again = sampler.sample(PROMPTS, max_new_tokens=12, seed=1)
    assert trials._ways[network] == WAYS[family]
    assert [a.tokens for a in answers] == [a.tokens for a in again]
    assert max(apart(network, p, a) for p, a in zip(PROMPTS, answers, strict=True)) < 5e-5


def test_a_state_that_goes_wrong_later_is_seen(monkeypatch):
    """The numbers are right up to the third token: the batch is drawn again, without a cache."""
    network = small_models.small_model("lfm2")
    own, calls = trials.call, []

    def drifting(model, new, cache, **where):
        logits, cache = own(model, new, cache, **where)
        calls.append(1)
        return (logits.flip(1) if len(calls) > 6 and new.shape[1] == 1 else logits), cache

    monkeypatch.setattr(trials, "call", drifting)
    with pytest.warns(AccordWarning, match="from their beginning, which is slower"):
        answers = LocalSampler(network, Words()).sample(PROMPTS[:1], max_new_tokens=12, seed=1)
    assert apart(network, PROMPTS[0], answers[0]) < 5e-5


def test_an_error_of_every_way_is_not_hidden(monkeypatch):
    network = small_models.small_model("gpt2")

    def broken(*_, **__):
        raise RuntimeError("injected here")

    monkeypatch.setattr(network, "forward", broken)
    with pytest.raises(RuntimeError, match="injected here"), warnings.catch_warnings():
        warnings.simplefilter("ignore", AccordWarning)
        LocalSampler(network, Words()).sample(PROMPTS[:1], max_new_tokens=2, seed=1)

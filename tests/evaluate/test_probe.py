"""What samples look like and what they cost in KL, by hand."""

import pytest
import torch
from training.helpers import ready_for

from accord.evaluate.probe import (
    KLReference,
    distribution_metrics,
    divergences,
    repeated_share,
    sample_metrics,
)
from accord.sampling.sampler import Sample


def said(*tokens: int, text: str = "so", ended: bool = True) -> Sample:
    return Sample(tokens, text, "stop" if ended else "length", (0.0,) * len(tokens))


def test_figures_by_hand():
    """Three answers of 3, 8 and 1 tokens; two of them ended, one without a visible character, one
    with 1 of 5 grams repeated.
    """
    samples = [said(1, 2, 3), said(1, 2, 3, 4, 1, 2, 3, 4, ended=False), said(9, text=" \n")]
    expected = {"tokens": 4.0, "repeated": 1 / 15, "ended": 2 / 3, "empty": 1 / 3, "longer": 0.5}
    assert sample_metrics(samples) == pytest.approx(expected)  # against themselves: each a tie
    # longer, as long, shorter
    assert sample_metrics(samples, before=[2, 8, 5])["longer"] == pytest.approx(1.5 / 3)
    with pytest.raises(ValueError):
        sample_metrics(samples, before=[2, 8])


def test_repeated():
    assert repeated_share((1, 2, 3, 4, 1, 2, 3, 4)) == pytest.approx(
        1 / 5
    )  # 5 grams, one of them twice
    assert repeated_share((1, 2, 3)) == 0 and repeated_share((7,) * 10) == pytest.approx(6 / 7)


def test_spread_by_hand(tiny_folder, pairs_file):
    """KL, entropy and top-1 of one answer, from whole distributions computed token by token."""
    ready = ready_for(tiny_folder, pairs_file)
    with torch.no_grad():
        for p in ready.model.trainable().values():
            p.add_(0.05)
    prompt, answer = ready.source.rows.trees[0].prompt, ready.source.rows.trees[0].completions[0]
    start = KLReference.of(ready.learner.forward, ready.learner.reference)
    got = distribution_metrics(
        ready.model, [prompt], [Sample(answer, "", "stop", (0.0,) * len(answer))], start
    )
    kl, entropy, top = 0.0, 0.0, 0.0
    for i in range(len(answer)):
        ids = torch.tensor([(*prompt, *answer[:i])])
        with torch.no_grad():
            now = ready.model.network(input_ids=ids).logits[0, -1].double().softmax(0)
            with ready.model.as_reference():
                then = ready.model.network(input_ids=ids).logits[0, -1].double().softmax(0)
        kl += (now * (now / then).log()).sum().item()
        entropy -= (now * now.log()).sum().item() / len(answer)
        top += now.max().item() / len(answer)
    assert got == {
        "kl": pytest.approx(kl, rel=1e-4),
        "entropy": pytest.approx(entropy, rel=1e-4),
        "top1": pytest.approx(top, rel=1e-4),
    }
    assert "kl" not in distribution_metrics(
        ready.model, [prompt], [Sample(answer, "", "stop", (0.0,) * len(answer))], None
    )


def test_an_answer_s_divergence_is_its_own(tiny_folder, pairs_file):
    """Two prompts and answers of other lengths: each KL is what `spread` says of that answer alone,
    and not a mean.
    """
    ready = ready_for(tiny_folder, pairs_file)
    with torch.no_grad():
        for p in ready.model.trainable().values():
            p.add_(0.05)
    start = KLReference.of(ready.learner.forward, ready.learner.reference)
    prompts = [tree.prompt for tree in ready.source.rows.trees[:2]]
    samples = [
        said(*ready.source.rows.trees[0].completions[0]),
        said(*ready.source.rows.trees[1].completions[0][:2]),
    ]
    alone = [
        distribution_metrics(ready.model, [prompt], [sample], start)
        for prompt, sample in zip(prompts, samples, strict=True)
    ]
    assert divergences(ready.model, prompts, samples, start) == pytest.approx(
        [one["kl"] for one in alone]
    )
    assert alone[0]["kl"] > alone[1]["kl"] > 0
    both, lengths = (
        distribution_metrics(ready.model, prompts, samples, start),
        [len(sample.tokens) for sample in samples],
    )
    # an answer counts as one
    assert both["kl"] == pytest.approx(sum(one["kl"] for one in alone) / 2)
    for name in ("entropy", "top1"):  # a token counts as one
        assert both[name] == pytest.approx(
            sum(one[name] * n for one, n in zip(alone, lengths, strict=True)) / sum(lengths)
        )
    for figure in (divergences, distribution_metrics):
        with pytest.raises(ValueError):
            figure(ready.model, prompts, samples[:1], start)


def test_what_training_started_from(tiny_folder, pairs_file):
    frozen = ready_for(tiny_folder, pairs_file, lora=False, reference="frozen")
    assert (
        KLReference.of(frozen.learner.forward, frozen.learner.reference).forward.model
        is not frozen.model
    )
    cached = ready_for(tiny_folder, pairs_file, lora=False, reference="cached")
    assert KLReference.of(cached.learner.forward, cached.learner.reference) is None

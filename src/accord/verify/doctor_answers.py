"""The doctor's examinations of a model's own answers: drawing them, and one update of a policy
gradient on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from transformers import PreTrainedModel

from accord.config.build import build
from accord.data.ledger import Ledger
from accord.data.order import Order
from accord.data.prompts import Question
from accord.data.sample_prompts import PromptRow
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext, accumulate, make_batch
from accord.forward.logps import oracle
from accord.forward.rounding import CEILING
from accord.models.language import LanguageModel
from accord.models.lora import add_lora
from accord.objectives import resolve
from accord.rewards.reward import PerAnswer, Weighted
from accord.rollouts.prompts import PromptFile, PromptSet
from accord.rollouts.source import RolloutSource
from accord.runs.display import SilentDisplay
from accord.runs.signals import Stop
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Prompt, Sample
from accord.types import Finding, Origin, Tree, Turn
from accord.verify import tiny
from accord.verify.rollout_proofs import on_policy
from accord.verify.step0 import prove_sampled

LENGTHS = (4, 7, 7, 13)  # of prompts: some are padded, two are not
LONGEST = 8  # tokens of an answer
# Nats by which an answer's log-prob may change in float32 when it is drawn alone; the tokens must
# be the same. A wrong mask or position moves them by .01 and more.
ALONE = 1e-3
METHOD, K = "grpo", 4
PEAK = 2e-2  # a step that is visible in float32 and in bfloat16


def draw_in_every_way(
    network: PreTrainedModel, k: int, device: torch.device, dtype: torch.dtype
) -> Finding:
    """Check K answers of the sampler to each of some prompts: their log-probs are the model's own,
    and in float32 each answer is the one drawn alone.
    """
    model = tiny.model_of(network, device, dtype)
    prompts = tiny.prompts(network.config.vocab_size, LENGTHS)
    asked = [prompt for prompt in prompts for _ in range(k)]
    answers = _sample(model, asked)
    gap = _gap(model, prompts, answers, k)
    allowed = 2 * CEILING[dtype].mean
    evidence: dict = {"nats_a_token": gap, "allowed": allowed}
    says = (
        f"{len(answers)} answers, {k} to a prompt: log-probs within {gap:.1e} nats a token of the"
        " model's own"
    )
    if not gap <= allowed:
        says += f" (allowed {allowed:g}): what is drawn is not what the model says"
        return Finding("", "refused", says, evidence, "report this with your versions")
    if dtype == torch.float32:
        alone = _sample(model, asked, batch_tokens=1)
        if apart := _apart(answers, alone):
            says = f"{len(apart)} of {len(answers)} answers are others when they are drawn alone"
            evidence = {"first": apart[0]}
            return Finding("", "refused", says, evidence, "report this with your versions")
        says += "; each the same when drawn alone"
    return Finding("", "ok", says, evidence)


def _sample(model: LanguageModel, asked: Sequence[Prompt], batch_tokens: int = 16_384):
    sampler = LocalSampler(model.network, model.tokenizer, batch_tokens=batch_tokens)
    return sampler.sample(asked, max_new_tokens=LONGEST)


@torch.no_grad()
def _gap(
    model: LanguageModel, prompts: Sequence[Prompt], answers: Sequence[Sample], k: int
) -> float:
    """Compute the mean distance of the answers' log-probs to the oracle's, nats per token."""
    trees = [
        Tree(prompt, tuple(answer.tokens for answer in answers[i * k : (i + 1) * k]), i)
        for i, prompt in enumerate(prompts)
    ]
    known = oracle(model, trees).reduce()
    return fmean(
        abs(answer.logprob - total) / count
        for answer, total, count in zip(
            answers, known.sum.tolist(), known.count.tolist(), strict=True
        )
    )


def _apart(together: Sequence[Sample], alone: Sequence[Sample]) -> list[int]:
    """List the numbers of the answers that differ."""
    return [
        i
        for i, (one, other) in enumerate(zip(together, alone, strict=True))
        if one.tokens != other.tokens or not abs(one.logprob - other.logprob) <= ALONE
    ]


# ---------------------------------------------------------------- a policy gradient


def policy_gradient(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> Finding:
    """Make answers, rewards, advantages, the proofs of a run, one update, and answers of the
    updated policy, all by the code that trains.
    """
    model = tiny.model_of(network, device, dtype)
    add_lora(model, rank=4, alpha=8, targets="attention", dropout=0.0, dora=False, seed=0)
    learner, optimizer, source = _run(model)
    first = source.drawn_batch(0, fresh=True)
    found = prove_sampled(learner, optimizer, first)
    if bad := [finding for finding in found if finding.refused]:
        says = "; ".join(f"{finding.check}: {finding.says}" for finding in bad)
        return Finding("", "refused", says, {f.check: f.evidence for f in bad}, bad[0].remedy)
    before = {name: master.clone() for name, master in optimizer.masters.masters.items()}
    batch = make_batch(learner, 0, source.batch(0))
    records = accumulate(learner, batch, optimizer.masters)
    norm = optimizer.grad_norm()
    optimizer.update(0, norm)
    after = optimizer.masters.masters
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    lost = [name for name in before if not after[name].isfinite().all()]
    finite = bool(records["loss"].isfinite().all()) and bool(norm.isfinite()) and not lost
    if not finite or not moved:
        says = f"one update of {METHOD}: " + (
            "no weight moved" if finite else "loss, gradient or weights are not finite"
        )
        return Finding("", "refused", says, {"norm": norm.item()}, "report this with your versions")
    then = on_policy(source.drawn_batch(1, fresh=True).figures["rollouts/sampler_gap"], learner)
    if then.refused:
        return Finding("", "refused", f"after one update {then.says}", then.evidence, then.remedy)
    says = (
        f"{METHOD}: {len(found)} proofs hold, {len(moved)} tensors moved by one update of"
        f" {len(LENGTHS) * K} answers, and the next are the new policy's"
    )
    return Finding("", "ok", says, {finding.check: finding.evidence for finding in found})


def _run(model: LanguageModel) -> tuple[UpdateContext, Optimizer, RolloutSource]:
    """Prepare a run on a few prompts, as `prepare_rollouts` does from a file."""
    ids = tiny.prompts(model.network.config.vocab_size, LENGTHS)
    fields = {
        "rollouts.num_generations": K,
        "rollouts.max_new_tokens": LONGEST,
        "rollouts.rewards": ["length"],
    }
    config = build(
        model="tiny", data="-", method=METHOD, steps=2, batch_size=len(ids), fields=fields
    )
    questions = [
        Question((Turn("user", f"question {i}"),), Origin("-", i + 1)) for i in range(len(ids))
    ]
    asked = PromptRow(questions, ids, Counter())
    prompts = PromptSet(PromptFile("-", "", Ledger("-")), asked, {})
    answers = _sample(model, [prompt for prompt in ids for _ in range(2)])
    probe = [
        Tree(prompt, (answers[2 * i].tokens, answers[2 * i + 1].tokens), i)
        for i, prompt in enumerate(ids)
    ]
    learner, optimizer = tiny.learner_of(model, resolve(METHOD), probe, PEAK)
    if learner.reference is None:  # KL is measured against one in any case
        learner = UpdateContext(
            learner.forward,
            learner.objective,
            tiny.reference_of(learner.forward),
            learner.budget,
            learner.seed,
        )
    source = RolloutSource(
        config,
        prompts,
        Order(len(ids), len(ids), 0),
        Weighted([(PerAnswer("number", _number), 1.0)]),
        None,
        learner,
        LocalSampler.of(model, weights=optimizer.masters.masters),
        SilentDisplay(),
        Stop(),
        None,
    )
    return learner, optimizer, source


def _number(answer: str, row: Mapping) -> float:
    """Read the number in the answer's last word, "w17", which differs between answers."""
    words = answer.split()
    return float(words[-1].strip("w") or 0) if words else 0.0

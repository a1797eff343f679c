"""An evaluation on held-out prompts: the policy answers them, and its answers are scored.

The draws depend only on (seed, answer), so two evaluations differ only by the policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from accord.data.order import draw_rows
from accord.engine.batch_source import Evaluation, EvaluationContext
from accord.evaluate.intervals import AT_LEAST_ZERO, UNBOUNDED, bootstrap_mean
from accord.evaluate.probe import divergences, repeated_share
from accord.rollouts.batches import group_by_prompt
from accord.rollouts.measuring import assign_rewards, kl_reference, score_answers
from accord.rollouts.prompts import PromptSet
from accord.rollouts.record import Answer
from accord.types import Diverged

if TYPE_CHECKING:
    from accord.rollouts.source import RolloutSource

DRAWS = 1_000_003  # far from the draws of training


def evaluate_answers(source: RolloutSource, context: EvaluationContext) -> Evaluation:
    """Compute held-out metrics, and write the answers to answers.jsonl."""
    held_out, config = source.held_out, source.config
    assert held_out is not None, "an evaluation needs held-out prompts"
    k, seed = config.rollout_settings.num_generations_eval, config.train.seed
    numbers = draw_rows(len(held_out), config.evaluate.rows, seed)
    context.doing(f"answering {len(numbers):,} held-out prompts, {k} times each")
    answers = source.draw_together(held_out, numbers, k, seed + DRAWS, 0)
    groups = group_by_prompt(answers)

    def judged(own: range) -> list[dict]:
        mine = [answer for i in own for answer in groups[i]]
        assign_rewards(source.reward, held_out, mine)
        kl = divergences(
            source.learner.forward.model,
            [held_out.trees[a.prompt] for a in mine],
            mine,
            kl_reference(source.learner),
        )
        gold: list[float | None] = [None] * len(mine)
        if source.gold is not None:
            gold = score_answers(source.gold, held_out, mine).values.tolist()
        source.judging.write(source.world)
        return [
            {"answer": answer.as_dict(), "kl": nats, "gold": value}
            for answer, nats, value in zip(mine, kl, gold, strict=True)
        ]

    found = source.world.share_out(len(groups), judged)
    answers = [Answer.from_dict(each["answer"]) for each in found]
    kl = [each["kl"] for each in found]
    gold = np.array([each["gold"] for each in found]) if source.gold is not None else None
    for i, answer in enumerate(answers):
        context.append(
            "answers.jsonl",
            _line(context.step, held_out, answer, kl[i], None if gold is None else float(gold[i])),
        )
    return Evaluation(summarise_answers(answers, kl, gold))


def summarise_answers(
    answers: Sequence[Answer], kl: Sequence[float], gold: np.ndarray | None
) -> dict[str, float]:
    """Compute means over answers; reward, gold and KL with intervals clustered by prompt.

    Args:
      kl: [N] nats per answer to the reference, from the whole distribution at each position: less
        noise than log-ratios.
      gold: [N], NaN for an answer without one; None without a gold reward.

    Raises:
      Diverged: no answer has a reward.
    """
    known = [a for a in answers if a.reward is not None]
    if not known:
        raise Diverged(
            f"No held-out answer has a reward: {answers[0].failure}. The checkpoints before are"
            " intact."
        )
    out = {"eval_missing": 1 - len(known) / len(answers)}
    rewards = [a.reward for a in known if a.reward is not None]
    out |= _estimated("eval_reward", rewards, [a.prompt for a in known])
    out |= _estimated("eval_kl", kl, [a.prompt for a in answers], AT_LEAST_ZERO)
    if gold is not None:
        fine = [(g, a.prompt) for g, a in zip(gold, answers, strict=True) if not math.isnan(g)]
        out |= {"eval_gold_missing": 1 - len(fine) / len(answers)} | (
            _estimated("eval_gold", *zip(*fine, strict=True)) if fine else {}
        )
    for name in known[0].parts if len(known[0].parts) > 1 else ():
        if values := [part for a in known if (part := a.parts.get(name)) is not None]:
            out[f"eval_reward/{name}"] = float(np.mean(values))
    return out | {
        "eval_tokens": float(np.mean([a.count for a in answers])),
        "eval_ended": float(np.mean([a.ended for a in answers])),
        "eval_repeated": float(np.mean([repeated_share(a.tokens) for a in answers])),
    }


def _estimated(
    name: str,
    values: Sequence[float],
    clusters: Sequence[int],
    bounds: tuple[float, float] = UNBOUNDED,
) -> dict[str, float]:
    found = bootstrap_mean(values, clusters=clusters, bounds=bounds)
    # one or two prompts, or values that are all alike
    if not math.isfinite(found.low) or not math.isfinite(found.high):
        return {name: found.value}
    return {name: found.value, f"diag/{name}_low": found.low, f"diag/{name}_high": found.high}


def _line(step: int, held_out: PromptSet, answer: Answer, kl: float, gold: float | None) -> dict:
    """Make one line of answers.jsonl."""
    return {
        "step": step,
        "at": str(held_out.question(answer.prompt).origin),
        "prompt": answer.prompt,
        "text": answer.text,
        "tokens": answer.count,
        "ended": answer.ended,
        "reward": answer.reward,
        "failure": answer.failure,
        "parts": answer.parts,
        "kl": kl,
        **({} if gold is None else {"gold": None if math.isnan(gold) else gold}),
    }

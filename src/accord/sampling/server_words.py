"""Words for the findings of a probe of a sampling server."""

from __future__ import annotations

import math

from accord.sampling.gap import Gap, Verdict, Weighed

SHOWN = 6  # causes that were weighed, in a message


def summarise(verdict: Verdict, what: str) -> str:
    """Say in one line that a probe agreed, and what it could not tell apart."""
    # an infinite error: both are one policy
    blind = [w for w in verdict.weighed if not w.told_apart and math.isfinite(w.error)]
    words = " or ".join(f"{w.hypothesis.name!r}" for w in blind)
    more = f"; too near to tell from {words}" if blind else ""
    return f"{what}: server and trainer agree {_gap(verdict.gap, verdict.bound)}{more}"


def explain(verdict: Verdict, what: str, server: str) -> str:
    """Say by how much the server's log-probs differ, why, and what to do."""
    begin = f"the log-probs of the server at {server} for {what} differ from the trainer's"
    size = f"{begin} {_gap(verdict.gap, verdict.bound)}"
    if not verdict.causes:
        return (
            f"unexplained gap: {size}. None of the causes that were tried accounts for it:"
            f" {_weighed(verdict)}.\nAnswers would be learned from as if this policy had drawn"
            " them. Look for what differs between the two (kernels, quantisation,"
            " rotary scaling), or accept it: --set"
            f" rollouts.max_gap={math.ceil(verdict.gap.mean * 15) / 10:g}"
        )
    names = " or ".join(dict.fromkeys(w.hypothesis.name for w in verdict.causes))
    first = verdict.causes[0]
    causes = ", or of ".join(w.hypothesis.cause for w in verdict.causes)
    evidence = f"They are those of {causes}: {_numbers(first)}."
    return f"{names}: {size}. {evidence}\n{first.hypothesis.remedy}"


def other_base(verdict: Verdict, name: str, server: str) -> str:
    """Say that the server's model is not the one that the policy starts from."""
    return (
        f"other base: without any adapter, the log-probs of {name!r} at {server} differ from those"
        f" of the policy's base {_gap(verdict.gap, verdict.bound)}, and no other cause that was"
        f" tried accounts for it: {_weighed(verdict)}.\nStart the server with the model of"
        " model.name: accord serve-policy prints the command."
    )


def _gap(gap: Gap, bound: float) -> str:
    return (
        f"within {gap.mean:.2g} nats a token on {gap.tokens} tokens (allowed {bound:g})"
        if gap.mean <= bound
        else f"by {gap.mean:.2g} nats a token on {gap.tokens} tokens (allowed {bound:g})"
    )


def _weighed(verdict: Verdict) -> str:
    return "; ".join(f"{w.hypothesis.name} ({_numbers(w)})" for w in verdict.weighed[:SHOWN])


def _numbers(weighed: Weighed) -> str:
    if not math.isfinite(weighed.error):
        return "it predicts the trainer's own log-probs"
    slope = f"they go {weighed.slope:.2f} ± {weighed.error:.2f} of the way"
    return f"{slope}, and {weighed.left:.2g} nats a token are left"

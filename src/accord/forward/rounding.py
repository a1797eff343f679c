"""Rounding of log-probs: measured on this machine, with this model, on rows of the run.

Two correct computations of one log-prob differ, and by how much depends on the processor, the
libraries and the model: the largest difference of a token between transformers' eager and SDPA
attention was 2e-5 nats in float32 and .44 in bfloat16 (SmolLM2-135M, AMD Zen 2). So a bound that
decides over a run is the difference between other correct computations here, times FACTOR. It is
never above a ceiling that still catches the faults it is for: a skipped adapter, a wrong mask, a
neighbour that is seen, scores of other tokens. All of these are off by far more than the ceilings.

The computations that are compared are transformers' own and share no code with the paths that are
judged by them: eager in one batch; SDPA; each answer alone, few rows before the head; all in
reverse order and padded further.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from accord.forward.logps import TokenLogps, attending, oracle
from accord.forward.regimes import in_regimes
from accord.forward.scores import TokenScores, oracle_scores
from accord.models.language import LanguageModel
from accord.models.reward import RewardModel
from accord.types import PerCompletion, Scores, Tree

# Room for the tail of rounding: a run has hundreds of times as many rows as the probe, and a path
# has kernels of its own. In float32 the mean difference between the tree path and eager attention
# was 3 to 5 times that between SDPA and eager. bfloat16's ceilings are near the measured values.
FACTOR = {torch.float64: 16.0, torch.float32: 16.0, torch.bfloat16: 4.0}
TOGETHER = 4  # answers of a padded batch: whole logits of many long rows would not fit
PADDED = 64  # tokens that are added to the longest at most


@dataclass(frozen=True)
class Bounds:
    """Differences in nats, or in units of score, that rounding may account for."""

    token: float  # largest, of one token's log-prob
    answer: float  # largest, of the mean over an answer's tokens
    mean: float  # mean over tokens, or over answers

    def scaled(self, factor: float) -> Bounds:
        return Bounds(self.token * factor, self.answer * factor, self.mean * factor)

    def clamped(self, low: Bounds, high: Bounds) -> Bounds:
        """Clamp each of the three between its least and its largest value; NaN becomes the
        largest.
        """

        def one(value: float, least: float, most: float) -> float:
            return min(max(value, least), most) if value == value else most

        return Bounds(
            one(self.token, low.token, high.token),
            one(self.answer, low.answer, high.answer),
            one(self.mean, low.mean, high.mean),
        )


# No measurement may exceed these. float64 is for tests: most families still compute norms, rotary
# angles and softmax in float32 then. bfloat16 keeps 8 bits: a logit near 20 is spaced 0.125.
CEILING = {
    torch.float64: Bounds(token=1e-5, answer=1e-5, mean=1e-6),
    torch.float32: Bounds(token=2e-3, answer=1e-3, mean=2e-4),
    torch.bfloat16: Bounds(token=3.0, answer=1.5, mean=0.3),
}
# A few rows may differ by luckily little, or not at all (a tiny model whose kernels agree bit for
# bit): 2^11 spacings of 1 nat in float32, a tenth of the ceiling or less; a sixth in bfloat16.
FLOOR = {
    torch.float64: CEILING[torch.float64],
    torch.float32: Bounds(token=2.4e-4, answer=1e-4, mean=2.5e-5),
    torch.bfloat16: Bounds(token=0.5, answer=0.25, mean=0.05),
}


def ceiling(dtype: torch.dtype) -> Bounds:
    """Return the most that may count as rounding in a dtype."""
    return CEILING[dtype]


def bounds(model: LanguageModel, probe: Sequence[Tree]) -> Bounds:
    """Measure what counts as rounding for this model: FACTOR times the measured difference, within
    the limits.

    Args:
      probe: a few short trees of the run's own data.
    """
    dtype = model.dtype
    if not probe:
        return ceiling(dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            found = measure_rounding(model, probe)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        # the trial of a path follows; it reports what is wrong with the model
        return ceiling(dtype)
    return found.scaled(FACTOR[dtype]).clamped(FLOOR[dtype], CEILING[dtype])


@torch.no_grad()
def allowed_mean(model: LanguageModel, trees: Sequence[Tree], wanted: PerCompletion) -> float:
    """Measure the mean difference per token of some answers that rounding may account for.

    It is measured with the weights as they stand now: a network that has been nudged or trained is
    rougher than the one that `bounds` was measured on.

    Args:
      wanted: the answers' sums, each alone in the bare network.
    """
    try:
        other = _definition(model, trees, "sdpa").reduce()
    except (ValueError, ImportError):
        other = _definition(model, trees).reduce()
    apart = (other.sum - wanted.sum).abs()
    apart = apart if isinstance(wanted, Scores) else apart / wanted.count
    high, low = CEILING[model.dtype].answer, FLOOR[model.dtype].answer
    found = FACTOR[model.dtype] * apart.mean().item()
    return min(max(found, low), high) if found == found else high


@torch.no_grad()
def measure_rounding(model: LanguageModel, probe: Sequence[Tree]) -> Bounds:
    """Measure the largest differences between transformers' own ways to the same numbers."""
    wanted = _definition(model, probe)
    found = [_apart(other, wanted) for other in _others(model, probe)]
    return Bounds(
        max(b.token for b in found), max(b.answer for b in found), max(b.mean for b in found)
    )


def answer_alone(
    model: LanguageModel, tree: Tree, attention: str = "eager"
) -> TokenLogps | TokenScores:
    """Compute one answer alone in the bare network; only its own positions meet the head.

    Few rows meet the head, as in the paths. A product of few rows with 49,152 columns is summed
    differently from one of many, less exactly on some processors (1.7e-6 against 3.8e-7 of random
    numbers), and SmolLM2's log-probs were off by 1.5e-5 nats per token by that alone. Models
    that cannot leave logits out compute all of them.

    Args:
      tree: with one completion.
    """
    (completion,) = tree.completions
    network = model.network
    if isinstance(model, RewardModel) or not _keeps_few(network):
        return _definition(model, [tree], attention)
    ids = torch.tensor([[*tree.prompt, *completion]], device=model.device)
    with attending(model, attention):
        output = network(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=len(completion))
    logits = output.logits[0, -len(completion) :]
    logps = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
    values = logps.gather(1, ids[0, len(tree.prompt) :, None]).squeeze(1)[[*tree.scored_in(0)]]
    count = torch.tensor([len(values)], device=ids.device)
    return TokenLogps(values, torch.zeros_like(values), torch.zeros_like(ids[0, :1]), count)


def _keeps_few(network: torch.nn.Module) -> bool:
    return "logits_to_keep" in inspect.signature(network.forward).parameters


def _definition(
    model: LanguageModel, trees: Sequence[Tree], attention: str = "eager"
) -> TokenLogps | TokenScores:
    if isinstance(model, RewardModel):
        return oracle_scores(model, trees, attention)
    return in_regimes(oracle)(model, trees, attention)


def _others(model: LanguageModel, probe: Sequence[Tree]) -> Iterator[Tensor]:
    """Yield the same values, [C] (of a reward model [N]), computed in other ways."""
    alone = [replace(tree, completions=(c,)) for tree in probe for c in tree.completions]
    with suppress(ValueError, ImportError):  # a model with only one attention raises these
        yield _definition(model, probe, "sdpa").values
    yield torch.cat([answer_alone(model, tree).values for tree in alone])
    yield _backwards_and_padded(model, alone)


def _backwards_and_padded(model: LanguageModel, alone: Sequence[Tree]) -> Tensor:
    """Compute the answers in reverse order, a few at a time, each few beside an answer that is
    longer than any.
    """
    longest = max(alone, key=lambda tree: len(tree.prompt) + len(tree.completions[0]))
    answer = longest.completions[0]
    positions = model.positions
    room = (positions or len(longest.prompt) + 2 * len(answer)) - len(longest.prompt)
    # a row that is beyond the positions already, as permitted, gets no longer one
    longer = replace(longest, completions=((answer + answer[:PADDED])[: max(room, len(answer))],))
    found: list[Tensor] = []
    for start in range(0, len(alone), TOGETHER):
        few = list(reversed(alone[start : start + TOGETHER]))
        values = _definition(model, [*few, longer]).values
        if isinstance(model, RewardModel):
            found += reversed(values[:-1].split(1))
        else:
            sizes = [len(tree.completions[0]) for tree in (*few, longer)]
            found += reversed(values.split(sizes)[:-1])
    return torch.cat(found)


def _apart(other: Tensor, wanted: TokenLogps | TokenScores) -> Bounds:
    gap = (other - wanted.values).abs()
    if isinstance(wanted, TokenScores):
        return Bounds(gap.max().item(), gap.max().item(), gap.mean().item())
    sums = torch.segment_reduce(other - wanted.values, "sum", lengths=wanted.count, unsafe=True)
    return Bounds(gap.max().item(), (sums.abs() / wanted.count).max().item(), gap.mean().item())

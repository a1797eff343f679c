"""Several objectives of one kind of rows, added up: `dpo+0.1*sft`.

    loss = Σ_k w_k · (Σ of part k's rows' losses / part k's own denominator)

One forward pass gives every part its log-probs. Parts differ in what they are divided by: pairs by
the rows of the batch, sft by its answer tokens. The step divides by rows, so a part that is divided
by tokens comes into a row's loss times rows / tokens, both of the *whole* batch (`of_batch`). Then
no split into micro-batches or ranks changes the gradient.

A part's weight may be `wpo` as well as a number: `wpo*ipo`, `0.5*wpo*dpo+sft` (see `weighting`).
"""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.config.objective_list import split_terms, written
from accord.objectives.closed_forms import ClosedForm, Row, Value
from accord.objectives.objective import ROWS_IN_WORDS, BoundObjective, Objective
from accord.objectives.options import Kind, with_kinds
from accord.objectives.weighting import WPO, weighted
from accord.types import (
    DemonstrationLogps,
    Logps,
    LossOutput,
    PairLogps,
    RowLogps,
    Scores,
    UsageError,
)

RATIO = "rows_per_token"  # the keyword that a whole batch gives: its rows / its answer tokens
SAYS = "A mixture is written dpo+0.1*sft: names of objectives, each with its weight (1 if none)"


@dataclass(frozen=True)
class Term:
    """One part of a mixture."""

    objective: Objective
    weight: float
    weighed: bool  # whether the weight was written
    by_policy: bool = False  # whether each pair is weighed by WPO

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def spelled(self) -> str:
        """Return it as it stands in a mixture's name."""
        number = f"{written(self.weight)}*" if self.weighed else ""
        return number + f"{WPO}*" * self.by_policy + self.name

    @property
    def by_tokens(self) -> bool:
        """Tell whether its denominator is the batch's answer tokens."""
        return self.objective.denominator == "tokens"


@dataclass(frozen=True)
class Mixture(Objective):
    """A sum of objectives. Its options are its parts': {"dpo": {"beta": 0.1}, "sft": {}}."""

    terms: tuple[Term, ...] = ()

    def bind(
        self, given: Mapping[str, object], allow: frozenset[str] = frozenset()
    ) -> BoundObjective:
        """Bind every part to its options.

        Args:
          given: an option by its name where one part alone has it, or a part's options under the
            part's name.

        Raises:
          UsageError: a part's own error; an option that several parts have, or none, or that is
            given twice.
        """
        by_part = self._sorted(given)
        bound = tuple(term.objective.bind(by_part[term.name], allow) for term in self.terms)
        for term in self.terms:
            if term.weighed and "weight" in term.objective.kinds.keys() - by_part[term.name].keys():
                raise UsageError(
                    f"{self.name}: {term.name} has an option of the name weight as well as its"
                    f" weight in the mixture, {term.weight:g}. Say which is which: write the"
                    " mixture as above, and give the option too: --set"
                    f" objective.{term.name}.weight=VALUE."
                )
        return BoundMixture(self, {part.name: part.options for part in bound}, bound)

    def _defaults(self) -> dict[str, object]:
        return {
            name: term.objective._defaults()[name]
            for term in self.terms
            for name in term.objective.kinds
            if name in self.kinds
        }

    def _sorted(self, given: Mapping[str, object]) -> dict[str, dict[str, object]]:
        """Sort options by part."""
        names = [term.name for term in self.terms]
        found: dict[str, dict[str, object]] = {name: {} for name in names}
        for key in names:
            own = given.get(key, {})
            if not isinstance(own, Mapping):
                raise UsageError(
                    f"{self.name}: {key} = {own!r:.60}; expected the options of its part, such as"
                    f" {key}: {{}}."
                )
            found[key] = dict(own)
        for key in given.keys() - set(names):
            takers = [term.name for term in self.terms if key in term.objective.kinds]
            if key == "weight":
                raise UsageError(
                    f"{self.name}: a part's weight is written before it: dpo+0.1*sft. An"
                    " option of a part is given as --set objective.PART.weight=VALUE."
                )
            if len(takers) != 1:
                raise UsageError(self._nobodys(key, takers))
            if key in found[takers[0]]:
                raise UsageError(
                    f"{self.name}: {key} is given twice, alone and under {takers[0]}. Give it"
                    f" once: --set objective.{takers[0]}.{key}=VALUE."
                )
            found[takers[0]][key] = given[key]
        return found

    def _nobodys(self, key: str, takers: list[str]) -> str:
        if takers:
            each = " and ".join(f"--set objective.{name}.{key}=VALUE" for name in takers)
            return (
                f"{self.name}: {' and '.join(takers)} each have an option {key}, so {key} alone"
                f" does not say whose it is. Give each its own: {each}."
            )
        options = "; ".join(
            f"{term.name}: {', '.join(term.objective.kinds) or 'none'}" for term in self.terms
        )
        return f"{self.name}: no part of it knows the keyword {key!r}. Options are {options}."


@dataclass(frozen=True)
class BoundMixture(BoundObjective):
    """A mixture with the options of its parts."""

    bound: tuple[BoundObjective, ...] = ()

    @property
    def parts(self) -> tuple[BoundObjective, ...]:
        return self.bound

    @property
    def judge(self) -> BoundObjective:
        """Return the part whose rewards and margins are the mixture's."""
        return next(part for part in self.bound if _judges(part.objective, self.rows))

    @property
    def margins(self) -> bool:
        """Tell whether a part reads each row's margin."""
        return any(part.margins for part in self.bound)

    @property
    def flat_options(self) -> dict[str, object]:
        """Return the options by path: {"dpo.beta": 0.1}."""
        return {
            f"{part.name}.{name}": value
            for part in self.bound
            for name, value in part.options.items()
        }


def _judges(part: Objective, rows: str) -> bool:
    """Tell whether a part compares answers: one that only imitates has no reward to do it by."""
    return part.rows == rows


def is_mixture(name: str) -> bool:
    """Tell whether an objective's name is that of a mixture."""
    return "+" in name or "*" in name


def mixture(name: str, find: Callable[[str], Objective]) -> Mixture:
    """Make the objective that `dpo+0.1*sft` names.

    Args:
      find: a part's name -> its objective; raises UsageError where there is none.

    Raises:
      UsageError: it is not written so, a weight is no number above 0, a part stands there twice
        or alone, or the parts do not go together.
    """
    terms = tuple(_terms(name, find))
    rows = _rows(name, terms)
    judge = next(term for term in terms if _judges(term.objective, rows))
    closed = all(term.objective.closed_form is not None for term in terms)
    largest = max((term.objective for term in terms), key=lambda part: part.batch_size)

    def losses(
        policy: RowLogps,
        reference: RowLogps | None = None,
        *,
        rows_per_token: Tensor | None = None,
        **options: Mapping[str, object],
    ) -> LossOutput:
        return _losses(terms, policy, reference, options, rows_per_token)

    def reward(policy: Logps | Scores, reference: Logps | None, **options: dict) -> Tensor:
        return judge.objective.reward(policy, reference, **options[judge.name])

    return Mixture(
        spelled(terms),
        with_kinds(losses, _kinds(terms)),
        rows=rows,
        reference=any(term.objective.reference for term in terms),
        reward=reward,
        convention=lambda options: _convention(terms, judge, options),
        learning_rate=min(term.objective.learning_rate for term in terms),
        source="; ".join(f"{term.name}: {term.objective.source}" for term in terms),
        when="several objectives at once",
        at_reference=lambda options: _at_reference(terms, options),
        columns=frozenset().union(*(term.objective.columns for term in terms)),
        of_batch=_ratio if any(term.by_tokens for term in terms) else None,
        closed_form=_closed_form(terms) if closed else None,
        batch_size=largest.batch_size,
        batch_reason=largest.batch_reason,
        terms=terms,
    )


# ---------------------------------------------------------------- what is written


def spelled(terms: Iterable[Term]) -> str:
    """Write a mixture's name."""
    return "+".join(term.spelled for term in terms)


def _terms(name: str, find: Callable[[str], Objective]) -> Iterator[Term]:
    seen: set[str] = set()
    pieces = split_terms(name)
    for piece in pieces:
        *weights, part = (factor.strip() for factor in piece.split("*"))
        numbers = [weight for weight in weights if weight != WPO]
        by_policy = WPO in weights
        if not part or not all(weights) or len(numbers) > 1 or len(weights) - len(numbers) > 1:
            raise UsageError(f"objective {name!r}: {piece!r} is no part. {SAYS}.")
        objective = weighted(find(part)) if by_policy else find(part)
        # wpo is wpo*dpo by another name
        alias = {"wpo": "wpo*dpo"}.get(objective.name, f"{WPO}*" * by_policy + objective.name)
        if objective.name in seen or alias in seen:
            raise UsageError(
                f"objective {name!r}: {part} is there twice. One part has one weight: add the two,"
                " or leave one out."
            )
        seen |= {objective.name, alias}
        weight = _weight(name, part, numbers[0]) if numbers else 1.0
        yield Term(objective, weight, bool(numbers), by_policy)
    if len(pieces) == 1 and numbers:
        raise UsageError(
            f"objective {name!r}: a mixture has two parts or more. The weight of a single one only"
            f" scales the learning rate: --method {shlex.quote(f'{WPO}*' * by_policy + part)}."
        )


def _weight(name: str, part: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise UsageError(
            f"objective {name!r}: the weight of {part} is {text.strip()!r}, which is no number."
            f" {SAYS}."
        ) from None
    if math.isfinite(weight) and weight > 0:
        return weight
    why = {
        weight == 0: "a part of weight 0 trains nothing: leave it out",
        weight < 0: "a negative one trains away from what the part is for",
    }.get(True, "that is no finite number")
    raise UsageError(
        f"objective {name!r}: the weight of {part} is {text.strip()}; {why}. It must be a finite"
        " number above 0."
    )


def _rows(name: str, terms: Sequence[Term]) -> str:
    """Find the kind of rows that all parts train on."""
    for term in terms:
        part = term.objective
        if part.rows == "rollouts":
            raise UsageError(
                f"objective {name!r}: {part.name} is a policy gradient: it trains on answers that"
                " the policy draws, and their advantages. It is not mixed with another objective."
            )
        if part.needs == "scores":
            raise UsageError(
                f"objective {name!r}: {part.name} trains a reward model's scores, and other"
                " objectives log-probs of answers. A reward model's objective is not mixed."
            )
        if part.couples_batch:
            raise UsageError(
                f"objective {name!r}: a row's loss under {part.name} depends on a baseline from"
                " answers to other prompts, for which a mixture has no place. It is not mixed."
            )
        if part.running is not None:
            raise UsageError(
                f"objective {name!r}: a row's loss under {part.name} depends on the updates before,"
                " and a mixture keeps nothing from update to update. It is not mixed."
            )
    kinds = {term.objective.rows for term in terms}
    if kinds == {"pairs", "demonstrations"}:
        return "pairs"  # of which the chosen answers are demonstrations
    if len(kinds) > 1:
        each = ", ".join(f"{t.name} takes {ROWS_IN_WORDS[t.objective.rows]}" for t in terms)
        raise UsageError(
            f"objective {name!r}: its parts train on different rows ({each}). A batch has one kind."
        )
    return terms[0].objective.rows


def _kinds(terms: Sequence[Term]) -> dict[str, Kind]:
    """Return the options that one part alone has."""
    every = [name for term in terms for name in term.objective.kinds]
    return {
        name: kind
        for term in terms
        for name, kind in term.objective.kinds.items()
        if every.count(name) == 1 and name != "weight"
    }


# ---------------------------------------------------------------- what is computed


def _losses(
    terms: Sequence[Term],
    policy: RowLogps,
    reference: RowLogps | None,
    options: Mapping[str, Mapping[str, object]],
    ratio: Tensor | None,
) -> LossOutput:
    """Add up the parts' losses; metrics `part/NAME` are each part's, without its weight, so that
    their means over the rows of a batch are the part's own loss of the batch.
    """
    summands, metrics = [], {}
    for term in terms:
        part = term.objective
        rows = (policy, reference) if part.reference else (policy,)
        output = part.function(*(_own(part, one) for one in rows), **options[term.name])
        losses = output.losses
        if term.by_tokens:
            assert ratio is not None, f"{term.name} is divided by the tokens of a whole batch"
            losses = losses * ratio
        summands.append(term.weight * losses)
        metrics[f"part/{term.name}"] = losses.detach()
        metrics |= {f"part/{term.name}/{key}": value for key, value in output.metrics.items()}
    return LossOutput(torch.stack(summands).sum(0), metrics)


def _own(part: Objective, rows: RowLogps | None) -> RowLogps | None:
    """Shape rows as a part takes them: of a pair, what imitates takes the chosen answer."""
    if part.rows == "demonstrations" and isinstance(rows, PairLogps):
        return DemonstrationLogps(rows.chosen)
    return rows


def _ratio(counts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Compute rows / answer tokens of a batch; of a pair's answers the chosen one's count."""
    tokens = sum(row[0] for row in counts)
    return {RATIO: torch.tensor(len(counts) / tokens, dtype=torch.float64)}


def _closed_form(terms: Sequence[Term]) -> ClosedForm:
    def form(row: Row, options: dict, ratio: float) -> Value:
        loss = 0.0
        slopes: defaultdict[int, float] = defaultdict(float)
        for term in terms:
            part = term.objective
            own = row._replace(answers=row.answers[:1]) if part.rows == "demonstrations" else row
            assert part.closed_form is not None
            value, along = part.closed_form(own, options[term.name], 0.0)
            weight = term.weight * (ratio if term.by_tokens else 1.0)
            loss += weight * value
            for index, slope in enumerate(along):
                slopes[index] += weight * slope
        return loss, tuple(slopes[index] for index in range(max(slopes) + 1))

    return form


def _at_reference(terms: Sequence[Term], options: dict) -> float | None:
    values = [(term.weight, term.objective.at_reference(options[term.name])) for term in terms]
    known = [weight * value for weight, value in values if value is not None]
    return math.fsum(known) if len(known) == len(terms) else None


def _convention(terms: Sequence[Term], judge: Term, options: dict) -> str:
    each = [
        f"{term.weight:g} times {term.name} ({term.objective.convention(options[term.name])}"
        + (", the chosen answers alone)" if term.objective.rows != judge.objective.rows else ")")
        for term in terms
    ]
    return f"{' + '.join(each)}; rewards and margins are {judge.name}'s"

"""Answers to everything that the trainer may ask of an objective, so that no code asks which one it
is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from accord.objectives.closed_forms import ClosedForm
from accord.objectives.options import Bounded, Kind, nearest
from accord.types import Logps, LossOutput, RowLogps, Scores, UsageError

if TYPE_CHECKING:
    from accord.objectives.policy_gradient import Rollouts

# Below this β a nat of log-ratio hardly counts: the policy may move anywhere for a margin.
TINY_BETA = 0.005

# The permissions of `resolve(..., allow=...)`: name -> what is given up.
PERMISSIONS = {
    "tiny_beta": f"beta under {TINY_BETA:g}: next to nothing keeps the policy near where it began"
}

# Names of our keywords in other tools and papers.
KEYWORDS_ALSO_CALLED = {
    "tau": "beta",
    "temperature": "beta",
    "epsilon": "label_smoothing",
    "noise": "label_smoothing",
    "flip_rate": "label_smoothing",
    "lambda": "weight",
    "lambda_": "weight",
    "cpo_alpha": "alpha",
    "simpo_gamma": "gamma",
    "center_rewards_coefficient": "centering",
    "add_margin": "margin",
    "epsilon_high": "clip_high",
    "cliprange": "clip",
    "entropy_coef": "entropy",
    "use_bias_correction_kl": "kl_correction",
}

ROWS_IN_WORDS = {
    "pairs": "pairs",
    "labelled": "labelled answers",
    "demonstrations": "demonstrations",
    "rollouts": "answers of its own",
}


def _unfixed(options: dict) -> float | None:
    return None


# hidden size of SmolLM2-135M, on which the objectives' learning rates were measured
MEASURED_WIDTH = 576


@dataclass(frozen=True)
class Running:
    """Numbers that an objective keeps from update to update, such as BCO's means of rewards.

    Pure functions of a state: the run holds it, and its checkpoints do. An update's losses see what
    the updates before it left, so neither micro-batches nor ranks can change them.
    """

    start: Mapping[str, float]  # the state before the first update
    keywords: Callable[[Mapping[str, float]], dict[str, Tensor]]  # state -> keywords of the loss
    # state, columns [B] of the records of a whole batch -> the state after its update
    after: Callable[[Mapping[str, float], Mapping[str, Tensor]], dict[str, float]]


@dataclass(frozen=True)
class Objective:
    """One row of the table: a loss function, its needs and its meaning."""

    name: str
    function: Bounded[..., LossOutput]
    # "pairs", "labelled" or "demonstrations": what it trains on; "rollouts": the policy's own
    # answers
    rows: str
    reference: bool  # whether it measures against a reference
    # (policy: Logps | Scores, reference: Logps | None, **options) -> [N]
    reward: Callable[..., Tensor]
    convention: Callable[[dict], str]  # options -> one line, reported at the start of a run
    # starting value for LoRA at hidden size 576 (SmolLM2-135M); wider models need less
    learning_rate: float
    source: str
    when: str = ""  # what it is for, in one line
    # how it holds a chosen answer that falls under the reference, by its closed form; "" where
    # both answers may fall together at no cost
    holds: str = ""
    # options -> loss where policy = reference
    at_reference: Callable[[dict], float | None] = _unfixed
    # its inputs: log-probs of a language model, or "scores" of a reward model
    needs: str = "logps"
    margins: bool = (
        False  # whether it reads each row's margin, unless its option `margin` is "none"
    )
    # what it reads of log-probs beside their sums: "shared", "collision" (see `Logps`)
    columns: frozenset[str] = frozenset()
    denominator: str = "rows"  # what the step divides the sum of losses by: "rows" or "tokens"
    # whether a row's loss depends on its batch, through `context`
    couples_batch: bool = False
    # mismatched rows -> keywords
    context: Callable[[Logps, Logps], dict[str, Tensor]] | None = None
    # answer tokens of each row of a whole batch -> keywords
    of_batch: Callable[[Sequence[Sequence[int]]], dict[str, Tensor]] | None = None
    running: Running | None = None  # what it keeps from update to update, if anything
    # options -> options: checks between keywords, defaults that depend
    complete: Callable[[dict], dict] = dict
    # loss and slopes of one row in plain floats; a custom function has none
    closed_form: ClosedForm | None = None
    also_called: tuple[str, ...] = ()  # names in other tools and papers
    batch_size: int = 16  # to start with, and why so many
    batch_reason: str = "the DPO paper takes 64; few rows want more updates"

    @property
    def kinds(self) -> dict[str, Kind]:
        return self.function.kinds

    @property
    def group(self) -> str:
        """Say in words what it needs: its rows, a reference, a head of its own."""
        more = [" and a reference"] * self.reference + [" and a scalar head"] * (
            self.needs == "scores"
        )
        return ROWS_IN_WORDS[self.rows] + "".join(more)

    @property
    def schema(self) -> dict[str, dict]:
        """Describe each keyword: its accepted values and its default (absent if it is required).
        JSON-serialisable.
        """
        return {
            name: {"accepts": kind.words} | ({} if _required(default) else {"default": default})
            for (name, kind), default in zip(
                self.kinds.items(), self._defaults().values(), strict=True
            )
        }

    def bind(
        self, given: Mapping[str, object], allow: frozenset[str] = frozenset()
    ) -> BoundObjective:
        """Bind this objective to keywords, all checked and filled in.

        Raises:
          UsageError: a keyword is unknown, missing, out of bounds or in conflict with another.
        """
        for name in given:
            if name not in self.kinds:
                raise UsageError(self._unknown(str(name)))
        options = self._defaults() | dict(given)
        for name, value in options.items():
            if _required(value):
                accepts = self.kinds[name].words
                raise UsageError(
                    f"{self.name}: {name} must be given; it has no default. It must be {accepts}."
                )
            options[name] = self.kinds[name].check(self.name, name, value)
        self._check_beta(options, allow)
        return self._bound(self.complete(options))

    def _bound(self, options: dict) -> BoundObjective:
        return BoundObjective(self, options)

    def _defaults(self) -> dict[str, object]:
        parameters = self._parameters()
        return {name: parameters[name] for name in self.kinds}

    def _parameters(self) -> dict[str, object]:
        """Return each argument of the function, with its default."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.function).parameters.items()
        }

    def _unknown(self, name: str) -> str:
        accepted = ", ".join(self.kinds) or "no keyword at all"
        meant = nearest(name, self.kinds, KEYWORDS_ALSO_CALLED)
        return (
            f"{self.name} does not know the keyword {name!r}"
            + (f"; did you mean {meant!r}?" if meant else ".")
            + f" It accepts: {accepted}. An option that did nothing would be worse than this error."
        )

    def _check_beta(self, options: dict, allow: frozenset[str]) -> None:
        beta = options.get("beta")
        if isinstance(beta, float) and beta < TINY_BETA and "tiny_beta" not in allow:
            raise UsageError(
                f"{self.name}: beta = {beta:g} is under {TINY_BETA:g}, where next to nothing keeps"
                " the policy near where it began. Papers use 0.01 to 0.5; if you have a reason,"
                " allow 'tiny_beta'."
            )


@dataclass(frozen=True)
class BoundObjective:
    """An objective with its options: everything that the trainer asks of it."""

    objective: Objective
    # every keyword, checked; JSON-serialisable; `resolve(name, options)` gives the same again
    options: dict

    def losses(
        self, policy: RowLogps | Rollouts, reference: RowLogps | None = None, **context: Tensor
    ) -> LossOutput:
        """Compute the loss of each of B rows, not reduced.

        Args:
          policy: log-probs (or scores) of rows of the kind `rows`, which is one of these types.
          reference: log-probs of the same rows, exactly where `reference` is true.
          context: what `context` or `of_batch` computed from the whole batch, and what `running`
            made of the updates before it.

        Raises:
          UsageError: a reference is missing, or given but not used.
        """
        if (reference is not None) != self.reference:
            raise UsageError(
                f"{self.name} measures against a reference, and none was given."
                if self.reference
                else f"{self.name} uses no reference, and one was given: set `reference: none`."
            )
        rows = (policy, reference) if self.reference else (policy,)
        return self.objective.function(*rows, **self.options, **context)

    def reward(self, policy: Logps | Scores, reference: Logps | None = None) -> Tensor:
        """Compute the implicit reward of N completions under this objective, [N]. A reference that
        is not used is ignored. A reward model's objective gets its scores.
        """
        return self.objective.reward(policy, reference, **self.options)

    @property
    def convention(self) -> str:
        """Describe in one line what other tools leave open: sums or means, and what β then
        means.
        """
        return self.objective.convention(self.options)

    @property
    def at_reference(self) -> float | None:
        """Return the loss of any row if policy and reference agree; None if that is not fixed."""
        return self.objective.at_reference(self.options)

    @property
    def schema(self) -> dict[str, dict]:
        return self.objective.schema

    @property
    def closed_form(self) -> ClosedForm | None:
        return self.objective.closed_form

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def rows(self) -> str:
        return self.objective.rows

    @property
    def reference(self) -> bool:
        return self.objective.reference

    @property
    def needs(self) -> str:
        return self.objective.needs

    @property
    def margins(self) -> bool:
        """Tell whether it reads each row's margin."""
        return self.objective.margins and self.options["margin"] != "none"

    @property
    def answers(self) -> bool:
        """Tell whether the trained model gives answers; a reward model gives scores."""
        return self.objective.needs == "logps"

    @property
    def columns(self) -> frozenset[str]:
        return self.objective.columns

    @property
    def denominator(self) -> str:
        return self.objective.denominator

    @property
    def couples_batch(self) -> bool:
        return self.objective.couples_batch

    @property
    def context(self) -> Callable[[Logps, Logps], dict[str, Tensor]] | None:
        return self.objective.context

    def of_batch(self, counts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Compute the keywords that a whole batch gives by the size of its answers alone; none for
        most objectives.

        Args:
          counts: the tokens of each answer, row by row.
        """
        return self.objective.of_batch(counts) if self.objective.of_batch is not None else {}

    @property
    def running(self) -> Running | None:
        return self.objective.running

    def from_running(self, state: Mapping[str, float]) -> dict[str, Tensor]:
        """Compute the keywords that the updates so far give; none for most objectives.

        Args:
          state: what `running` kept of them.
        """
        return self.objective.running.keywords(state) if self.objective.running else {}

    @property
    def parts(self) -> tuple[BoundObjective, ...]:
        """Return the objectives that it is the sum of: itself, where it is no mixture."""
        return (self,)

    @property
    def judge(self) -> BoundObjective:
        """Return the objective whose rewards and margins are reported: itself, where it is no
        mixture.
        """
        return self

    @property
    def flat_options(self) -> dict[str, object]:
        """Return the options by their paths under `objective`."""
        return self.options

    @property
    def learning_rate(self) -> float:
        return self.objective.learning_rate

    def suggested_rate(self, width: int, adapters: bool) -> float:
        """Suggest a peak learning rate to start from: the objective's own, which was measured for
        LoRA on SmolLM2-135M, scaled to the model.

        Adam's rate scales with one over the width (Yang et al. 2022, arXiv:2203.03466, Table 3).
        Training of all weights needs about a tenth of it.
        """
        return self.learning_rate * min(1.0, MEASURED_WIDTH / width) * (1.0 if adapters else 0.1)

    @property
    def source(self) -> str:
        return self.objective.source


def _required(default: object) -> bool:
    return default is inspect.Parameter.empty

"""The methods that learn from the policy's own answers, as rows of a table like `OBJECTIVES`.

    loss        a function of `Rollouts` (policy_gradient.py), and its closed form
                (policy_closed_forms.py)
    estimate    how rewards become advantages, by its name in `accord.rollouts.estimates`, and its
                settings
    critic      whether a value head estimates the expected reward; its loss is added to the other
    facts       what its clip means, its gradient at ratio 1, where that vanishes (policy_facts.py)

A recipe's `objective:` takes the keywords of all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from accord.objectives import policy_closed_forms
from accord.objectives.objective import BoundObjective, Objective
from accord.objectives.options import Bounded, Choice, Kind, Number
from accord.objectives.pairs import log_ratio
from accord.objectives.policy_closed_forms import TokenForm
from accord.objectives.policy_facts import FACTS, LossFacts
from accord.objectives.policy_gradient import (
    Rollouts,
    dapo,
    dr_grpo,
    grpo,
    ppo,
    reinforce,
    value_losses,
)
from accord.objectives.policy_ratios import (
    cispo,
    gspo,
    reinforce_plus_plus,
    reinforce_plus_plus_baseline,
)
from accord.types import LossOutput, RowLogps, UsageError

PENALTY = Number(
    at_least=0, hint="Weight of the KL to the reference in the reward; papers use 0.01 to 0.2."
)
# name -> what it accepts, and its default
SETTINGS: dict[str, dict[str, tuple[Kind, object]]] = {
    "gae": {
        "beta": (PENALTY, 0.05),
        "kl_target": (
            Number(above=0, optional=True, hint="Nats an answer; beta then follows it."),
            None,
        ),
        "gamma": (
            Number(above=0, at_most=1, hint="1 for answers: what counts is how they end."),
            1.0,
        ),
        "lam": (Number(at_least=0, at_most=1), 0.95),
        "whitening": (Choice(("advantages", "none")), "advantages"),
    },
    "group": {},
    "group_unscaled": {},
    "leave_one_out": {"beta": (PENALTY, 0.05)},
    "baseline": {"beta": (PENALTY, 0.05), "decay": (Number(at_least=0, below=1), 0.9)},
    "whitened": {"beta": (PENALTY, 0.05)},
    "group_whitened": {},
}
# of every method: weight of the mean entropy of the predictions, which the loss then raises
ENTROPY: dict[str, tuple[Kind, object]] = {
    "entropy": (Number(at_least=0, hint="0 leaves the bonus out; 0.001 to 0.01 are usual."), 0.0)
}
CRITIC: dict[str, tuple[Kind, object]] = {
    "value_weight": (Number(above=0), 0.1),
    "value_clip": (Number(above=0, optional=True), 0.2),
}


def _log_ratio(policy, reference, **options) -> Tensor:
    return log_ratio(policy, reference)


@dataclass(frozen=True)
class PolicyObjective(Objective):
    """One method. Its rows are `Rollouts`; its reference is what KL is measured against."""

    # how rewards become advantages: a name in accord.rollouts.estimates
    estimate: str = "group"
    # the loss of one answer in plain floats, which the first proof compares with
    token_form: TokenForm = policy_closed_forms.reinforce
    # whether it weighs by ratios to the policy that drew the answers; without them a second pass
    # over a batch is off-policy
    uses_ratios: bool = True

    @property
    def critic(self) -> bool:
        return self.estimate == "gae"

    @property
    def compares(self) -> bool:
        """Tell whether answers are compared with the others of their prompt alone."""
        return self.estimate in ("group", "group_unscaled", "leave_one_out", "group_whitened")

    @property
    def settings(self) -> dict[str, tuple[Kind, object]]:
        """Return the keywords beyond those of the loss."""
        return SETTINGS[self.estimate] | (CRITIC if self.critic else {}) | ENTROPY

    @property
    def facts(self) -> LossFacts:
        return FACTS[self.name]

    @property
    def kinds(self) -> dict[str, Kind]:
        return {**self.function.kinds, **{name: kind for name, (kind, _) in self.settings.items()}}

    def _defaults(self) -> dict[str, object]:
        parameters = self._parameters()
        own = {name: parameters[name] for name in self.function.kinds}
        return own | {name: default for name, (_, default) in self.settings.items()}

    def _bound(self, options: dict) -> BoundPolicy:
        return BoundPolicy(self, options)

    def _check_beta(self, options: dict, allow: frozenset[str]) -> None:
        """Refuse options of the KL term when β is 0. A weight of 0 is allowed: rewards that cannot
        be hacked need no KL term.
        """
        plain = self._defaults()
        idle = next(
            (
                name
                for name in ("kl_target", "kl", "kl_correction")
                if name in options and options[name] != plain[name]
            ),
            None,
        )
        if idle and options["beta"] == 0:
            raise UsageError(
                f"{self.name}: {idle} = {options[idle]}, and beta = 0: there is no KL term, so it"
                " would do nothing. Leave it out."
            )


@dataclass(frozen=True)
class BoundPolicy(BoundObjective):
    """A method with its options."""

    objective: PolicyObjective

    def losses(
        self, policy: RowLogps | Rollouts, reference: RowLogps | None = None, **context: Tensor
    ) -> LossOutput:
        """Compute the loss of each of N answers, not reduced, without the value head's.

        An entropy bonus takes w · H off: the mean H of the answer's tokens where the batch is
        divided by answers, their sum where it is divided by tokens. H is exact, of the whole
        distribution at each token (O'Donoghue et al. 2016, arXiv:1611.01626, Eq. 2).
        """
        assert isinstance(policy, Rollouts), "a policy gradient is given sampled answers"
        own = {name: self.options[name] for name in self.objective.function.kinds}
        output = self.objective.function(policy, **own)
        if not self.entropy_bonus:
            return output
        assert policy.entropy is not None, "the head gives each prediction's entropy"
        of_answers = policy.sums if self.denominator == "tokens" else policy.means
        bonus = self.options["entropy"] * of_answers(policy.entropy)
        return LossOutput(output.losses - bonus, output.metrics)

    def critic_losses(self, expected: Tensor, old: Tensor, returns: Tensor) -> Tensor:
        """Compute the value head's weighted loss of each token, [C]."""
        return self.options["value_weight"] * value_losses(
            expected, old, returns, self.options["value_clip"]
        )

    @property
    def critic(self) -> bool:
        return self.objective.critic

    @property
    def compares(self) -> bool:
        return self.objective.compares

    @property
    def estimate(self) -> str:
        return self.objective.estimate

    @property
    def token_form(self) -> TokenForm:
        return self.objective.token_form

    @property
    def uses_ratios(self) -> bool:
        return self.objective.uses_ratios

    @property
    def entropy_bonus(self) -> bool:
        return self.options["entropy"] > 0

    @property
    def in_loss(self) -> bool:
        """Tell whether a KL term in the loss needs the reference's log-probs."""
        return "beta" in self.objective.function.kinds and self.options["beta"] > 0

    @property
    def settings(self) -> dict[str, object]:
        """Return the options of the estimate."""
        return {name: self.options[name] for name in SETTINGS[self.estimate]}


def _says(what: str) -> Callable[[Mapping], str]:
    def convention(options: Mapping) -> str:
        weight = options.get("beta", 0.0)
        where = {
            True: "in the loss, by the estimator " + str(options.get("kl")),
            False: "in the reward, at each token",
        }["kl" in options]
        if options.get("kl_correction") == "ratio":
            where += ", times the ratio"
        penalty = f"KL weight beta = {weight:g} {where}" if weight else "no KL term"
        bonus = f"; entropy bonus {options['entropy']:g} a nat" if options["entropy"] else ""
        return f"{what}; {penalty}{bonus}; learns from its own answers alone"

    return convention


def _row(
    name: str,
    function: Bounded[..., LossOutput],
    says: str,
    source: str,
    *,
    estimate: str,
    denominator: str,
    token_form: TokenForm,
    when: str,
    uses_ratios: bool = True,
    also_called: tuple[str, ...] = (),
) -> PolicyObjective:
    """Make a row, with the parts that all methods share."""
    return PolicyObjective(
        name,
        function,
        rows="rollouts",
        reference=True,
        reward=_log_ratio,
        convention=_says(says),
        learning_rate=2e-4,
        source=source,
        when=when,
        denominator=denominator,
        estimate=estimate,
        token_form=token_form,
        uses_ratios=uses_ratios,
        also_called=also_called,
    )


_ROWS = (
    _row(
        "ppo",
        ppo,
        "clipped ratios, advantages by GAE with a value head, divided by the batch's tokens",
        "Schulman et al. 2017, arXiv:1707.06347, Eq. 7; Ziegler et al. 2019, arXiv:1909.08593",
        estimate="gae",
        denominator="tokens",
        token_form=policy_closed_forms.ppo,
        when="any reward of sampled answers, with a value head and KL control at each token",
    ),
    _row(
        "grpo",
        grpo,
        "clipped ratios, rewards less their prompt's mean over its deviation, each answer's tokens"
        " averaged",
        "Shao et al. 2024, arXiv:2402.03300, Eq. 3",
        estimate="group",
        denominator="rows",
        token_form=policy_closed_forms.grpo,
        when="rewards that compare several answers of a prompt; no value head",
    ),
    _row(
        "dr_grpo",
        dr_grpo,
        "clipped ratios, rewards less their prompt's mean, divided by one constant length",
        "Liu et al. 2025, arXiv:2503.20783, §3.2",
        estimate="group_unscaled",
        denominator="rows",
        token_form=policy_closed_forms.dr_grpo,
        when="as grpo, without its weights by length and by deviation",
    ),
    _row(
        "dapo",
        dapo,
        "ratios clipped higher above, rewards less their prompt's mean over its deviation, divided"
        " by the batch's tokens",
        "Yu et al. 2025, arXiv:2503.14476, Eqs. 8 and 12",
        estimate="group",
        denominator="tokens",
        token_form=policy_closed_forms.dapo,
        when="as grpo, where answers are long: each token weighs alike",
    ),
    _row(
        "gspo",
        gspo,
        "one clipped ratio a whole answer, rewards less their prompt's mean over its deviation",
        "Zheng et al. 2025, arXiv:2507.18071, Eqs. 5 to 7",
        estimate="group",
        denominator="rows",
        token_form=policy_closed_forms.gspo,
        when="as grpo, where single ratios stray: long answers, mixtures of experts",
        also_called=("grpo_sequence", "sequence"),
    ),
    _row(
        "cispo",
        cispo,
        "log-probs weighed by clipped ratios without a gradient, rewards less their prompt's mean"
        " over its deviation, divided by the batch's tokens",
        "MiniMax 2025, arXiv:2506.13585, Eqs. 4 and 5",
        estimate="group",
        denominator="tokens",
        token_form=policy_closed_forms.cispo,
        when="as grpo, with several updates a batch: no token loses its gradient to the clip",
    ),
    _row(
        "reinforce_plus_plus",
        reinforce_plus_plus,
        "clipped ratios, rewards whitened over the whole batch, divided by the batch's tokens",
        "Hu et al. 2025, arXiv:2501.03262, §3",
        estimate="whitened",
        denominator="tokens",
        token_form=policy_closed_forms.dapo,
        when="few answers a prompt, no value head: the batch is the baseline",
        also_called=("reinforce++", "reinforce_pp", "reinpp"),
    ),
    _row(
        "reinforce_plus_plus_baseline",
        reinforce_plus_plus_baseline,
        "clipped ratios, rewards less their prompt's mean, whitened over the whole batch, divided"
        " by the batch's tokens",
        "Hu et al. 2025, arXiv:2501.03262, §3",
        estimate="group_whitened",
        denominator="tokens",
        token_form=policy_closed_forms.dapo,
        when="as reinforce_plus_plus, with several answers a prompt and rewards of 0 or 1",
        also_called=("reinforce++_baseline", "reinforce_baseline"),
    ),
    _row(
        "rloo",
        reinforce,
        "whole answers' log-probs, rewards less the mean of the prompt's other answers",
        "Ahmadian et al. 2024, arXiv:2402.14740, Eq. 6",
        estimate="leave_one_out",
        denominator="rows",
        token_form=policy_closed_forms.reinforce,
        when="as grpo, unbiased and without ratios: one update a batch",
        uses_ratios=False,
    ),
    _row(
        "reinforce",
        reinforce,
        "whole answers' log-probs, rewards less the mean of former batches",
        "Williams 1992, Machine Learning 8",
        estimate="baseline",
        denominator="rows",
        token_form=policy_closed_forms.reinforce,
        when="one answer a prompt: the simplest",
        uses_ratios=False,
    ),
)

POLICY_OBJECTIVES: dict[str, PolicyObjective] = {row.name: row for row in _ROWS}


def require_source(rows: str, name: str, sampled: bool) -> None:
    """Check that a method can learn from this source.

    Args:
      rows: the kind of rows that the objective trains on.
      sampled: whether the recipe has a section `rollouts`.

    Raises:
      UsageError: it cannot.
    """
    if rows == "rollouts" and not sampled:
        raise UsageError(
            f"{name} learns from the policy's own answers: say how they are drawn and rewarded,"
            " such as --set 'rollouts.rewards=[vader]' (data.train is then a file of prompts)."
        )
    if sampled and rows not in ("rollouts", "pairs"):
        raise UsageError(
            f"{name} trains on {rows}, and rollouts make groups or pairs. Take an objective of"
            f" pairs (dpo, ipo, simpo, …), a policy gradient ({', '.join(POLICY_OBJECTIVES)}), or"
            " leave out the section `rollouts`."
        )

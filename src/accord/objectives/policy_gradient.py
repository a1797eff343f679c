"""Policy gradients: losses of a policy's own answers, token by token, given their advantages.

Every loss here is of one answer and depends only on its own tokens; none is a mean over answers.
Each method's row of `policy_table` names the divisor of the sum of losses ("rows" or "tokens" of
the *whole* batch), so that no split into micro-batches changes a gradient. Advantages come from
`accord.rollouts.advantages`, for the whole batch at once.

N answers · C their tokens, laid end to end in the order of the answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.objectives.numerics import summed
from accord.objectives.options import Choice, Number, bounded
from accord.types import LossOutput, UsageError

# One token's log-ratio in nats beyond which e^x goes on along its tangent: e^20 is finite in
# float32, e^89 is not. A clamp would be finite too, but without a slope: the token that has gone
# furthest would be the one that nothing pulls back (decision 0042).
FURTHEST = 20.0
CLIP = Number(above=0, below=1, hint="0.2 is the usual one.")
CLIP_HIGH = Number(
    above=0, optional=True, hint="DAPO uses 0.28; nothing takes the lower bound for both."
)
BETA = Number(at_least=0, hint="0 leaves the KL term out of the loss; GRPO's paper uses 0.04.")
KL = Choice(("k1", "k2", "k3"), hint="See `kl_terms`: k2 has KL's gradient.")
KL_CORRECTION = Choice(("none", "ratio"), hint="ratio multiplies the KL term by the ratio.")


@dataclass(frozen=True)
class Rollouts:
    """Sampled answers, token by token."""

    logps: Tensor  # [C] nats, under the policy that learns
    old: Tensor  # [C] under the policy that sampled them; no gradient is taken through it
    advantages: Tensor  # [C] of each token; no gradient is taken through it
    count: Tensor  # [N] tokens of each answer, at least 1
    reference: Tensor | None = None  # [C] under the reference, where a KL term is in the loss
    # [C] nats, of the prediction of each token, where a bonus for it is in the loss; differentiable
    entropy: Tensor | None = None

    def __post_init__(self) -> None:
        tokens = int(self.count.sum())
        for name in ("logps", "old", "advantages", "reference", "entropy"):
            values = getattr(self, name)
            if values is not None and tuple(values.shape) != (tokens,):
                raise UsageError(
                    f"{name} of shape {tuple(values.shape)}: the {len(self.count)} answers have"
                    f" {tokens} tokens, so [{tokens}]."
                )

    def sums(self, values: Tensor) -> Tensor:
        """Sum per-token values [C] over each answer, [N], in float64."""
        return summed(values, self.count)

    def means(self, values: Tensor) -> Tensor:
        """Compute the [N] means over each answer's tokens."""
        return self.sums(values) / self.count


# ---------------------------------------------------------------- methods


@bounded(clip=CLIP, clip_high=CLIP_HIGH)
def ppo(rollouts: Rollouts, *, clip: float = 0.2, clip_high: float | None = None) -> LossOutput:
    """Proximal Policy Optimization's clipped surrogate, summed over an answer's tokens. Divide by
    the batch's tokens.

        L = Σ_t -min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε') A_t)    ρ_t = π(y_t | …) / π_old(y_t | …)

    Advantages are those of GAE (`accord.rollouts.advantages.gae`), whose rewards include the KL
    penalty. The value head has a loss of its own, `value_losses`.

    Args:
      rollouts: N answers and their advantages.
      clip, clip_high: ε below, and ε' above; the same if only one is given.

    Returns:
      losses [N], not reduced; metrics of each answer, means over its tokens: `clip_ratio` (share
      whose clip binds, as the PPO code's clip fraction: outside it, on the side that the advantage
      asks for) and `approx_kl` (KL of the sampling policy to this one, k3, nats).

    Source: Schulman et al. 2017, arXiv:1707.06347, Eq. 7.
    """
    losses, metrics = surrogate(rollouts, clip, clip_high)
    return LossOutput(rollouts.sums(losses), metrics)


@bounded(clip=CLIP, clip_high=CLIP_HIGH, beta=BETA, kl=KL, kl_correction=KL_CORRECTION)
def grpo(
    rollouts: Rollouts,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    beta: float = 0.0,
    kl: str = "k3",
    kl_correction: str = "none",
) -> LossOutput:
    """Group Relative Policy Optimization: the clipped surrogate and a KL term, averaged over each
    answer's tokens.

        L = 1/|y| Σ_t [-min(ρ_t A, clip(ρ_t, 1 - ε, 1 + ε') A) + β KL_t]

    Divide by the batch's answers. A is the answer's reward less its group's mean, over the group's
    standard deviation (`group_advantages`). Both divisions bias it: with |y| long wrong answers
    weigh less; with the deviation easy and hard prompts weigh more. `dr_grpo` leaves them out.

    Args:
      rollouts: N answers; with `reference` if beta is above 0.
      beta: weight of the KL term in the loss.
      kl: estimator of the KL. k3 is the paper's; on the policy's own answers its gradient is that
        of KL(ref‖π).
      kl_correction: "ratio" multiplies the KL term by ρ_t, see `with_kl`.

    Returns:
      losses [N], not reduced; metrics as `ppo`, and `kl` in nats per token.

    Source: Shao et al. 2024, arXiv:2402.03300, Eqs. 3 and 4.
    """
    losses, metrics = surrogate(rollouts, clip, clip_high)
    losses, metrics = with_kl(rollouts, losses, metrics, beta, kl, kl_correction)
    return LossOutput(rollouts.means(losses), metrics)


@bounded(
    clip=CLIP,
    clip_high=CLIP_HIGH,
    beta=BETA,
    kl=KL,
    kl_correction=KL_CORRECTION,
    max_tokens=Number(above=0),
)
def dr_grpo(
    rollouts: Rollouts,
    *,
    max_tokens: float,
    clip: float = 0.2,
    clip_high: float | None = None,
    beta: float = 0.0,
    kl: str = "k2",
    kl_correction: str = "none",
) -> LossOutput:
    """GRPO done right: divided by one constant instead of each answer's own length. Divide by the
    batch's answers.

        L = 1/T_max Σ_t [-min(ρ_t A, clip(ρ_t, 1 - ε, 1 + ε') A) + β KL_t]

    A is the reward less the group's mean, without the division by the deviation
    (`group_advantages(…, scale="none")`).

    Args:
      max_tokens: T_max, the longest answer that sampling allows: the same for every batch.

    Returns:
      losses [N], not reduced; metrics as `grpo`.

    Source: Liu et al. 2025, arXiv:2503.20783, §3.2.
    """
    losses, metrics = surrogate(rollouts, clip, clip_high)
    losses, metrics = with_kl(rollouts, losses, metrics, beta, kl, kl_correction)
    return LossOutput(rollouts.sums(losses) / max_tokens, metrics)


@bounded(clip=CLIP, clip_high=CLIP_HIGH)
def dapo(rollouts: Rollouts, *, clip: float = 0.2, clip_high: float | None = 0.28) -> LossOutput:
    """The loss of DAPO: GRPO's surrogate with a higher upper clip, equal weight for each token of
    the batch, and no KL term.

        L = Σ_t -min(ρ_t A, clip(ρ_t, 1 - ε, 1 + ε') A)

    Divide by the batch's tokens.

    Returns:
      losses [N], not reduced; metrics as `ppo`.

    Source: Yu et al. 2025, arXiv:2503.14476, Eqs. 8 (clip-higher) and 12 (token-level loss).
    """
    losses, metrics = surrogate(rollouts, clip, clip_high)
    return LossOutput(rollouts.sums(losses), metrics)


@bounded()
def reinforce(rollouts: Rollouts) -> LossOutput:
    """REINFORCE: the log-prob of a whole answer, weighed by its advantage. Divide by the batch's
    answers.

        L = -Σ_t A_t log π(y_t | …)

    It is right for answers of the policy itself: there is no ratio, so `old` is not read. With
    `leave_one_out` advantages it is RLOO. With any baseline that does not depend on the answer it
    is unbiased.

    Returns:
      losses [N], not reduced.

    Source: Williams 1992, Machine Learning 8; Ahmadian et al. 2024, arXiv:2402.14740, Eqs. 5 and 6
    (RLOO).
    """
    return LossOutput(rollouts.sums(-rollouts.advantages.detach() * rollouts.logps))


# ---------------------------------------------------------------- terms


def kl_terms(logps: Tensor, reference: Tensor, kind: str) -> Tensor:
    """Estimate KL(π‖ref) at each sampled token, [C] nats. With d = log π - log ref:

        k1 = d               unbiased, of high variance, may be negative
        k2 = d² / 2          biased, small while the policies are close
        k3 = e^-d - 1 + d    unbiased, never negative; e^x beyond x = 20 is e^20 (1 + x - 20)

    These are estimates of the *value*. The *gradient* of the term in a loss, with tokens of the
    policy's own, is on average:

        k1   0, since E[∇ log π] = 0. It trains nothing but noise. (In the *reward*, detached,
             k1 is right.)
        k2   ∇KL(π‖ref): the right one.
        k3   ∇KL(ref‖π), the other divergence, whose optimum is another policy.

    Source: Schulman 2020, joschu.net/blog/kl-approx.html (values); Tang and Munos 2025,
    arXiv:2506.09477 (gradients).
    """
    d = logps - reference.detach()
    if kind == "k1":
        return d
    if kind == "k2":
        return 0.5 * d.square()
    assert kind == "k3", kind
    return _k3(-d)


def _k3(x: Tensor) -> Tensor:
    """Compute e^x - 1 - x, beyond FURTHEST with e^x along its tangent."""
    near = x.clamp(max=FURTHEST)
    return torch.expm1(near) + near.exp() * (x - near) - x


def bounded_exp(x: Tensor) -> Tensor:
    """Compute e^x, beyond FURTHEST along its tangent: finite, rising, and never without a slope."""
    near = x.clamp(max=FURTHEST)
    return near.exp() * (1 + x - near)


def value_losses(
    values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None = 0.2
) -> Tensor:
    """Compute the loss of a value head at each token, [C], clipped to stay near its estimates when
    the answers were sampled.

        L_t = ½ max((V_t - R_t)², (clip(V_t, V_old ± ε) - R_t)²)

    Source: PPO's reference code (Dhariwal et al. 2017, OpenAI baselines, ppo2); Huang et al. 2024,
    arXiv:2403.17031.
    """
    plain = (values - returns.detach()).square()
    if clip is None:
        return 0.5 * plain
    held = old_values.detach() + (values - old_values.detach()).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (held - returns.detach()).square())


def surrogate(
    rollouts: Rollouts, clip: float, clip_high: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute -min(ρA, clip(ρ)A) of every token [C], and metrics of every answer [N]."""
    log_ratio = rollouts.logps - rollouts.old.detach()
    losses, clipped = clipped_losses(
        bounded_exp(log_ratio), rollouts.advantages.detach(), clip, clip_high
    )
    return losses, {"clip_ratio": rollouts.means(clipped), "approx_kl": approx_kl(rollouts)}


def clipped_losses(
    ratio: Tensor, advantages: Tensor, clip: float, clip_high: float | None
) -> tuple[Tensor, Tensor]:
    """Compute -min(ρA, clip(ρ)A), of tokens or of answers, and 1 where the clip binds, else 0."""
    near = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    losses = torch.maximum(-advantages * ratio, -advantages * near)
    return losses, (-advantages * near > -advantages * ratio).to(losses.dtype)


def approx_kl(rollouts: Rollouts) -> Tensor:
    """Compute the [N] means of k3 of KL(old‖π), nats a token: the tokens are the old policy's."""
    return rollouts.means(_k3((rollouts.logps - rollouts.old).detach()))


def with_kl(
    rollouts: Rollouts,
    losses: Tensor,
    metrics: dict[str, Tensor],
    beta: float,
    kl: str,
    correction: str,
    ratio: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the weighted KL term to the losses of tokens [C], and its mean to the metrics.

    With the correction "ratio" the term of a token is ρ_t · KL_t, and the gradient goes through ρ
    too. The tokens are those of `old`, so that the mean of ρ · KL_t over them is the mean of KL_t
    over the policy's own: KL(π‖ref) for k1 and k3, and the gradient of both is the KL's (without
    the correction k1 has none and k3 that of the other divergence, even at ρ = 1, where no value
    changes). TRL calls it `use_bias_correction_kl` and has it on unless told otherwise.

    Args:
      ratio: [C] the method's own ratio; None takes the tokens' ratios.

    Source: DeepSeek-AI 2025, arXiv:2512.02556, §3.1 (unbiased KL estimate).
    """
    if (rollouts.reference is not None) != (beta > 0):
        raise UsageError(
            "beta weighs a KL term in the loss, which takes the reference's log-probs: give both,"
            f" or beta = 0 and no reference (beta = {beta:g}, reference"
            f" {'given' if rollouts.reference is not None else 'not given'})."
        )
    if rollouts.reference is None:
        return losses, metrics
    terms = kl_terms(rollouts.logps, rollouts.reference, kl)
    if correction == "ratio":
        own = bounded_exp(rollouts.logps - rollouts.old.detach()) if ratio is None else ratio
        terms = terms * own
    return losses + beta * terms, metrics | {"kl": rollouts.means(terms.detach())}

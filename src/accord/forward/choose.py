"""The one place where the forward path is chosen, by trying it on the model at hand.

Architectures promise much in their configuration; a mask or a scale that we do not know would be silently wrong. So
the tree path is taken only when it gives the oracle's numbers on probe trees with this very model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from accord.forward import attention
from accord.forward.logps import PATHS, TokenLogps
from accord.forward.scores import SCORE_PATHS, TokenScores
from accord.models.language import LanguageModel
from accord.models.reward import RewardModel
from accord.types import Refused, Tree, UsageError

# Largest difference per token, in nats, between two correct computations of one log-prob. float32 bounds are chosen, with
# room: tiny models differ by 1e-6. bfloat16 keeps 8 bits, a logit near 20 is spaced 0.125: 0.3 to 0.5 was the largest seen
# between the tree path and the oracle on SmolLM2-135M. float64 is for tests; most families still compute norms, rotary
# angles and softmax in float32 then.
WORST_TOKEN = {torch.float64: 1e-5, torch.float32: 2e-3, torch.bfloat16: 1.5}
MEAN_TOKEN = {torch.float64: 1e-6, torch.float32: 2e-4, torch.bfloat16: 0.15}
# bfloat16's rounding depends on the rows: on one clean KTO run the tree path was 0.087 and the padded path 0.10 a token
# from the oracle (SmolLM2-135M). So what transformers' own eager and SDPA attention differ by is measured on the probe
# itself, and so many times that is allowed.
ROUNDING = 2.0


@dataclass(frozen=True)
class Forward:
    """A chosen path, bound to its model."""

    model: LanguageModel
    path: str  # "tree" or "padded"
    reason: str  # one line for a person
    worst: float  # largest difference to the oracle on the probe, nats a token

    def __call__(self, trees: Sequence[Tree]) -> TokenLogps | TokenScores:
        return paths_of(self.model)[self.path](self.model, trees)


def paths_of(model: LanguageModel) -> dict:
    """How what this model says of completions can be computed: log-probs, or scores."""
    return SCORE_PATHS if isinstance(model, RewardModel) else PATHS


def choose(model: LanguageModel, probe: Sequence[Tree], wanted: str = "auto") -> Forward:
    """Pick the fastest path that equals the oracle on `probe`, with a reason that can be printed.

    Args:
      probe: a few short trees of the run's own data.
      wanted: "auto", or "tree" / "padded" to insist.

    Raises:
      Refused: the path that was insisted on, or every path, computes other numbers than the model itself.
    """
    if wanted not in ("auto", "tree", "padded"):
        raise UsageError(f"model.forward = {wanted!r}: expected auto, tree or padded.")
    tried = []
    allowed = _allowed(model, probe)
    for path in ("tree", "padded") if wanted == "auto" else (wanted,):
        problem, worst = _problem(model, probe, path, allowed)
        if problem is None:
            return Forward(model, path, _reason(model, path, worst, tried), worst)
        tried.append(f"{path}: {problem}")
    raise Refused(
        "No forward path computes what the model itself computes.\n" + "\n".join(tried)
        + "\nThis architecture is not supported yet; training it would be silently wrong."
    )  # fmt: skip


def looks_nearby(model: LanguageModel) -> bool:
    """Whether some layer sees part of the past only (a window, a chunk, a state): short rows cannot prove a path then."""
    config = model.network.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    narrow = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return bool(kinds - {"full_attention"}) or any(narrow)


def _reason(model: LanguageModel, path: str, worst: float, tried: list[str]) -> str:
    fact = f"equals the model's own {model.measures} on the probe (largest difference {worst:.1e} {model.unit})"
    if path == "tree":
        return f"tree path: each prompt computed once, no padding; {fact}"
    why = f"; the tree path cannot be used: {tried[0].removeprefix('tree: ')}" if tried else " (as asked)"
    return f"padded path{why}; {fact}"


@torch.no_grad()
def _allowed(model: LanguageModel, probe: Sequence[Tree]) -> tuple[float, float]:
    """Largest and mean difference a token that counts as rounding, from what transformers' two attentions differ by."""
    worst, mean = WORST_TOKEN[model.dtype], MEAN_TOKEN[model.dtype]
    if model.dtype != torch.bfloat16 or not getattr(model.network, "_supports_sdpa", False):
        return worst, mean
    oracle = paths_of(model)["oracle"]
    rounding = (oracle(model, probe, "sdpa").values - oracle(model, probe).values).abs()
    return max(worst, ROUNDING * rounding.max().item()), max(mean, ROUNDING * rounding.mean().item())


def _problem(
    model: LanguageModel, probe: Sequence[Tree], path: str, allowed: tuple[float, float]
) -> tuple[str | None, float]:
    """Why `path` cannot be used with this model, or None; and its largest difference to the oracle."""
    own = model.network.config._attn_implementation
    if path == "tree" and not _use_tree_attention(model):
        return "the architecture does not use transformers' attention interface", float("inf")
    try:
        difference = compare(model, probe, path)
        worst, mean = difference.max().item(), difference.mean().item()
        if worst <= allowed[0] and mean <= allowed[1]:
            return None, worst
        problem = f"its {model.measures} differ from the model's own by up to {worst:.3g} {model.unit} (mean {mean:.2g})"
    except (attention.UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    if model.network.config._attn_implementation != own:
        model.network.set_attn_implementation(own)
    return problem, float("inf")


@torch.no_grad()
def compare(model: LanguageModel, trees: Sequence[Tree], path: str) -> torch.Tensor:
    """|path − oracle| of every completion token, [C] nats; of every score, [N]."""
    paths = paths_of(model)
    with torch.random.fork_rng(devices=[]):
        return (paths[path](model, trees).values - paths["oracle"](model, trees).values).abs()


def _use_tree_attention(model: LanguageModel) -> bool:
    network = model.network
    if network.config._attn_implementation == attention.NAME:
        return True
    if not network._can_set_attn_implementation():
        return False
    attention.register()
    network.set_attn_implementation(attention.NAME)
    return network.config._attn_implementation == attention.NAME

"""The choice of the forward path, made only here, by trials on the model at hand.

A model may use a mask or a scale that we do not know, and would then be silently wrong. So the tree
path is taken only if it gives the oracle's numbers on probe trees with this very model. Backends
are tried in the order of their table. On a GPU that is flex attention first, whose kernels are
compiled at once: forward and backward are both tried before anything depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from accord import compat
from accord.errors import describe
from accord.forward import attention
from accord.forward.backends import TREE_ATTENTION
from accord.forward.layout import sent
from accord.forward.logps import ORACLE, PATHS, TokenLogps
from accord.forward.regimes import in_regimes
from accord.forward.rounding import Bounds, bounds, ceiling
from accord.forward.scores import SCORE_PATHS, TokenScores
from accord.forward.sharded import joint_path
from accord.models.families import state_of
from accord.models.language import LanguageModel
from accord.models.reward import RewardModel
from accord.types import Refused, Tree, UsageError

# Allowed relative difference of two gradients of the probe's log-probs, for kernels whose backward
# pass is tried too. It is chosen, not measured: a gradient under a wrong mask differs by about 1.
GRADIENT = {torch.float64: 1e-4, torch.float32: 1e-2, torch.bfloat16: 0.3}

# transformers' own attention, one padded row per completion: the last resort, on any device
PADDED = "padded"


@dataclass(frozen=True)
class Forward:
    """A chosen path, bound to its model."""

    model: LanguageModel
    path: str  # a backend of TREE_ATTENTION, or "padded"
    reason: str  # one line for the user
    worst: float  # largest difference to the oracle on the probe, nats per token
    # what rounding may account for, measured on the probe
    rounding: Bounds | None = field(default=None, kw_only=True)
    # what the objective reads of log-probs beside their sums, see `Objective.columns`
    columns: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    def bounds(self) -> Bounds:
        """Return the differences that rounding may account for with this model; the ceilings if
        they were not measured.
        """
        return self.rounding if self.rounding is not None else ceiling(self.model.dtype)

    @property
    def shares_prompts(self) -> bool:
        return self.path in TREE_ATTENTION

    def __call__(self, trees: Sequence[Tree]) -> TokenLogps | TokenScores:
        options = {"collision": True} if "collision" in self.columns else {}
        tokens = paths_of(self.model)[self.path](self.model, trees, **options)
        if "shared" not in self.columns:
            return tokens
        shared = torch.tensor([tree.shortest for tree in trees for _ in tree.completions])
        return replace(tokens, shared=sent(shared, self.model.device))

    def token_logps(self, trees: Sequence[Tree]) -> TokenLogps:
        """Compute a language model's log-probs. A reward model has none."""
        tokens = self(trees)
        assert isinstance(tokens, TokenLogps), "a reward model scores; it has no log-probs"
        return tokens


def paths_of(model: LanguageModel) -> dict:
    """Return the table of paths for this model's outputs: log-probs, or scores."""
    if isinstance(model, RewardModel):
        return SCORE_PATHS
    paths = {name: in_regimes(path) for name, path in PATHS.items()}
    if not model.sharded:
        return paths
    # the oracle calls the network itself, whose forward pass is a joint one
    return {name: path if name == ORACLE else joint_path(path) for name, path in paths.items()}


def choose(model: LanguageModel, probe: Sequence[Tree], wanted: str = "auto") -> Forward:
    """Pick the fastest path that equals the oracle on `probe`; give the reason in words.

    Args:
      probe: a few short trees of the run's own data.
      wanted: "auto", or the name of a path to insist on.

    Raises:
      Refused: the path that was insisted on, or every path, computes numbers that differ from the
        model's own.
    """
    require_path(wanted)
    tried: dict[str, str] = {}
    allowed = bounds(model, probe)
    for path in _candidates(model.device) if wanted == "auto" else (wanted,):
        problem, worst = _problem(model, probe, path, allowed)
        if problem is None:
            return Forward(model, path, _reason(model, path, worst, tried), worst, rounding=allowed)
        tried[path] = problem
    raise Refused(
        "No forward path computes what the model itself computes.\n"
        + "\n".join(f"{path}: {why}" for path, why in tried.items())
        + "\nThis architecture is not supported yet; training it would be silently wrong."
    )


def require_path(wanted: str) -> None:
    """
    Raises:
      UsageError: there is no such path.
    """
    known = ("auto", *TREE_ATTENTION, PADDED)
    if wanted not in known:
        named = f"{', '.join(known[:-1])} or {known[-1]}"
        raise UsageError(f"model.forward = {wanted!r}: expected {named}.")


def looks_nearby(model: LanguageModel) -> bool:
    """Tell whether some layer sees only part of the past (a window, a chunk, a state). Short rows
    then cannot prove a path.
    """
    config = model.network.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    narrow = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return bool(kinds - {"full_attention"}) or any(narrow)


def _candidates(device: torch.device) -> tuple[str, ...]:
    """List the paths from the fastest down. A path that this kind of device does not have is left
    out without a report.
    """
    shared = (name for name, row in TREE_ATTENTION.items() if row.problem(device) is None)
    return (*shared, PADDED)


def _title(path: str) -> str:
    return TREE_ATTENTION[path].title if path in TREE_ATTENTION else f"{path} path"


def _reason(model: LanguageModel, path: str, worst: float, tried: dict[str, str]) -> str:
    what = _title(path) + (" (as asked)" if path == PADDED and not tried else "")
    what += ": each prompt computed once, no padding" if path in TREE_ATTENTION else ""
    why = "".join(
        f"; the {_title(other)} cannot be used: {problem}" for other, problem in tried.items()
    )
    return (
        f"{what}{why}; equals the model's own {model.measures} on the probe (largest difference"
        f" {worst:.1e} {model.unit})"
    )


def _problem(
    model: LanguageModel, probe: Sequence[Tree], path: str, allowed: Bounds
) -> tuple[str | None, float]:
    """Explain why `path` cannot be used with this model, or return None; also return its largest
    difference to the oracle.
    """
    own = compat.attention_name(model.network)
    backend = TREE_ATTENTION.get(path)
    if backend is not None and (why := backend.problem(model.device)) is not None:
        return why, float("inf")
    if backend is not None and (state := state_of(model.network)):
        return f"it would mix rows: {state}", float("inf")
    if backend is not None and not _use_tree_attention(model):
        return "the architecture does not use transformers' attention interface", float("inf")
    try:
        difference = compare(model, probe, path)
        worst, mean = difference.max().item(), difference.mean().item()
        if worst <= allowed.token and mean <= allowed.mean:
            backward = backend is not None and backend.tries_backward
            gap = gradients_apart(model, probe, path) if backward else 0.0
            if gap <= GRADIENT[model.dtype]:
                return None, worst
            problem = f"its gradients differ from the model's own by {gap:.2g} of their size"
        else:
            problem = (
                f"its {model.measures} differ from the model's own by up to {worst:.3g}"
                f" {model.unit} (mean {mean:.2g})"
            )
    except (
        attention.UnsupportedAttention,
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
    ) as error:
        problem = describe(error)
    if own is not None and compat.attention_name(model.network) != own:
        model.network.set_attn_implementation(own)
    return problem, float("inf")


@torch.no_grad()
def compare(model: LanguageModel, trees: Sequence[Tree], path: str) -> torch.Tensor:
    """Compute |path − oracle| of every completion token, [C] nats; for a reward model of every
    score, [N].
    """
    paths = paths_of(model)
    with torch.random.fork_rng(devices=[]):
        return (paths[path](model, trees).values - paths["oracle"](model, trees).values).abs()


def gradients_apart(model: LanguageModel, trees: Sequence[Tree], path: str) -> float:
    """Compute |path − oracle| / |oracle| of the gradient of all log-probs with respect to the
    tokens' embeddings, by token id.
    """
    found, wanted = (_gradient(model, trees, one) for one in (path, "oracle"))
    return ((found - wanted).norm() / wanted.norm().clamp_min(1e-30)).item()


def _gradient(model: LanguageModel, trees: Sequence[Tree], path: str) -> torch.Tensor:
    """Compute the gradient of each id that occurs, [ids, D] float32. A prompt occurs once or K
    times, depending on the path; summed over equal ids, the gradients agree.
    """
    seen = []

    def leaf(module, inputs, output):
        seen.append((inputs[0], output.detach().requires_grad_()))
        return seen[-1][1]

    handle = model.network.get_input_embeddings().register_forward_hook(leaf)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            values = paths_of(model)[path](model, trees).values
            (ids, embedded), *_ = seen
            (gradient,) = torch.autograd.grad(values.sum(), embedded)
    finally:
        handle.remove()
    known = torch.tensor(sorted(set().union(*map(_tokens, trees))), device=ids.device)
    # the padding's id 0 is counted too; its gradient is 0
    place = torch.searchsorted(known, ids.flatten())
    total = torch.zeros(len(known), gradient.shape[-1], device=ids.device)
    return total.index_add_(0, place, gradient.flatten(0, 1).float())


def _tokens(tree: Tree) -> set[int]:
    return {*tree.prompt, *(token for completion in tree.completions for token in completion)}


def on_copy(forward: Forward, model: LanguageModel) -> Forward:
    """Return the same path through a copy of its model that was loaded apart."""
    if forward.shares_prompts:
        _use_tree_attention(model)
    return replace(forward, model=model)


def _use_tree_attention(model: LanguageModel) -> bool:
    network = model.network
    if compat.attention_name(network) == attention.NAME:
        return True
    if not compat.can_switch_attention(network) or not attention.register():
        return False
    network.set_attn_implementation(attention.NAME)
    return compat.attention_name(network) == attention.NAME

"""Log-probs of trees: the oracle, the tree path with each attention backend, and the padded path.

`oracle` is the definition: every sequence alone in a padded row, full logits, float32. `tree_logps`
and `padded_logps` must equal it, forward and backward (tests/forward/test_every_path.py).

N completions · C completion tokens · L longest sequence · V vocabulary · D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from accord import compat
from accord.forward.backends import TREE_ATTENTION
from accord.forward.head import token_logps
from accord.forward.layout import Layout, pack, sent
from accord.models.language import LanguageModel
from accord.objectives.numerics import summed
from accord.types import Logps, Tree


@dataclass(frozen=True)
class TokenLogps:
    """Per-token log-probs of N completions, laid end to end in the order of the trees."""

    values: Tensor  # [C] nats
    entropy: Tensor  # [C] nats, of the prediction of each token
    owner: Tensor  # [C] which completion
    count: Tensor  # [N] tokens
    expected: Tensor | None = (
        None  # [C] a value head's estimate before each token; None if the model has no value head
    )
    # [C] nats, the collision entropy of the prediction of each token; None if nobody asked
    collision: Tensor | None = None
    # [N] how many of a completion's first tokens the objective weighs apart; None if it does not
    shared: Tensor | None = None

    def reduce(self) -> Logps:
        """Sum over each completion, in float64."""
        collision = None if self.collision is None else summed(self.collision, self.count)
        return Logps(summed(self.values, self.count), self.count, self._first(), collision)

    def _first(self) -> Tensor | None:
        """Sum over the first `shared` tokens of each completion, [N] nats."""
        if self.shared is None:
            return None
        start = self.count.cumsum(0) - self.count
        place = torch.arange(len(self.values), device=start.device)
        place = place - start.repeat_interleave(self.count)
        inside = place < self.shared.repeat_interleave(self.count)
        return summed(torch.where(inside, self.values, 0), self.count)

    def mean_entropy(self) -> Tensor:
        """Compute the [N] mean entropies, nats per token, without a gradient."""
        return summed(self.entropy.detach(), self.count) / self.count


def tree_logps(
    model: LanguageModel, trees: Sequence[Tree], attention: str = "tree", *, collision: bool = False
) -> TokenLogps:
    """Compute log-probs with each prompt computed once and nothing padded. Only answer tokens reach
    the head.
    """
    layout = replace(pack(trees, model.device), attention=attention)
    hidden = tree_states(model, layout)
    before = hidden[layout.source]
    values, entropy, collided = token_logps(before, layout.targets, model.head, collision=collision)
    expected = model.expected(before)
    return TokenLogps(values, entropy, layout.owner, layout.count, expected, collided)


def tree_states(model: LanguageModel, layout: Layout) -> Tensor:
    """Compute the final hidden state of every packed token, [T, D]."""
    # A 4-D mask is passed through untouched by transformers; tree attention ignores it and reads
    # `tree`.
    unread = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=model.device)
    return model.trunk(
        input_ids=layout.ids[None],
        position_ids=layout.positions[None],
        attention_mask=unread,
        tree=layout,
        use_cache=False,
    ).last_hidden_state[0]


def padded_logps(
    model: LanguageModel, trees: Sequence[Tree], *, collision: bool = False
) -> TokenLogps:
    """Compute log-probs with one padded row per completion, for architectures that cannot share a
    prompt. The head still runs in chunks.
    """
    rows = padded_rows(trees, model.device).without_last()
    hidden = padded_states(model, rows)
    before = hidden[rows.row, rows.column - 1]
    values, entropy, collided = token_logps(before, rows.targets, model.head, collision=collision)
    return TokenLogps(values, entropy, rows.row, rows.count, model.expected(before), collided)


def padded_states(model: LanguageModel, rows: Padded) -> Tensor:
    """Compute the final hidden states of padded rows, [N, L, D]."""
    return model.trunk(
        input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
    ).last_hidden_state


def oracle(
    model: LanguageModel,
    trees: Sequence[Tree],
    attention: str = "eager",
    *,
    collision: bool = False,
) -> TokenLogps:
    """Compute log-probs by the readable definition, in the model's own attention. It holds [N, L,
    V] logits: for tests and checks only.
    """
    rows = padded_rows(trees, model.device).without_last()
    with attending(model, attention):
        logits = model.network(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            position_ids=rows.positions,
            use_cache=False,
        ).logits
    answers = logits[rows.row, rows.column - 1]
    log_softmax = torch.log_softmax(
        answers.to(torch.promote_types(answers.dtype, torch.float32)), dim=-1
    )  # [C, V]
    values = log_softmax.gather(1, rows.targets[:, None]).squeeze(1)
    entropy = -(log_softmax.exp() * log_softmax).sum(-1)
    collided = -log_softmax.detach().exp().square().sum(-1).log() if collision else None
    return TokenLogps(values, entropy, rows.row, rows.count, collision=collided)


@contextmanager
def attending(model: LanguageModel, attention: str):
    """Make the model attend by transformers' own code ("eager", "sdpa") inside the block, with none
    of ours.
    """
    network, before = model.network, compat.attention_name(model.network)
    if before is None or before == attention or not compat.can_switch_attention(network):
        yield
        return
    network.set_attn_implementation(attention)
    try:
        yield
    finally:
        network.set_attn_implementation(before)


@dataclass(frozen=True)
class Padded:
    """Completions, each behind its prompt, one per row."""

    ids: Tensor  # [N, L], padded on the right with 0: masked by length, never by token id
    mask: Tensor  # [N, L]
    positions: Tensor  # [N, L]
    row: Tensor  # [C] the completion that each target token belongs to
    column: Tensor  # [C] its place in that row
    targets: Tensor  # [C]
    count: Tensor  # [N]

    def without_last(self) -> Padded:
        """Leave out the last column: the end of the longest rows, which is only ever a target.

        Rotary positions that look at the longest position of a pass would count it.
        """
        ids, mask, positions = (t[:, :-1] for t in (self.ids, self.mask, self.positions))
        return replace(self, ids=ids, mask=mask, positions=positions)


def padded_rows(trees: Sequence[Tree], device: torch.device) -> Padded:
    rows = [
        ([len(tree.prompt) + place for place in tree.scored_in(k)], (*tree.prompt, *completion))
        for tree in trees
        for k, completion in enumerate(tree.completions)
    ]
    longest = max(len(ids) for _, ids in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    owners: list[int] = []
    places: list[int] = []
    for n, (scored, tokens) in enumerate(rows):
        ids[n, : len(tokens)] = torch.tensor(tokens)
        mask[n, : len(tokens)] = 1
        owners.extend([n] * len(scored))
        places.extend(scored)
    row, column = torch.tensor(owners), torch.tensor(places)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    count = torch.tensor([len(scored) for scored, _ in rows])
    return Padded(
        *(sent(t, device) for t in (ids, mask, positions, row, column, ids[row, column], count))
    )


ORACLE = "oracle"  # the path by definition, through the network's own forward pass
PATHS: dict[str, Callable[..., TokenLogps]] = {
    **{name: partial(tree_logps, attention=name) for name in TREE_ATTENTION},
    "padded": padded_logps,
    ORACLE: oracle,
}

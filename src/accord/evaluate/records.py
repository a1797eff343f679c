"""One table of per-example records, reduced once: no mean of means, ties counted as half.

Names are TRL's, since dashboards and papers use them; ours stand under diag/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from accord.forward.layout import sent
from accord.forward.logps import TokenLogps
from accord.forward.scores import TokenScores
from accord.objectives import BoundObjective
from accord.types import Logps, LossOutput, Tree


@dataclass
class Records:
    """The table of B rows after a forward pass. Completions that a row lacks are NaN.

    Columns stay where they were computed until they are asked for: fetching each at once would have
    a GPU idle while it is waited for, between a micro-batch's forward and backward pass.
    """

    row: list[int] = field(default_factory=list)
    columns: dict[str, list[Tensor]] = field(default_factory=dict)  # name -> pieces of [B] float64

    def add(self, trees: Sequence[Tree], **columns: Tensor) -> None:
        self.row.extend(tree.row for tree in trees)
        self.beside(trees, **columns)

    def beside(self, trees: Sequence[Tree], **columns: Tensor) -> None:
        """Add columns to rows that were added before."""
        for name, values in columns.items():
            assert len(values) == len(trees), name
            self.columns.setdefault(name, []).append(values.detach().double())

    def __getitem__(self, name: str) -> Tensor:
        """Return a column, [B] float64, on the host."""
        return torch.cat(self.columns[name]).cpu()

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.row)

    def tensors(self) -> dict[str, Tensor]:
        """Return the records as one table, to be sent; without rows there are no columns either."""
        return (
            {"row": torch.tensor(self.row), **{name: self[name] for name in self.columns}}
            if self.row
            else {}
        )

    @classmethod
    def of(cls, table: Mapping[str, Tensor]) -> Records:
        """Rebuild records from a table of `tensors`, from one rank or joined from all."""
        return cls(
            table["row"].tolist(),
            {name: [column] for name, column in table.items() if name != "row"},
        )

    def names(self) -> list[str]:
        return list(self.columns)

    def statistics(self) -> dict[str, dict]:
        """Describe each column, for a batch that went wrong.

        Returns:
          how many values are finite, and the range of those that are.
        """
        out = {}
        for name in self.names():
            values = self[name]
            finite = values[values.isfinite()]
            ends = {"min": finite.min().item(), "max": finite.max().item()} if len(finite) else {}
            out[name] = {"finite": len(finite), "of": len(values), **ends}
        return out


def record(
    records: Records,
    objective: BoundObjective,
    trees: Sequence[Tree],
    tokens: TokenLogps | TokenScores,
    reference: Logps | None,
    output: LossOutput | None,
) -> None:
    """Add the rows of one micro-batch."""
    logps = tokens.reduce().detach()
    rewards = objective.reward(logps, reference).detach()
    columns = {
        **_sides(trees, "rewards", rewards),
        "tokens": _per_tree(trees, logps.count.double()),
        **_sides(trees, "tokens", logps.count.double()),
    }
    if isinstance(tokens, TokenLogps):
        # [N]; float64 and means for people: the sum over all completions of one entropy per token
        entropies = tokens.mean_entropy() * logps.count
        columns |= _sides(trees, "logps", logps.sum) | {
            "entropy_sum": _per_tree(trees, entropies.double())
        }
    if reference is not None:
        columns |= _sides(trees, "diag/log_ratio", logps.sum - reference.sum)
    if isinstance(logps, Logps):
        columns |= _asked(trees, logps, reference)
    if output is not None:
        columns |= {"loss": output.losses, **{f"extra/{k}": v for k, v in output.metrics.items()}}
    records.add(trees, **columns)


def _asked(trees: Sequence[Tree], logps: Logps, reference: Logps | None) -> dict[str, Tensor]:
    """Return the columns that only some objectives read."""
    columns: dict[str, Tensor] = {}
    if logps.collision is not None:
        columns |= _sides(trees, "collision", logps.collision)
    if logps.shared is not None:
        columns |= _sides(trees, "shared", logps.shared)
        if reference is not None and reference.shared is not None:
            columns |= _sides(trees, "shared_reference", reference.shared)
    return columns


def record_slopes(
    records: Records, trees: Sequence[Tree], tokens: TokenLogps | TokenScores
) -> None:
    """Add the slope of the rows' loss along each answer's log-prob or score, after their backward
    pass.

    The slope is the mean over the answer's tokens. `tokens.values` must have kept its gradient.
    """
    grad = tokens.values.grad if tokens.values.grad is not None else torch.zeros_like(tokens.values)
    zeros = torch.zeros(len(tokens.count), dtype=torch.float64, device=grad.device)
    sums, sizes = (
        zeros.index_add(0, tokens.owner, values.double())
        for values in (grad, torch.ones_like(grad))
    )
    records.beside(trees, **_sides(trees, "slope", sums / sizes))


def _sides(trees: Sequence[Tree], name: str, values: Tensor) -> dict[str, Tensor]:
    """Split [N] values into two columns [B], chosen and rejected; NaN on the side that a row
    lacks.
    """
    good, bad, start = [], [], 0
    for tree in trees:
        if len(tree.completions) == 2:
            good.append(start)
            bad.append(start + 1)
        else:  # a demonstration counts as good
            good.append(-1 if tree.desirable is False else start)
            bad.append(start if tree.desirable is False else -1)
        start += len(tree.completions)
    known = torch.cat([values, values.new_full((1,), float("nan"))])  # at -1
    return {
        f"{name}/{side}": known[sent(torch.tensor(at), values.device)]
        for side, at in (("chosen", good), ("rejected", bad))
    }


def _per_tree(trees: Sequence[Tree], values: Tensor) -> Tensor:
    """Sum over each tree's completions, [B]."""
    sizes = sent(torch.tensor([len(tree.completions) for tree in trees]), values.device)
    return torch.segment_reduce(values, "sum", lengths=sizes, unsafe=True)


def summarise(
    records: Records, objective: BoundObjective, tie_width: float = 0.0
) -> dict[str, float]:
    """Compute metrics under TRL's names.

    Args:
      tie_width: margins whose size is no larger are ties (half a win each): the noise floor of the
        machine.
    """
    out: dict[str, float] = {}
    if "loss" in records:
        total = records["tokens"].sum() if objective.denominator == "tokens" else len(records)
        out["loss"] = (records["loss"].sum() / total).item()
    if "entropy_sum" in records:
        out["entropy"] = (records["entropy_sum"].sum() / records["tokens"].sum()).item()
    for name in ("logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected"):
        if name not in records:  # a reward model has no log-probs
            continue
        values = records[name]
        if (present := values[~values.isnan()]).numel():
            out[name] = present.mean().item()
    margins = records["rewards/chosen"] - records["rewards/rejected"]
    if not margins.isnan().any():
        out["rewards/accuracies"] = wins(margins, tie_width).mean().item()
        out["rewards/margins"] = margins.mean().item()
    for name in records.names():
        if name.startswith("extra/"):
            out[name.removeprefix("extra/")] = records[name].mean().item()
    return out


def wins(margins: Tensor, tie_width: float = 0.0) -> Tensor:
    """Return 1 for a win, ½ for a tie, 0 for a loss."""
    return torch.where(margins.abs() <= tie_width, 0.5, (margins > 0).double())

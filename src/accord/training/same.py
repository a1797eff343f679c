"""Whether a checkpoint is of the run that is to go on, and what is different where it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from accord.training.checkpoint import Checkpoint
from accord.training.folder import RunFolder
from accord.training.loop import Progress
from accord.training.prepare import Ready
from accord.types import Refused

NAMES = {
    "train_data": "the training data", "held_out_data": "the held-out data", "initial_weights": "the starting model",
    "tokenizer": "the tokenizer or its chat template", "reference": "the reference",
    "forward": "the forward path", "trees": "the number of usable rows",
}  # fmt: skip


def same_run(saved: Iterable[Checkpoint], ready: Ready, folder: RunFolder, problems: list[str]) -> Checkpoint:
    """The first of these checkpoints that this run can go on from; the others are added to `problems`, in a line each.

    Raises:
      Refused: none of them; in words, what is different with the first.
    """
    first: list[str] = []
    for candidate in saved:
        different = differences(candidate, ready)
        if not different:
            return candidate
        first = first or different
        problems.append(f"{candidate.path.name}: it is of another run: " + "; ".join(different))
    raise Refused(
        f"{folder.path} cannot be resumed: since its checkpoint was written, something else has changed.\n"
        + "\n".join(f"  {line}" for line in first) + "\nPut it back, or start a new run."
    )  # fmt: skip


def differences(saved: Checkpoint, ready: Ready) -> list[str]:
    """What was otherwise when a checkpoint was written, a line each."""
    if not _known_form(saved.state):
        return ["it was written by another version of accord"]
    then, now = saved.state["identity"], ready.identity()
    lines = [f"{words}: then {_short(then.get(n))}, now {_short(now.get(n))}" for n, words in NAMES.items() if then.get(n) != now.get(n)]
    config = [*then["config"], *(path for path in now["config"] if path not in then["config"])]
    for path in config:
        was, value = then["config"].get(path), now["config"].get(path)
        if was != value:
            lines.append(f"{path}: then {was}, now {value}")
    return lines or _other_tensors(saved, ready)


def _other_tensors(saved: Checkpoint, ready: Ready) -> list[str]:
    """Tensors that only one side has, or of another shape: another version of a library names them otherwise."""
    then = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    now = {name: tuple(tensor.shape) for name, tensor in ready.state().items()}
    apart = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return [f"{len(apart)} tensors, such as {apart[0]}: then {then.get(apart[0])}, now {now.get(apart[0])}"] if apart else []


def _known_form(state: dict) -> bool:
    progress = state.get("progress")
    known = isinstance(progress, dict) and set(progress) == {field.name for field in fields(Progress)}
    return known and isinstance(state.get("lines"), dict) and isinstance(state.get("identity", {}).get("config"), dict)


def _short(value: object) -> str:
    return str(value)[:16]

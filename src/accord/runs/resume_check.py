"""Checks that a checkpoint belongs to the run to continue; lists the differences where it does
not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Protocol

from accord.distributed.world import World
from accord.runs import checkpoint
from accord.runs.checkpoint import Checkpoint
from accord.runs.folder import RunFolder
from accord.runs.identity import differences
from accord.runs.progress import Progress
from accord.types import Refused


class Resumable(Protocol):
    """A prepared run, as far as a checkpoint can be held against it."""

    def identity(self) -> dict:
        """Settings that must be the same for a checkpoint to be continued."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor that a checkpoint has, by name."""


class Candidates:
    """The checkpoints that a run may continue from, newest first.

    The first rank looks for them and tells the others.
    """

    def __init__(self, folder: RunFolder, world: World):
        self.folder, self.world = folder, world
        self.problems: list[str] = []  # what is wrong with those that were skipped
        # lazy: reads nothing yet
        self.usable = checkpoint.verified_checkpoints(folder.checkpoints, self.problems)

    def exist(self) -> bool:
        """Tell whether there is one at all.

        Raises:
          CheckpointError: there are some, and none verifies.
        """
        return self.world.on_first(self._look)

    def of(self, ready: Resumable) -> Checkpoint:
        """Return the newest checkpoint of this run.

        Only the first rank can read its tensors, which it sends when they are needed.

        Raises:
          Refused: none is of this run.
        """
        found: list[Checkpoint] = []

        def tell() -> dict:
            found.append(saved := same_run(self.usable, ready, self.folder, self.problems))
            return {
                "path": str(saved.path),
                "step": saved.step,
                "state": saved.state,
                "passed_over": saved.passed_over,
            }

        told = self.world.on_first(tell)
        return found[0] if found else Checkpoint(**{**told, "path": Path(told["path"])})

    def _look(self) -> bool:
        newest = next(self.usable, None)
        if newest is not None:
            self.usable = chain([newest], self.usable)
        elif self.problems:
            raise checkpoint.unusable_error(self.folder.checkpoints, self.problems)
        return newest is not None


def same_run(
    saved: Iterable[Checkpoint], ready: Resumable, folder: RunFolder, problems: list[str]
) -> Checkpoint:
    """Find the first of these checkpoints that this run can continue from; add the others to
    `problems`, one line each.

    All ranks have the identity of the first, see `identity.require_one_run`.

    Raises:
      Refused: none of them; in words, what is different with the first.
    """
    first: list[str] = []
    for candidate in saved:
        different = _different(candidate, ready)
        if not different:
            return candidate
        first = first or different
        problems.append(f"{candidate.path.name}: it is of another run: " + "; ".join(different))
    raise Refused(
        f"{folder.path} cannot be resumed: since its checkpoint was written, something else has"
        " changed.\n"
        + "\n".join(f"  {line}" for line in first)
        + "\nPut it back, or start a new run."
    )


def _different(saved: Checkpoint, ready: Resumable) -> list[str]:
    """List what was different when a checkpoint was written, one per line."""
    if not _known_form(saved.state):
        return ["it was written by another version of accord"]
    return differences(saved.state["identity"], ready.identity(), "then", "now") or _other_tensors(
        saved, ready
    )


def _other_tensors(saved: Checkpoint, ready: Resumable) -> list[str]:
    """List tensors that only one side has, or that have another shape.

    Another version of a library may name them differently.
    """
    then = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    now = ready.shapes()
    apart = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return (
        [
            f"{len(apart)} tensors, such as {apart[0]}: then {then.get(apart[0])}, now"
            f" {now.get(apart[0])}"
        ]
        if apart
        else []
    )


def _known_form(state: dict) -> bool:
    progress = state.get("progress")
    known = isinstance(progress, dict) and set(progress) == {
        field.name for field in fields(Progress)
    }
    return (
        known
        and isinstance(state.get("lines"), dict)
        and isinstance(state.get("identity", {}).get("config"), dict)
    )

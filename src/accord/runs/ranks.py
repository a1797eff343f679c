"""Differences between the ranks of a run: the first one writes and prints, the others only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accord.config.schema import Config, make_config
from accord.distributed.world import World
from accord.environment import faults
from accord.runs.display import Display, SilentDisplay
from accord.runs.folder import RunFolder, vars_of
from accord.types import Finding, Tree, UsageError

VERDICTS = ("ok", "note", "warning", "refused")  # from the lightest to the gravest


class ReadOnlyRunFolder(RunFolder):
    """A run's folder on all ranks but the first: they know where it is, and write nothing."""

    def write_data(self, record: dict) -> None:
        return None

    def write_rejected(self, rejections: Sequence) -> None:
        return None

    def refuse(self, reason: str) -> None:
        return None

    def append(self, name: str, entry: dict) -> None:
        return None


def display_for_rank(display: Display, world: World) -> Display:
    """Return the first rank's display; the others are silent."""
    if world.first:
        return display
    display.close()
    return SilentDisplay()


def require_fit(config: Config, world: World) -> None:
    """Refuse settings that make no sense in a world of this size.

    Raises:
      UsageError: an option that would do nothing in one process; input that many cannot read.
    """
    if world.size == 1 and config.train.parallel != "auto":
        raise UsageError(
            "train.parallel does nothing in one process. Start several with torchrun, or leave it"
            " at auto."
        )
    placed = config.rollouts.reward_models if config.rollouts is not None else "auto"
    if world.size == 1 and placed != "auto":
        raise UsageError(
            f"rollouts.reward_models = {placed} does nothing in one process. Start several with"
            " torchrun, or leave it at auto."
        )
    if world.size > 1 and "-" in (config.data.train, config.data.held_out):
        raise UsageError(
            "Standard input cannot be read by several processes. Write the rows to a file: --data"
            " FILE."
        )


def create_folder(config: Config, world: World) -> RunFolder:
    """Make a new run's folder on the first rank."""
    path = Path(world.on_first(lambda: str(RunFolder.create(config).path)))
    return RunFolder(path) if world.first else ReadOnlyRunFolder(path)


def open_folder(path: str, world: World) -> RunFolder:
    """Open the folder of a run to continue, as the first rank finds it; machines need not share a
    disk.
    """
    found = Path(world.on_first(lambda: str(RunFolder.open(path).path)))
    return RunFolder(found) if world.first else ReadOnlyRunFolder(found)


@contextmanager
def locked(folder: RunFolder, world: World) -> Iterator[None]:
    """Lock the folder on the first rank for all; see `RunFolder.alone`."""
    with ExitStack() as held, faults.log_faults_in(folder.path):
        world.on_first(lambda: held.enter_context(folder.alone()))
        yield


def recover_config(folder: RunFolder, world: World) -> Config:
    """Read the config of a run to continue, its folder put in order after a kill."""

    def read() -> dict:
        config = folder.config()
        folder.recover()
        return config.model_dump(mode="json")

    return make_config(world.on_first(read))


def of_all_ranks(world: World, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that hold for all ranks, on every rank.

    Where weights are sharded each rank compares its own part: what any of them refuses or warns of
    counts for all.
    """
    if not world.sharded:
        return list(findings)
    first, *others = (
        [Finding(**told) for told in found]
        for found in world.gather([vars_of(finding) for finding in findings])
    )
    for other in (finding for found in others for finding in found):
        same = [finding for finding in first if finding.check == other.check]
        gravest = max((VERDICTS.index(finding.verdict) for finding in same), default=-1)
        if VERDICTS.index(other.verdict) > gravest:
            first = [finding for finding in first if finding not in same] + [other]
    return first


def share_findings(world: World, first: Sequence[Tree], batch_size: int) -> list[Finding]:
    """Report how the work on the first batch is shared among the ranks; nothing where there is
    one.
    """
    if world.size == 1:
        return []
    tokens = [tree.tokens for tree in first]
    shares = [sum(tokens[i] for i in share) for share in world.balance_by_tokens(tokens)]
    kept = "a part of the weights each (FSDP2)" if world.sharded else "whole weights each"
    says = (
        f"{world.size} processes, {kept}; tokens of the first batch: {min(shares):,} to"
        f" {max(shares):,} a process"
    )
    evidence = {"processes": world.size, "sharded": world.sharded, "tokens": shares}
    if batch_size >= world.size:
        return [Finding("ranks", "ok", says, evidence)]
    idle = f"; batches of {batch_size} rows leave some of them idle"
    return [
        Finding(
            "ranks",
            "warning",
            says + idle,
            evidence,
            f"raise train.batch_size to {world.size} or more",
        )
    ]

"""Held-out rows cut off the training file (data.hold_out), by the code of `accord split`.

Both parts lie in the run's folder, so that a resumed run, `accord eval` and a person find the same
rows; every row of the file is in one of them, or in rejected.jsonl beside them with its reason.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from accord.auditing.split import RECORD, Cut, cut
from accord.config.schema import PARTS, Config
from accord.data.containers import is_there
from accord.data.naming import Naming
from accord.distributed.world import World
from accord.errors import plural
from accord.runs.display import Display
from accord.runs.files import read_json
from accord.types import CheckpointError, DataError, Finding, UsageError

OPTION = "--hold-out"
NOTHING_HELD_OUT = "! no held-out rows: nothing will tell whether this run worked. "
CUT_SOME_OFF = "Cut some off by prompt: --hold-out 0.1; or name a file: --held-out FILE"
NAME_PROMPTS = "Name a file of other prompts: --held-out FILE"


def warn_without_held_out(config: Config, display: Display) -> None:
    """Say before anything is loaded that a run without held-out rows cannot be judged."""
    if config.held_out_file is None:
        remedy = CUT_SOME_OFF if config.rollouts is None else NAME_PROMPTS
        display.line(NOTHING_HELD_OUT + remedy)


def parts_exist(config: Config) -> bool:
    """Tell whether both files that a run reads its rows from are there."""
    return all(is_there(path) for path in (config.train_file, config.held_out_file) if path)


def placed(config: Config, folder: Path) -> Config:
    """Name the run's folder in its config, where both parts of its file are to lie in it."""
    if config.data.hold_out is None:
        return config
    return config.model_copy(update={"output": str(folder)})


def cut_off(config: Config, display: Display, world: World) -> list[Finding]:
    """Cut the training file in two, under the config's run folder; nothing without data.hold_out.

    The first rank does it, and the others look whether they see both parts.

    Raises:
      UsageError: the run has prompts in place of rows.
      DataError: the file cannot be cut as asked, or more of its rows are unusable than permitted.
      CheckpointError: another rank does not see the run's folder.
    """
    if config.data.hold_out is None:
        return []
    found: list[Finding] = []
    world.on_first(lambda: found.append(_cut(config, config.data.hold_out or 0.0, display)))

    def require_parts() -> None:
        if not parts_exist(config):
            raise CheckpointError(
                f"{config.train_file}: the first process wrote it, and this one does not see it."
                f" Cut the rows off once, on each machine: accord split {config.data.train}"
            )

    world.agree(require_parts)
    return found


def _cut(config: Config, share: float, display: Display) -> Finding:
    """Write both parts and account for every row.

    A folder of an earlier attempt is made anew: the cut depends on the file, the share and the seed
    alone.
    """
    if config.rollouts is not None:
        raise UsageError(
            f"{OPTION}: rows are cut off by prompt and answers, and with rollouts data.train is a"
            " file of prompts. Put some of its prompts into a file of their own: --held-out FILE."
        )
    data, folder = config.data, config.run_folder / PARTS
    display.phase("data", f"cutting {share:.0%} off {data.train} by prompt, to evaluate on")
    if folder.exists():
        shutil.rmtree(folder)
    naming = Naming(data.columns, data.ignore_columns, format=data.format)
    done = cut(
        data.train, folder, share=share, seed=config.train.seed, naming=naming, option=OPTION
    )
    done.ledger.write(folder / "rejected.jsonl")
    return _account(done, folder, data.max_rejected)


def _account(done: Cut, folder: Path, most: float) -> Finding:
    """Account for every row of the file.

    Raises:
      DataError: the share of rows that neither part has is larger than `most`.
    """
    counts, ledger = done.account, done.ledger
    says = (
        f"{counts['data']}: {plural(counts['rows'], 'row')} = {counts['train']:,} to train on +"
        f" {counts['held_out']:,} held out + {counts['unusable']:,} unusable"
    )
    share = ledger.rejected_share + done.others / max(ledger.rows, 1)
    if share > most:
        reasons = ledger.commonest()
        if done.others:
            reasons.append(f"  {plural(done.others, 'row')} of another kind than most")
        raise DataError(
            "\n".join([f"{says}; data.max_rejected accepts {most:.2%}.", *reasons])
            + "\nMend them, or split the file first and look at both parts: accord split"
            f" {counts['data']}"
        )
    evidence = {name: counts[name] for name in ("rows", "train", "held_out", "unusable", "share")}
    return Finding(
        "data.hold_out", "note" if counts["unusable"] else "ok", f"{says}, in {folder}", evidence
    )


def cut_record(config: Config) -> dict:
    """Return what data.json says of the cut; nothing without one."""
    if config.data.hold_out is None:
        return {}
    account = read_json(config.run_folder / PARTS / RECORD, {})
    kept = ("data", "sha256", "rows", "train", "held_out", "unusable", "seed", "share")
    return {"hold_out": {name: account[name] for name in kept if name in account}}

"""Parts of stages: a run that is started, resumed or over; a merged model; a file or folder that is
made once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from accord.assess.opened import ADAPTER, WHOLE
from accord.campaign.folder import CampaignFolder
from accord.config.schema import Config
from accord.distributed.world import join_world
from accord.environment.digests import file_digest
from accord.runs.display import CellDisplay, Display
from accord.runs.export import export_run
from accord.runs.files import REFUSED, writing
from accord.training.run import resume, start

TrainOrResume = Callable[[Config, Display, Sequence[str]], object]
CARD = "README.md"  # the last file that a run writes


def train_or_resume(config: Config, display: Display, command: Sequence[str]) -> None:
    """Train a run, or resume the one in its folder.

    Raises:
      AccordError: of the class that its cause has.
    """
    path = config.run_folder
    with join_world() as world:
        if world.on_first(lambda: is_begun(path)):
            resume(str(path), display, command)
        else:
            start(config, display, command)


def is_begun(path: Path) -> bool:
    """Tell whether the folder holds a run that can be resumed. A refused run begins again."""
    return (path / "config.yaml").is_file() and not (path / REFUSED).is_file()


def train_stage(
    desk: CampaignFolder, name: str, config: Config, carry: TrainOrResume = train_or_resume
) -> Path:
    """Return the saved model of a run; train the run first if it is not over."""
    path = config.run_folder
    if not desk.world.on_first(lambda: saved_folder(path) is not None):
        with desk.stage(name):
            carry(config, CellDisplay(desk.display, name), desk.command)
    return model_of(path)


def saved_folder(path: Path) -> Path | None:
    """Return the folder of a finished run's model; None if the run is not over, or has
    not begun.
    """
    whole = next((path / kind for kind in (ADAPTER, WHOLE) if (path / kind).is_dir()), None)
    return whole if (path / CARD).is_file() else None


def model_of(path: Path) -> Path:
    """Return the folder of the model of a run that is over."""
    whole = saved_folder(path)
    assert whole is not None, f"{path}: the run is not over"
    return whole


def make_once(
    desk: CampaignFolder,
    name: str,
    target: Path,
    make: Callable[[], object],
    *,
    together: bool = False,
) -> Path:
    """Make a file, unless it is there already. Its maker puts it there as a whole.

    Args:
      together: the maker shares its work among all processes; else the first one makes the file.
    """
    world = desk.world

    def begin() -> bool:
        if not target.exists():
            with writing(desk.folder):
                target.parent.mkdir(parents=True, exist_ok=True)
            return True
        return False

    def made() -> None:
        make()

    if world.on_first(begin):
        with desk.stage(name):
            world.agree(made) if together else world.on_first(made)
    return target


def merge_stage(desk: CampaignFolder, name: str, run: Path) -> Path:
    """Return a finished run's model as a whole: its own weights, or its base with the adapter
    merged into it, in float32.

    The rounding of a smaller dtype could undo the adapter's change; so the file is in float32, and
    its reader rounds once more.
    """
    whole = model_of(run)
    if whole.name == WHOLE:
        return whole
    target = run / "merged"

    def make() -> None:
        export_run(str(run), str(target), merge=True, which="latest", dtype="float32")

    return make_once(desk, name, target, make)


def fingerprint_of(folder: Path) -> str:
    """Hash (sha256) a model folder's weights and configuration, as they lie on disk."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(f"{file.name} {file_digest(file)}\n".encode())
    return digest.hexdigest()

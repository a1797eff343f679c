"""The inside of a stage: what it is given, how it says what it found, how it times an update."""

from __future__ import annotations

import importlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_stages.plan import STAGES, Stage
from gpu_stages.shapes import Shape, shape_of
from peak import device_peak_gb, peak_gb

# task -> the module whose `run` it is
TASKS = {
    "machine": "gpu_stages.machine",
    "tests": "gpu_stages.gpu_tests",
    "paths": "gpu_stages.path_choice",
    "training": "gpu_stages.training",
    "training_trl": "gpu_stages.training_trl",
    "generation": "gpu_stages.generating",
}
PASSES = 3  # over the batches that are timed, at the most; one before is not timed
TRY_UNTIL = 0.5  # the part of that time after which no further setting is tried


@dataclass
class Given:
    """The arguments of a stage."""

    stage: Stage
    device: str
    tiny: bool
    folder: Path  # for what it writes
    began: float  # time.time() when it was started
    ends: float  # and after which it begins nothing new

    @property
    def left(self) -> float:
        """Seconds until it begins nothing new."""
        return self.ends - time.time()

    @property
    def shape(self) -> Shape:
        return shape_of(self.stage.shape, self.tiny)

    @property
    def dtype(self) -> str:
        """What speed is measured in: a CPU that does the flow may have no bfloat16."""
        return "float32" if self.device == "cpu" else "bfloat16"

    def emit(self, **found: Any) -> None:
        """Say what was found. What was said remains if the stage is cut off later."""
        with (self.folder / "findings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


def run(spec: str) -> None:
    """Run a stage in this process."""
    from accord.environment.settings import apply_env_defaults

    apply_env_defaults()
    fields = json.loads(spec)
    name = fields.pop("stage")
    stage = next(stage for stage in STAGES if stage.name == name)
    given = Given(stage, **fields | {"folder": Path(fields["folder"])})
    importlib.import_module(TASKS[stage.task]).run(given)


def wait(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


# ---------------------------------------------------------------- settings, and the best of them

# (setting, batches, time.time() to stop at or None, told the seconds so far) -> seconds of updates
Attempt = Callable[[Any, Sequence, float | None, Callable[[list[float]], None]], list[float]]


def time_updates(
    given: Given, settings: Mapping[str, Any], attempt: Attempt, batches: Sequence
) -> None:
    """Try settings on one batch each, in order, while there is time; then time the fastest.

    The batches are passed over once untimed: kernels are compiled and memory is taken. Every
    further pass counts as a whole, so that long rows and short ones all count alike. The device's
    peak is that since `attempt` last began to measure it, the process's own the most it ever had.

    Raises:
      SystemExit: no setting works, or no time was left for a whole pass.
    """
    tried: dict[str, float | str] = {}
    half = given.began + TRY_UNTIL * (given.ends - given.began)
    for name, setting in settings.items():
        if any(isinstance(found, float) for found in tried.values()) and time.time() > half:
            tried[name] = "not tried: no time was left"
        else:
            tried[name] = _tried(given, setting, attempt, batches[0])
        given.emit(settings_tried=tried)
    working = {name: found for name, found in tried.items() if isinstance(found, float)}
    if not working:
        raise SystemExit(f"no setting works: {tried}")
    best = min(working, key=lambda name: working[name])
    given.emit(setting=best)

    def heard(seconds: list[float]) -> None:
        whole = len(seconds) // len(batches) - 1
        if whole > 0:
            timed = seconds[len(batches) :]
            given.emit(
                seconds_an_update=[
                    statistics.mean(timed[i * len(batches) : (i + 1) * len(batches)])
                    for i in range(whole)
                ],
                device_peak_gb=device_peak_gb(),
                process_peak_gb=peak_gb(),
            )

    made = attempt(settings[best], list(batches) * (1 + PASSES), given.ends, heard)
    if len(made) < 2 * len(batches):
        raise SystemExit(
            f"{len(made)} updates were made before time was over, and {2 * len(batches)} are needed"
            " for a pass that is timed: give it more with --minutes"
        )


def _tried(given: Given, setting: Any, attempt: Attempt, batch: Any) -> float | str:
    """Seconds of an update with a setting, the one before not counted; or why there are none."""
    from accord.compat import is_out_of_memory
    from accord.engine.release import release

    try:
        return attempt(setting, [batch, batch], None, lambda seconds: None)[-1]
    # classes differ: what is no want of memory ends the stage
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    release()
    return "out of memory"

"""Four β with one reference pass between them, against four runs of TRL: whole runs, from loading
to the saved model.

    python benchmarks/beta_sweep.py --data DIR

truthfulqa, LoRA, bfloat16, 24 updates of 16 pairs for each β. accord's runs read reference
log-probs that the first of them computed; TRL computes the reference in every update of every run
(precomputing it would be a pass a run as well). TRL is run once, in the setting that vs_trl.py
found fastest, and counted four times. Results: benchmarks/results/beta_sweep.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from vs_trl import CASES, child

RESULT = Path(__file__).parent / "results/beta_sweep.json"
BETAS = (0.01, 0.05, 0.1, 0.5)
UPDATES = 24
FASTEST = {"micro": 2, "checkpointing": False}  # see results/vs_trl.json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    data = parser.parse_args().data
    case = CASES["truthfulqa dpo LoRA bf16"]
    with tempfile.TemporaryDirectory() as folder:
        child(
            "accord_side.py",
            "prepare",
            case,
            Path(folder),
            data=str(data / case.file),
            updates=UPDATES,
        )
        cold_cache(Path(folder))
        ours = [timed("accord_side.py", case, Path(folder), beta=beta) for beta in BETAS]
        theirs = timed("trl_side.py", case, Path(folder), setting=FASTEST)
    seconds = {
        "accord": [run["whole_seconds"] for run in ours],
        "trl, one run": theirs["whole_seconds"],
    }
    ratio = len(BETAS) * theirs["whole_seconds"] / sum(seconds["accord"])
    updates = {
        "accord": [sum(run["seconds"]) for run in ours],
        "trl, one run": sum(theirs["seconds"]),
    }
    found = {
        "betas": BETAS,
        "updates": UPDATES,
        "whole_seconds": seconds,
        "seconds_in_updates": updates,
        "ratio": ratio,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def cold_cache(folder: Path) -> None:
    """A cache without reference log-probs, with the converted model."""
    from accord.models.embedded import embedded_folder

    model = embedded_folder()
    (folder / "cache").mkdir()
    (folder / "cache" / model.name).symlink_to(model)
    os.environ["ACCORD_CACHE"] = str(folder / "cache")


def timed(script: str, case, folder: Path, **more) -> dict:
    began = time.perf_counter()
    found = child(script, "train", case, folder, updates=UPDATES, **more)
    return {**found, "whole_seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()

"""Do two states of the code train the same bytes? Seeded runs of every kind, hashed.

    python benchmarks/identical.py --output before.json
    python benchmarks/identical.py --output after.json --against before.json   (the other state)

On one machine with one set of libraries. What is hashed: metrics.jsonl, samples.jsonl, events.jsonl
and every tensor of the adapter or model that the run saved. Exit code 1 where something differs. A
tiny random model with the embedded model's tokenizer, a few updates a kind; a minute or two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RECORDS = ("metrics.jsonl", "samples.jsonl", "events.jsonl")
ROLLOUTS = {"rollouts.rewards": ["length"], "rollouts.max_new_tokens": 12}

# name -> (method, all weights, further settings, processes)
KINDS: dict[str, tuple[str, bool, dict, int]] = {
    "dpo": ("dpo", False, {}, 1),
    "dpo, all weights": ("dpo", True, {}, 1),
    "dpo, cached reference": ("dpo", False, {"reference": "cached"}, 1),
    "dpo, moving reference": ("dpo", False, {"reference": "moving", "moving.every": 3}, 1),
    "dpo, bfloat16": ("dpo", False, {"model.dtype": "bfloat16"}, 1),
    "dpo, two processes": ("dpo", False, {}, 2),
    "kto": ("kto", False, {}, 1),
    "simpo": ("simpo", False, {}, 1),
    "orpo": ("orpo", False, {}, 1),
    "bradley_terry": ("bradley_terry", False, {}, 1),
    "grpo": ("grpo", False, ROLLOUTS, 1),
    "ppo": ("ppo", False, ROLLOUTS, 1),
    "online dpo": ("dpo", False, ROLLOUTS, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="what another state of the code wrote")
    parser.add_argument("--only", nargs="*", default=[], help="kinds whose name holds one of these")
    parser.add_argument("--keep", type=Path, help="folder in which the runs stay")
    asked = parser.parse_args()
    kinds = [k for k in KINDS if not asked.only or any(word in k for word in asked.only)]
    versions = {n: metadata.version(n) for n in ("torch", "transformers", "peft", "numpy")}
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        world = _world(folder)
        found = {kind: _hashes(_run(folder, world, kind)) for kind in kinds}
    asked.output.write_text(json.dumps({"versions": versions, "runs": found}, indent=1) + "\n")
    if asked.against is not None:
        sys.exit(_compare(json.loads(asked.against.read_text()), versions, found))


def _world(folder: Path) -> dict[str, Path]:
    """A tiny model, pairs and held-out pairs on disk."""
    from accord.models.embedded import embedded_folder
    from benchmarks.silentbench.world import make_model, pairs, small_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = small_tokenizer(embedded_folder(), folder / "tokenizer")
    made = {"model": make_model(folder / "model", tokenizer)}
    for name, rows in (("train", pairs(48)), ("held_out", pairs(12, start=900))):
        made[name] = folder / f"{name}.jsonl"
        made[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def _run(folder: Path, world: dict[str, Path], kind: str) -> Path:
    method, whole, settings, processes = KINDS[kind]
    output = folder / f"run-{kind.replace(' ', '-').replace(',', '')}"
    sets = {"train.micro_tokens": 256, "evaluate.every": 4, "model.dtype": "float32"} | settings
    words = ["train", "--model", str(world["model"]), "--data", str(world["train"])]
    words += ["--held-out", str(world["held_out"]), "--method", method, "--steps", "8"]
    words += [
        "--batch-size",
        "8",
        "--seed",
        "3",
        "--output",
        str(output),
        "--learning-rate",
        "1e-3",
    ]
    words += ["--all-weights"] if whole else []
    for name, value in sets.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    launch = [sys.executable, "-m"]
    if processes > 1:
        launch += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [*launch, "accord", *words],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(
            f"{kind}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    print(f"{kind:<24} trained", flush=True)
    return output


def _hashes(run: Path) -> dict[str, str]:
    """Of each record and of each saved tensor; not of files that name paths, times or versions."""
    from safetensors.torch import load_file

    found = {n: _digest((run / n).read_bytes()) for n in RECORDS if (run / n).exists()}
    for folder in ("adapter", "final"):
        for file in sorted((run / folder).glob("*.safetensors")):
            for name, tensor in sorted(load_file(file).items()):
                raw = tensor.contiguous().view(-1).view(dtype=_BYTES()).numpy().tobytes()
                found[f"{folder}/{name}"] = _digest(raw)
    return found


def _BYTES():
    import torch

    return torch.uint8


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]


def _compare(before: dict, versions: dict, found: dict) -> int:
    if before["versions"] != versions:
        print(f"other libraries: {before['versions']} and {versions}")
        return 1
    differs = 0
    for kind, hashes in found.items():
        former = before["runs"].get(kind)
        if former is None:
            print(f"{kind:<24} not in the former file")
            continue
        names = [n for n in {*former, *hashes} if former.get(n) != hashes.get(n)]
        differs += bool(names)
        says = (
            f"{len(hashes)} of {len(hashes)} equal"
            if not names
            else f"differs: {sorted(names)[:4]}"
        )
        print(f"{kind:<24} {says}")
    return int(bool(differs))


if __name__ == "__main__":
    main()

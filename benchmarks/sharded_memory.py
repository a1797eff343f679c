"""Peak memory of a rank where the base under adapters lies whole in every process, and where it is
cut into parts.

    python benchmarks/sharded_memory.py [--layers 24] [--output FILE]

A random model of the shape of a published one of half a billion weights (24 layers of 896, 151,936
rows of vocabulary, tied) is written in bfloat16 and trained in float32 for two updates of DPO with
LoRA, in 1, 2 and 4 processes over gloo. The memory of each process is read from /proc every 20
milliseconds, from its start to its end: anonymous pages, and all pages in memory (those of the
mapped weight files as well, which the kernel may drop).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/sharded_memory.json"
ROWS = ROOT / "src/accord/demo/train.jsonl"
CASES = ((1, "whole"), (2, "whole"), (2, "sharded"), (4, "sharded"))
PERIOD = 0.02  # seconds between two looks
LIMIT = 3600  # seconds for one run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--load-only", action="store_true", help="read the model, train nothing")
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)  # a rank's own command
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.load:
        return load(*options.load)
    with tempfile.TemporaryDirectory(prefix="sharded-memory-") as folder:
        model = Path(folder) / "model"
        weights = write_model(model, options.layers)
        record = {
            "weights": weights,
            "float32_bytes": 4 * weights,
            "trained": not options.load_only,
            "cases": [
                measure(model, Path(folder), *case, trains=not options.load_only) for case in CASES
            ],
        }
    options.output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(json.dumps(record, indent=1))


def write_model(folder: Path, layers: int) -> int:
    """Write a random model; return the number of its weights."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, set_seed

    from accord.models.embedded import embedded_folder

    set_seed(0)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
    )
    with torch.device("cpu"):
        network = Qwen2ForCausalLM(config).to(torch.bfloat16)
    network.save_pretrained(folder, max_shard_size="300MB")
    AutoTokenizer.from_pretrained(embedded_folder()).save_pretrained(folder)
    return sum(p.numel() for p in network.parameters())


def load(name: str, kept: str) -> None:
    """Read the model as a run does, on this rank."""
    from accord.distributed.world import join_world
    from accord.forward.sharded import load_sharded
    from accord.models.load import load

    with join_world() as world:
        if kept == "sharded":
            load_sharded(name, world, dtype="float32", device="cpu")
        else:
            load(name, dtype="float32", device="cpu")
        world.agree(lambda: None)


def measure(model: Path, folder: Path, processes: int, kept: str, *, trains: bool) -> dict:
    """Load the model, and train for two updates; return the largest memory of each rank, in
    bytes.
    """
    words = train_words(model, folder / f"{kept}-{processes}", kept)
    if not trains:
        words = [__file__, "--load", str(model), kept]
    if processes > 1:
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        words = [*start, str(processes), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=log, stderr=log, cwd=folder
        )
        peaks = watch(run, processes)
    if run.returncode:
        raise SystemExit((folder / "log.txt").read_text()[-3000:])
    anonymous, resident = zip(*(peaks[rank] for rank in sorted(peaks)), strict=True)
    found = {"processes": processes, "weights": kept, "anonymous": anonymous, "resident": resident}
    print(json.dumps(found), f"{time.monotonic() - began:.0f} s", flush=True)
    return found


def train_words(model: Path, output: Path, kept: str) -> list[str]:
    """Return the words behind `python` that train for two updates."""
    words = ["-m", "accord", "train", "--model", str(model), "--data", str(ROWS), "--steps", "2"]
    words += ["--batch-size", "4", "--output", str(output)]
    words += ["--allow", "untrained_model", "--set", "model.dtype=float32"]
    words += ["--set", "model.device=cpu", "--set", "monitor.samples=0"]
    words += ["--set", "train.micro_tokens=64", "--set", "reference=adapter_off"]
    if kept == "sharded":
        words += ["--set", "train.parallel=sharded"]
    return words


def watch(run: subprocess.Popen, processes: int) -> dict[int, tuple[int, int]]:
    """Follow the ranks until the run ends; return (anonymous, all) bytes at most, by rank."""
    ranks: dict[int, int] = {}  # by process
    peaks: dict[int, tuple[int, int]] = {}
    until, looked = time.monotonic() + LIMIT, 0.0
    while run.poll() is None:
        if time.monotonic() > until:
            run.kill()
            raise SystemExit("a run took too long")
        if len(ranks) < processes and time.monotonic() - looked > 0.5:
            ranks, looked = find_ranks(run.pid, processes), time.monotonic()
        for process, rank in ranks.items():
            before = peaks.get(rank, (0, 0))
            now = memory(process)
            peaks[rank] = max(before[0], now[0]), max(before[1], now[1])
        time.sleep(PERIOD)
    return peaks


def find_ranks(parent: int, processes: int) -> dict[int, int]:
    """Return the rank of each process that a run consists of, by its number."""
    if processes == 1:
        return {parent: 0}
    found = {}
    for child in children(parent):
        try:
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        told = [int(each[5:]) for each in environment if each.startswith(b"RANK=")]
        if told:
            found[child] = told[0]
    return found


def children(parent: int) -> list[int]:
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


def memory(process: int) -> tuple[int, int]:
    """Return the anonymous bytes of a process now, and the most bytes that it had in memory."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0, 0
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}
    return sizes.get("RssAnon", 0), sizes.get("VmHWM", 0)


if __name__ == "__main__":
    main()

"""Time and memory of `accord audit` at 10,000, 100,000 and 1,000,000 synthetic pairs, made from
real ones.

    python benchmarks/audit_scale.py --data ../shared/data/permissive_mix/train.jsonl.gz --output
    benchmarks/results/audit_scale.json

Each synthetic pair is a real one with a new number in the prompt and a few of its answers' words
replaced by words of other rows, so that lengths, markup and vocabulary are real and no row is an
exact copy. One process each, and the second one that large files start; peak memory is ru_maxrss of
the first.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from accord.data.read import read

_CHILDREN = resource.RUSAGE_CHILDREN
SIZES = (10_000, 100_000, 1_000_000)


def make(source: str, rows: int, path: Path, seed: int = 0) -> None:
    """Write so many synthetic pairs."""
    pairs = [e for e in read(source).examples if len(e.prompt) == 1]
    words = [word for pair in pairs[:2_000] for word in pair.chosen.split()[:40]]
    rng = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            pair = pairs[rng.randrange(len(pairs))]
            row = {
                "prompt": f"{_varied(pair.prompt[0].content, words, rng)} ({number})",
                "chosen": _varied(pair.chosen, words, rng),
                "rejected": _varied(pair.rejected, words, rng),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _varied(text: str, words: list[str], rng: random.Random) -> str:
    """The text with a tenth of its words replaced; line breaks stay."""
    parts = text.split(" ")
    for _ in range(max(1, len(parts) // 10)):
        parts[rng.randrange(len(parts))] = words[rng.randrange(len(words))]
    return " ".join(parts)


def measure(path: str) -> dict:
    """Audit one file in this process."""
    from accord.auditing.run import audit

    start, cpu = time.perf_counter(), time.process_time()
    found = audit(path, say=lambda text: print(text, file=sys.stderr, flush=True))
    own, second = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, _CHILDREN))
    return {
        "pairs": len(found.scan),
        "bytes": Path(path).stat().st_size,
        "wall_seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "second_cpu_seconds": round(second.ru_utime + second.ru_stime, 1),
        "sample": len(found.scan.sample),
        "peak_gb": round(own.ru_maxrss / 2**20, 2),
        "verdict": found.verdict,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    results = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.jsonl"
            make(options.data, size, path)
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(path)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(results[-1], flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(
            json.dumps({"data": Path(options.data).name, "results": results}, indent=1) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()

"""What a sum of log-probs loses, and what it costs, in float32 and in float64 from float32 terms.

    python benchmarks/sums.py

An answer's terms are drawn as a head makes them (float32, about -4 nats each); the truth is the sum
in extended precision of what was rounded to those terms. Results: benchmarks/results/sums.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch

from accord.objectives.numerics import summed

RESULTS = Path(__file__).parent / "results" / "sums.json"
LENGTHS = (100, 1_000, 5_000, 20_000)
DRAWS = 200


def main() -> None:
    torch.set_num_threads(1)
    found = {str(length): lost(length) for length in LENGTHS} | {"cost": cost()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def lost(length: int) -> dict[str, float]:
    """Return the largest error of a sum in nats, of the sum alone and with its terms' rounding."""
    generator = torch.Generator().manual_seed(length)
    worst = {"float32": 0.0, "float64": 0.0, "terms": 0.0}
    count = torch.tensor([length])
    for _ in range(DRAWS):
        exact = -4 + torch.randn(length, generator=generator, dtype=torch.float64)
        terms = exact.float()
        truth = float(np.sum(exact.numpy().astype(np.longdouble)))
        single = torch.segment_reduce(terms, "sum", lengths=count, unsafe=True).item()
        double = summed(terms, count).item()
        whole = float(np.sum(terms.numpy().astype(np.longdouble)))
        worst["float32"] = max(worst["float32"], abs(single - whole))
        worst["float64"] = max(worst["float64"], abs(double - whole))
        worst["terms"] = max(worst["terms"], abs(whole - truth))
    return worst


def cost(answers: int = 32, length: int = 512) -> dict[str, float]:
    """Return the milliseconds of a sum and its gradient over the tokens of a batch."""
    count = torch.full((answers,), length)
    values = torch.randn(answers * length, requires_grad=True)
    ways = {
        "float32": lambda: torch.segment_reduce(values, "sum", lengths=count, unsafe=True),
        "float64": lambda: summed(values, count),
    }
    found: dict[str, float] = {"tokens": answers * length}
    for name, way in ways.items():
        times = []
        for _ in range(200):
            began = time.perf_counter()
            way().sum().backward()
            times.append(time.perf_counter() - began)
        found[f"{name}_ms"] = round(1e3 * float(np.median(times)), 4)
    found["float64_extra_bytes"] = 8 * answers * length
    return found


if __name__ == "__main__":
    main()

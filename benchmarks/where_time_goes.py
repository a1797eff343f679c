"""Where the time of an update goes, by what its operations are.

    python benchmarks/where_time_goes.py --data DIR [--only "NAME; …"] [--output FILE]

For each case of vs_trl.py: a run of three updates as accord trains it, the third under
torch.profiler, in a process of its own. An operation's own time (without those that it calls) goes
to one kind: products with the weights of the layers, of the head, of the adapters, other products
(attention in blocks), attention as one kernel, elementwise work and sums, copies, and the rest.
What no operation takes is Python's. The products with layers and head are given with their rate.
Results: benchmarks/results/where_time_goes.json.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from vs_trl import CASES, HERE, cases, child

RESULT = HERE / "results/where_time_goes.json"
RANK = 16  # of the adapter that accord_side.py writes
PROFILED = 2  # the update under the profiler; the first pays for what is done once

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_linear", "_addmm_activation")
COPIES = ("copy_", "cat", "index", "index_select", "gather", "scatter", "clone", "constant_pad_nd")
COPIES += ("index_add_", "index_put_", "_index_put_impl_", "embedding_dense_backward", "fill_")
SHAPELESS = (
    "view",
    "t",
    "transpose",
    "reshape",
    "as_strided",
    "slice",
    "empty",
    "detach",
    "expand",
)
SHAPELESS += (
    "split",
    "select",
    "unsqueeze",
    "squeeze",
    "permute",
    "alias",
    "narrow",
    "to",
    "_to_copy",
)
SHAPELESS += (
    "empty_like",
    "empty_strided",
    "zeros",
    "zeros_like",
    "result_type",
    "linear",
    "matmul",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--only", help="cases, separated by semicolons")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # the profiled process
    options = parser.parse_args()
    if options.one:
        print(json.dumps(profile(CASES[options.one[0]], Path(options.one[1]))))
        return
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in cases(options.only):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, options.data, folder)
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        print(line(name, results[name]), flush=True)


def measure(name: str, data: Path, folder: str) -> dict:
    """Prepare a case, profile it in a process of its own, and put its rate beside the machine's."""
    case = CASES[name]
    facts = child(
        "accord_side.py", "prepare", case, Path(folder), data=str(data / case.file), updates=3
    )
    command = [sys.executable, __file__, "--data", str(data), "--one", name, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    rate = child("accord_side.py", "gemm", case, Path(folder))["flops_a_second"]
    useful = facts["flops_an_update"]
    products = found["seconds_of"]["layers"] + found["seconds_of"]["head"]
    return found | {
        "gemm_gflops": rate / 1e9,
        "useful_gflop": useful / 1e9,
        # of the machine's rate: while the products run, and over the whole update
        "rate_in_products": useful / products / rate,
        "rate_of_update": useful / found["seconds"] / rate,
    }


def profile(case, folder: Path) -> dict:
    """Train three updates, the last one under the profiler; return its seconds by kind."""
    from accord_side import config
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from accord.runs.display import SilentDisplay
    from accord.training import loop
    from accord.training.run import start

    facts = vars(case)
    plain, seen = loop.make_update, {}

    def watched(run) -> None:
        if run.progress.step != PROFILED:
            began = time.perf_counter()
            plain(run)
            seen["unwatched"] = time.perf_counter() - began
            return
        with profiler(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
            began = time.perf_counter()
            plain(run)
            seen["seconds"] = time.perf_counter() - began
        seen["events"] = found.key_averages(group_by_input_shape=True)

    loop.make_update = watched
    adapter = None if case.all_weights else folder / "adapter"
    start(config(facts, folder / "rows.jsonl", case.batch, adapter), SilentDisplay())
    sizes = json.loads((folder / "shapes.json").read_text())
    vocabulary = sizes["head"][0]
    weights = {tuple(sorted(shape)) for shape in sizes["layer"]}
    totals: Counter[str] = Counter()
    for event in seen["events"]:
        totals[kind(event.key, event.input_shapes, vocabulary, weights)] += (
            event.self_cpu_time_total / 1e6
        )
    totals["between operations"] = seen["seconds"] - sum(totals.values())
    return {
        "seconds": seen["seconds"],
        "seconds_without_profiler": seen["unwatched"],
        "seconds_of": dict(totals),
    }


def kind(name: str, shapes: list, vocabulary: int, weights: set[tuple[int, int]]) -> str:
    """What an operation is."""
    name = name.removeprefix("aten::").removeprefix("mkldnn::")
    if name in PRODUCTS:
        return product(shapes, vocabulary, weights)
    if "scaled_dot_product" in name or "flash" in name:
        return "attention kernel"
    if name in COPIES:
        return "copies"
    if name in SHAPELESS or not any(math.prod(shape) for shape in shapes if shape):
        return "the rest"
    return "elementwise"


def product(shapes: list, vocabulary: int, weights: set[tuple[int, int]]) -> str:
    """Which product it is, by the shapes of what is multiplied."""
    matrices = [tuple(shape) for shape in shapes if isinstance(shape, list) and len(shape) >= 2]
    sides = {side for shape in matrices for side in shape}
    if vocabulary in sides:
        return "head"
    if RANK in sides:
        return "adapters"
    if any(tuple(sorted(shape)) in weights for shape in matrices) or _of_weight(matrices, weights):
        return "layers"
    return "other products"


def _of_weight(matrices: list[tuple], weights: set[tuple[int, int]]) -> bool:
    """Tell whether two matrices multiply to a weight's gradient."""
    if len(matrices) < 2 or any(len(shape) != 2 for shape in matrices[-2:]):
        return False
    (rows, _), (_, columns) = matrices[-2:]
    return tuple(sorted((rows, columns))) in weights


def line(name: str, found: dict) -> str:
    """A line of the table in BENCHMARKS.md."""
    total = found["seconds"]
    shares = (f"{found['seconds_of'].get(key, 0) / total:.0%}" for key in KINDS)
    return (
        f"| {name} | {' | '.join(shares)} | {found['rate_in_products']:.0%} |"
        f" {found['rate_of_update']:.0%} |"
    )


KINDS = ("layers", "head", "adapters", "other products", "attention kernel", "elementwise")
KINDS += ("copies", "the rest", "between operations")


if __name__ == "__main__":
    main()

"""accord's part of vs_trl.py, one task a process: prepare the rows, train, check the numbers,
measure the machine.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from pathlib import Path

from accord.environment.settings import apply_env_defaults

apply_env_defaults()

import torch  # noqa: E402
from model_shapes import base, write_model  # noqa: E402
from peak import peak_gb  # noqa: E402

CHECKED = 4  # rows an update of the float32 comparison
CHECK_UPDATES = 3


def prepare(spec: dict) -> dict:
    """Write the case's rows, their token ids in accord's order, and a starting adapter; count the
    arithmetic.
    """
    from accord.data.read import read
    from accord.models.export import save
    from accord.models.load import load
    from accord.models.lora import add_lora
    from accord.objectives import resolve

    case, folder = spec["case"], Path(spec["folder"])
    write_model(case["shape"], folder)
    model = load(base(case, folder), dtype=case["dtype"])
    examples = read(spec["data"], resolve(case["method"]).rows, max_rows=800).examples
    trees = encoded(model, examples, case["max_tokens"])
    for name, size, updates in (
        ("rows", case["batch"], spec["updates"]),
        ("check", CHECKED, CHECK_UPDATES),
    ):
        # the same each time
        chosen = sorted(trees, key=lambda tree: tree.row * 7919 % 797)[: size * updates]
        write_rows(
            Path(spec["data"]),
            {examples[tree.row].origin.line for tree in chosen},
            folder / f"{name}.jsonl",
        )
        write_batches(case, model, folder, name, size)
    shapes = shapes_of(model)
    (folder / "shapes.json").write_text(json.dumps(shapes))
    facts = arithmetic(case, shapes, batches(case, model, folder / "rows.jsonl", case["batch"]))
    add_lora(model, rank=16, alpha=32, targets="attention", dropout=0.0, dora=False, seed=0)
    save(
        model,
        folder / "adapter",
        {name: p.detach().float() for name, p in model.trainable().items()},
    )
    return facts


def encoded(model, examples, max_tokens: int) -> list:
    from accord.data.templates import make_template
    from accord.data.trees import Limits, encode

    return encode(examples, make_template(model.tokenizer, "auto"), Limits(max_tokens)).trees


def write_rows(source: Path, lines: set[int], target: Path) -> None:
    """The chosen lines of the file as they stand."""
    text = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    target.write_bytes(
        b"".join(
            line + b"\n" for number, line in enumerate(text.split(b"\n"), 1) if number in lines
        )
    )


def batches(case: dict, model, file: Path, size: int) -> list:
    """The batches of accord's own order over a file of rows."""
    from accord.data.read import read
    from accord.objectives import resolve
    from accord.training.setup.plan import plan_order

    trees = encoded(model, read(file, resolve(case["method"]).rows).examples, case["max_tokens"])
    order, steps = plan_order(config(case, file, size), trees)
    return [[trees[row] for row in order.batch(index)] for index in range(steps)]


def write_batches(case: dict, model, folder: Path, name: str, size: int) -> None:
    """Token ids, batch by batch, for TRL; for KTO with the mismatched answers that accord takes its
    baseline from.
    """
    from accord.data.order import mismatch

    found = []
    for index, trees in enumerate(batches(case, model, folder / f"{name}.jsonl", size)):
        rows = [
            {"prompt": t.prompt, "completions": t.completions, "desirable": t.desirable}
            for t in trees
        ]
        if case["method"] == "kto":
            other = {t.row: t.completions[0] for t in mismatch(trees, index)}
            assert len(other) == len(trees), "some prompt fills more than half of a batch"
            for row, tree in zip(rows, trees, strict=True):
                row["mismatched"] = other[tree.row]
        found.append(rows)
    (folder / f"{name}.json").write_text(json.dumps(found))


def config(case: dict, file: Path, size: int, adapter: Path | None = None, **more):
    from accord.config.schema import make_config

    raw = {
        "model": {"name": base(case, file.parent), "dtype": case["dtype"]},
        "objective": {"name": case["method"]},
        "data": {
            "train": str(file),
            "max_tokens": case["max_tokens"],
            "max_rejected": 1.0,
            "max_too_long": 1.0,
        },
        "train": {
            "batch_size": size,
            "epochs": 1.0,
            "learning_rate": 1e-4,
            "warmup": 0.0,
            "schedule": "constant",
        },
        "evaluate": {"every": 0},
        "checkpoint": {"every": 0},
        "output": str(file.parent / f"run-{time.time_ns()}"),
    }
    raw["model"] |= (
        {"lora": None} if case["all_weights"] else {"adapter": str(adapter)} if adapter else {}
    )
    return make_config(raw | more)


def train(spec: dict) -> dict:
    """A whole run, from the file to the saved model."""
    from accord.runs.display import SilentDisplay
    from accord.training.run import start

    case, folder = spec["case"], Path(spec["folder"])
    adapter = None if case["all_weights"] else folder / "adapter"
    # a run of a sweep shares its reference pass with the others
    sweep = (
        {"objective": {"name": case["method"], "beta": spec["beta"]}, "reference": "cached"}
        if "beta" in spec
        else {}
    )
    result = start(
        config(case, folder / "rows.jsonl", case["batch"], adapter, **sweep), SilentDisplay()
    )
    timings = [
        json.loads(line) for line in (result.folder / "timings.jsonl").read_text().splitlines()
    ]
    return {"seconds": [entry["seconds"] for entry in timings], "peak_gb": peak_gb()}


def check(spec: dict) -> dict:
    """Losses and log-probs of a few small updates in float32."""
    from accord.runs.display import SilentDisplay
    from accord.training.run import start

    case, folder = {**spec["case"], "dtype": "float32"}, Path(spec["folder"])
    adapter = None if case["all_weights"] else folder / "adapter"
    result = start(config(case, folder / "check.jsonl", CHECKED, adapter), SilentDisplay())
    lines = [
        json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()
    ]
    return {"metrics": compared(case, [line for line in lines if "loss" in line])}


def compared(case: dict, lines: list[dict]) -> list[dict]:
    """What both sides must report alike.

    ORPO's imitation term is the mean over the answer in accord and over question and answer in TRL,
    so the losses are not the same by definition, nor is anything behind the first update; what the
    odds-ratio term compares is.
    """
    if case["method"] == "orpo":
        return [
            {name: float(line[name]) for name in ("log_odds_chosen", "log_odds_ratio")}
            for line in lines[:1]
        ]
    return [
        {name: float(line[name]) for name in ("loss", "logps/chosen", "logps/rejected")}
        for line in lines
    ]


# -------------------------------------------------- the machine's own rate, and the work to be done


def shapes_of(model) -> dict:
    """Weights of the trunk's projections of one layer, of all layers, and of the head: [out, in]
    each.
    """
    layer = model.network.base_model.layers[0]
    projections = [list(m.weight.shape) for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    return {
        "layer": projections,
        "layers": len(model.network.base_model.layers),
        "head": list(model.head.module.weight.shape),
    }


def arithmetic(case: dict, shapes: dict, found: list) -> dict:
    """Unique tokens and useful floating-point operations of an update: trunk on unique tokens, head
    on answer tokens.

    A product with a weight costs 2 · out · in a token; forward once, backward once for the input
    and once more for the weight where it trains; the reference forward once. Attention, norms and
    adapters are left out. KTO's rows with the answers of others are scored by policy and reference,
    without a gradient.
    """
    from accord.data.order import mismatch
    from accord.forward.layout import micro_batches, pack
    from accord.objectives import resolve

    trunk = shapes["layers"] * sum(2 * o * i for o, i in shapes["layer"])
    head = 2 * shapes["head"][0] * shapes["head"][1]
    passes = (3 if case["all_weights"] else 2) + (1 if resolve(case["method"]).reference else 0)
    flops, tokens = [], []
    for index, trees in enumerate(found):
        others = mismatch(trees, index) if case["method"] == "kto" else []
        work, packed = 0.0, 0
        for rows, times in ((trees, passes), (others, 2)):
            layouts = [pack([rows[i] for i in group]) for group in micro_batches(rows, 2048)]
            unique = sum(layout.tokens for layout in layouts)
            answers = sum(len(layout.targets) for layout in layouts)
            work += times * (unique * trunk + answers * head)
            packed += unique
        flops.append(work)
        tokens.append(packed)
    return {
        "flops_an_update": statistics.mean(flops[1:]),
        "tokens_an_update": statistics.mean(tokens[1:]),
        "passes": passes,
    }


def gemm(spec: dict) -> dict:
    """The machine's own rate at the model's shapes: products of 1,024 tokens with each weight, in
    the case's dtype.
    """
    shapes = json.loads((Path(spec["folder"]) / "shapes.json").read_text())
    dtype = getattr(torch, spec["case"]["dtype"])
    weights = [torch.randn(o, i).to(dtype) for o, i in shapes["layer"]]
    tokens = [torch.randn(1024, i).to(dtype) for _, i in shapes["layer"]]
    work = sum(2 * 1024 * o * i for o, i in shapes["layer"])
    rates = []
    for _ in range(12):
        began = time.perf_counter()
        for _ in range(8):
            for x, w in zip(tokens, weights, strict=True):
                x @ w.T
        rates.append(8 * work / (time.perf_counter() - began))
    return {"flops_a_second": statistics.median(rates[2:]), "threads": torch.get_num_threads()}


if __name__ == "__main__":
    print(
        json.dumps(
            {"prepare": prepare, "train": train, "check": check, "gemm": gemm}[sys.argv[1]](
                json.loads(sys.argv[2])
            )
        )
    )

"""accord's part of gpu.py, one task a process: a starting adapter, the updates themselves, the
machine's own rate.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from accord.environment.settings import apply_env_defaults

apply_env_defaults()

import torch  # noqa: E402
from accord_side import arithmetic, shapes_of  # noqa: E402
from peak import device_peak_gb, peak_gb  # noqa: E402

from accord.types import Tree  # noqa: E402


def batches_of(file: Path) -> list[list[Tree]]:
    found = json.loads(file.read_text())
    return [
        [
            Tree(tuple(r["prompt"]), tuple(map(tuple, r["completions"])), i)
            for i, r in enumerate(rows)
        ]
        for rows in found
    ]


def loaded(spec: dict, dtype: str, device: str):
    """The model with what trains in it: a fresh adapter of a fixed seed, or all weights."""
    from accord.models.load import load
    from accord.models.lora import add_lora, train_all_weights

    model = load(spec["model"], dtype=dtype, device=device)
    if spec["case"]["all_weights"]:
        train_all_weights(model)
    else:
        add_lora(model, rank=16, alpha=32, targets="attention", dropout=0.0, dora=False, seed=0)
    return model


def prepare(spec: dict) -> dict:
    """Save the starting adapter for TRL; count the arithmetic of an update."""
    from accord.models.export import save

    folder = Path(spec["folder"])
    model = loaded(spec, spec["case"]["dtype"], "cpu")
    if model.peft is not None:
        save(
            model,
            folder / "adapter",
            {name: p.detach().float() for name, p in model.trainable().items()},
        )
    shapes = shapes_of(model)
    (folder / "shapes.json").write_text(json.dumps(shapes))
    found = batches_of(folder / "rows.json")
    # which leaves out the first of those it gets
    return arithmetic(spec["case"], shapes, found[len(found) // 2 - 1 :])


class Trainer:
    """accord's own step on a model, without the run around it."""

    def __init__(self, spec: dict, dtype: str, first: list[Tree], updates: int, micro_tokens: int):
        from accord.config.schema import TrainConfig
        from accord.engine.micro_budget import MicroBudget
        from accord.engine.optimizer import Optimizer
        from accord.engine.step import UpdateContext
        from accord.forward.choose import choose
        from accord.forward.reference import AdaptersOff, Frozen
        from accord.objectives import resolve
        from accord.verify.preflight import probe

        model = loaded(spec, dtype, spec["device"])
        forward = choose(model, probe(first)[:2])
        reference = Frozen.copy_of(forward) if model.peft is None else AdaptersOff(forward)
        self.learner = UpdateContext(
            forward, resolve("dpo"), reference, MicroBudget(micro_tokens), 0
        )
        self.optimizer = Optimizer(
            model.trainable(), TrainConfig(warmup=0, schedule="constant"), 1e-4, updates
        )

    def update(self, index: int, trees: list[Tree]) -> dict[str, float]:
        """One update, with the figures that a run would log of it."""
        from accord.engine.step import accumulate, make_batch
        from accord.evaluate.records import summarise

        records = accumulate(
            self.learner, make_batch(self.learner, index, trees), self.optimizer.masters
        )
        norm = self.optimizer.grad_norm()
        assert torch.isfinite(norm), "the gradient is not finite"
        self.optimizer.update(index, norm)
        return summarise(records, self.learner.objective)


def train(spec: dict) -> dict:
    """Seconds of each update, and the peak of memory."""
    found = batches_of(Path(spec["folder"]) / "rows.json")
    trainer = Trainer(spec, spec["case"]["dtype"], found[0], len(found), spec["micro_tokens"])
    seconds = []
    for index, trees in enumerate(found):
        wait(spec["device"])
        began = time.perf_counter()
        trainer.update(index, trees)
        wait(spec["device"])
        seconds.append(time.perf_counter() - began)
    forward = trainer.learner.forward
    return {
        "seconds": seconds,
        "peak_gb": peak_gb(),
        "device_peak_gb": device_peak_gb(),
        "path": forward.path,
        "reason": forward.reason,
    }


def check(spec: dict) -> dict:
    """Losses and log-probs of a few small updates in float32."""
    found = batches_of(Path(spec["folder"]) / "check.json")
    trainer = Trainer(spec, "float32", found[0], len(found), 10**9)
    lines = [trainer.update(index, trees) for index, trees in enumerate(found)]
    return {
        "metrics": [
            {name: line[name] for name in ("loss", "logps/chosen", "logps/rejected")}
            for line in lines
        ]
    }


def wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def gemm(spec: dict) -> dict:
    """The device's own rate: products of many tokens with each weight of a layer, in the case's
    dtype.
    """
    shapes = json.loads((Path(spec["folder"]) / "shapes.json").read_text())
    dtype, device = getattr(torch, spec["case"]["dtype"]), spec["device"]
    tokens = 16_384 if torch.device(device).type == "cuda" else 1_024
    work = [
        (
            torch.randn(tokens, i, device=device).to(dtype),
            torch.randn(o, i, device=device).to(dtype),
        )
        for o, i in shapes["layer"]
    ]
    flops = sum(2 * tokens * w.numel() for _, w in work)
    rates = []
    for _ in range(12):
        wait(device)
        began = time.perf_counter()
        for _ in range(8):
            for x, w in work:
                x @ w.T
        wait(device)
        rates.append(8 * flops / (time.perf_counter() - began))
    return {"flops_a_second": sorted(rates[2:])[5]}


if __name__ == "__main__":
    print(
        json.dumps(
            {"prepare": prepare, "train": train, "check": check, "gemm": gemm}[sys.argv[1]](
                json.loads(sys.argv[2])
            )
        )
    )

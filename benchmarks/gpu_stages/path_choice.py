"""Which forward path accord chooses, every path against the oracle in float32, and how long each
takes.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from gpu_stages import models
from gpu_stages.tasks import Given, wait
from peak import device_peak_gb, forget_device_peak

from accord.compat import is_out_of_memory
from accord.engine.release import release
from accord.errors import describe
from accord.forward.backends import TREE_ATTENTION
from accord.forward.choose import PADDED, choose, compare, gradients_apart, paths_of
from accord.types import AccordError, Tree
from accord.verify.preflight import probe

SHARING = tuple(TREE_ATTENTION)
EXACT_ROWS, TIMED_ROWS = 4, 8
TIMED = 3  # passes; one before is not timed


def run(given: Given) -> None:
    """Compare, then time."""
    shape = given.shape
    rows = models.make_batches(models.Size(TIMED_ROWS, 1), shape.vocab, given.tiny)[0]
    trees = models.trees_of(rows)
    exact = models.accord_model(shape, "", "float32", given.device)
    began = time.perf_counter()
    chosen = choose(exact, probe(trees)[:2])
    given.emit(
        path=chosen.path,
        reason=chosen.reason,
        worst=chosen.worst,
        choice_seconds=time.perf_counter() - began,
    )
    compared: dict[str, Any] = {}
    for path in (*SHARING, PADDED):
        compared[path] = against_oracle(exact, trees[:EXACT_ROWS], path)
        given.emit(float32=compared)
    exact = chosen = None  # 5 GB, before the next model is made
    release()
    fast = models.accord_model(shape, "lora", given.dtype, given.device)
    choose(fast, probe(trees)[:2])  # accord's attention takes the place of the model's own
    timed: dict[str, Any] = {}
    for path in (*SHARING, PADDED, "oracle"):
        if given.left < 0:
            timed[path] = "not tried: no time was left"
        elif "cannot" in compared.get(path, {}):
            timed[path] = compared[path]["cannot"]
        else:
            timed[path] = seconds_of(given, fast, trees, path)
        given.emit(forward_and_backward=timed, rows=TIMED_ROWS, dtype=given.dtype)


def against_oracle(model: Any, trees: list[Tree], path: str) -> dict[str, float | str]:
    """Largest and mean difference of a token's log-prob in nats, and that of the gradients relative
    to their size; or why the path cannot be used.
    """
    try:
        choose(model, trees[:2], path)
        apart = compare(model, trees, path)
        return {
            "worst_nats": apart.max().item(),
            "mean_nats": apart.mean().item(),
            "gradients_apart": gradients_apart(model, trees, path),
        }
    except AccordError as error:  # one line of it is about this path
        lines = str(error).splitlines()
        own = [line.removeprefix(f"{path}: ") for line in lines if line.startswith(f"{path}: ")]
        return {"cannot": (own or lines)[0]}
    # kernels are compiled here for the first time: whatever a compiler raises is the finding
    except Exception as error:
        return {"cannot": describe(error)}


def seconds_of(
    given: Given, model: Any, trees: list[Tree], path: str
) -> dict[str, float | None] | str:
    """Seconds of forward and backward pass over some rows, the median; or why there are none."""
    seconds = []
    try:
        for _ in range(1 + TIMED):
            wait(given.device)
            forget_device_peak()
            began = time.perf_counter()
            paths_of(model)[path](model, trees).values.sum().backward()
            wait(given.device)
            seconds.append(time.perf_counter() - began)
            for parameter in model.trainable().values():
                parameter.grad = None
    except Exception as error:
        release()
        return "out of memory" if is_out_of_memory(error) else describe(error)
    found = {"seconds": statistics.median(seconds[1:]), "first_seconds": seconds[0]}
    return found | {"device_peak_gb": device_peak_gb()}

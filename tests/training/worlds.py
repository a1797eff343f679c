"""Several ranks inside one test: forked, so that nothing is imported again, and joined as torchrun
would have it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import torch.distributed as dist
from training.helpers import run

import accord
from accord.types import AccordError

GONE = -9  # exit code of a rank that was killed


def in_world(size: int, folder: Path, work, *arguments) -> list:
    """`work(*arguments)` on each of `size` ranks.

    Returns what each returned (JSON), {"error", "says", "code", "on_all_ranks"} of one that failed
    in words, or the exit code of any other. The store has a process of its own, as under torchrun:
    it outlives the ranks. It must not be this one, since a fork copies the locks that the store's
    threads hold at that moment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    port, told = context.Pipe(duplex=False)
    keeper = context.Process(target=_keep_store, args=(told,), daemon=True)
    keeper.start()
    number = port.recv()
    ranks = [
        context.Process(target=_rank, args=(r, size, number, folder, work, arguments))
        for r in range(size)
    ]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
    keeper.terminate()
    return [
        json.loads((folder / f"{r}.json").read_text()) if p.exitcode == 0 else p.exitcode
        for r, p in enumerate(ranks)
    ]


def _keep_store(told) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told.send(store.port)
    signal.pause()


def _rank(rank: int, size: int, port: int, folder: Path, work, arguments) -> None:
    told = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    try:
        answer = work(*arguments)
    except AccordError as error:
        answer = {
            "error": type(error).__name__,
            "says": str(error),
            "code": error.code,
            "on_all_ranks": error.on_all_ranks,
        }
    (folder / f"{rank}.json").write_text(json.dumps(answer))


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def train(folder, data, output, changes, before=None) -> dict:
    """A run as in `training.helpers.run`; `before(rank)` may break something first."""
    if before is not None:
        before(rank())
    result = run(folder, data, output, **changes)
    return {"saved": str(result.saved), "after": result.after, "best_step": result.best_step}


def resume(output) -> dict:
    return {"saved": str(accord.resume(str(output)).saved)}

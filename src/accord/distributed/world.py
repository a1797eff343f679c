"""Many processes as one run: which rank this is, what it computes, and what all ranks must agree
on.

torchrun starts one process per device. Every rank reads the same rows in the same order. Each batch
is dealt to the ranks by tokens. Since losses are divided by the *whole* batch's denominator, the
batch's gradient is the plain sum of the ranks' gradients. Only the first rank writes and prints.

A job hangs when one rank waits where another never comes. So whatever a rank may fail at alone
happens inside `gather_or_raise`: a failure, or a request to stop, on one rank is raised on every
rank at the same place. When a rank is gone, the others raise `PeerLost` at their next exchange.
Messages are safetensors, not pickles.

With one process the world is `ALONE`: every method does its work on the spot and nothing is sent.
"""

from __future__ import annotations

import json
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from accord import errors
from accord.environment import faults
from accord.environment.settings import ranks
from accord.errors import AccordError, Interrupted, PeerLost, UsageError, first_line

T = TypeVar("T")

# Seconds that a rank waits for another before it gives up. A process that dies is noticed at once,
# by its closed connection; this is for machines that freeze and cables that break, and must be
# longer than the first rank's slowest work alone: saving.
PATIENCE, PATIENCE_NAME = 1800.0, "ACCORD_PATIENCE"
ROLL_CALL = 1.0  # seconds that survivors give each other to answer, once one is gone
NO_ANSWER = 5.0  # seconds after which the place where ranks meet counts as gone itself
BUCKET = 1 << 25  # gradients in one message: 128 MB of float32
FAILED, VALUE = "!failed", "!value"  # columns of a message that carry text


@dataclass(frozen=True)
class World:
    """This process among all that train one run."""

    rank: int = 0
    size: int = 1
    places: tuple[str, ...] = ("",)  # place of each rank, for people: machine and process
    # every forward pass is a joint one (sharded weights): all ranks must make the same number
    sharded: bool = False
    store: dist.Store | None = None  # outlives the ranks under torchrun

    @property
    def first(self) -> bool:
        """Tell whether this rank writes and prints."""
        return self.rank == 0

    # ------------------------------------------------------------ who computes what

    def balance_by_tokens(self, weights: Sequence[int]) -> list[list[int]]:
        """Deal the indices of `weights` to the ranks; see the function `balance_by_tokens`."""
        return balance_by_tokens(weights, self.size)

    def passes(self, dealt: Sequence[Sequence[T]]) -> list[T | None]:
        """Return this rank's share.

        In lockstep it is filled up with None: a pass that only keeps the other ranks company.
        """
        mine = list(dealt[self.rank])
        longest = max(map(len, dealt)) if self.sharded else 0
        return mine + [None] * (longest - len(mine))

    def poll_together(self, poll: Callable[[], None]) -> Callable[[], None]:
        """Return the function to call between passes: `poll`.

        In lockstep all ranks call it now, since no rank may leave alone.
        """
        if not self.sharded:
            return poll
        self.agree(poll)
        return lambda: None

    # ------------------------------------------------------------ what all do at once

    def gather_or_raise(self, work: Callable[[], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Do `work` on every rank; return the results of all, in the order of ranks.

        Raises:
          AccordError: the work's own failure, or that of the first rank whose work failed, on every
            rank.
          PeerLost: a rank is gone.
        """
        if self.size == 1:
            return [work()]
        failure = None
        try:
            with self.noticing_losses():
                message = work()
        except Exception as error:
            # a lost peer answers no more
            if getattr(error, "on_all_ranks", False) or isinstance(error, PeerLost):
                raise
            failure, message = error, _told(error)
        try:
            messages = self._exchange(message)
        except PeerLost:
            if failure is None or isinstance(failure, Interrupted):
                raise
            raise failure from failure.__cause__  # says more than that others are gone
        if failure is not None:
            vars(failure)["on_all_ranks"] = True  # an exception of any class
            raise failure
        for rank, answer in enumerate(messages):
            if FAILED in answer:
                raise self._retold(rank, _read(answer[FAILED]))
        return messages

    @contextmanager
    def noticing_losses(self) -> Iterator[None]:
        """Raise `PeerLost` where an exchange of torch's own, in a pass through sharded weights,
        breaks off inside the block.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or GLOO.search(str(error))):
                raise
            raise self._lost() from error

    def agree(self, work: Callable[[], T]) -> T:
        """Do `work` on every rank; return this rank's own result, or raise one failure on all."""
        results: list[T] = []

        def keep() -> dict[str, Tensor]:
            results.append(work())
            return {}

        self.gather_or_raise(keep)
        return results[0]

    def on_first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first rank alone; return its result, which must be JSON, on all, or
        raise its failure.
        """
        if self.size == 1:
            return work()
        return _read(
            self.gather_or_raise(lambda: {VALUE: _text(work())} if self.first else {})[0][VALUE]
        )

    def gather(self, value) -> list:
        """Return every rank's `value`, which must be JSON, in the order of ranks."""
        return self.gather_from(lambda: value)

    def gather_from(self, work: Callable[[], T]) -> list[T]:
        """Do `work` on every rank; return what each gave, which must be JSON, in the order of
        ranks, or raise one failure on all.
        """
        if self.size == 1:
            return [work()]
        return [_read(m[VALUE]) for m in self.gather_or_raise(lambda: {VALUE: _text(work())})]

    def share_out(self, count: int, work: Callable[[range], list[T]]) -> list[T]:
        """Deal `count` things in blocks, in their order; return the lists that `work` makes of the
        blocks, laid end to end, on every rank.

        Every rank works, also on an empty block: what it does may be an exchange itself.
        """
        ends = [count * rank // self.size for rank in range(self.size + 1)]
        own = range(ends[self.rank], ends[self.rank + 1])
        return [one for found in self.gather_from(lambda: work(own)) for one in found]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of one dtype over all ranks, in place: every rank then holds the same
        bits.
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._call(dist.all_reduce, flat)
            for tensor, total in zip(
                bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True
            ):
                tensor.copy_(total.view_as(tensor))

    def from_first(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Send the first rank's tensors, one at a time as they are asked for.

        Every rank must ask, in the same order.
        """
        if self.size == 1:
            return tensors
        shapes = {
            name: (list(t.shape), str(t.dtype).removeprefix("torch."))
            for name, t in tensors.items()
        }
        return _Sent(self, tensors, self.on_first(lambda: shapes))

    def remains(self) -> World:
        """Return the world of this rank alone, once another rank is gone.

        It says whether this rank is the one that writes.
        """
        return World(self.rank)

    # ------------------------------------------------------------ messages

    def _exchange(self, message: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        mine = torch.frombuffer(bytearray(save(message)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        self._call(dist.all_gather, sizes, torch.tensor([len(mine)]))
        longest = int(max(sizes))
        pieces = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        self._call(dist.all_gather, pieces, torch.nn.functional.pad(mine, (0, longest - len(mine))))
        return [
            load(piece[: int(size)].numpy().tobytes())
            for piece, size in zip(pieces, sizes, strict=True)
        ]

    def _call(self, collective: Callable, *arguments) -> None:
        try:
            collective(*arguments)
        except RuntimeError as error:  # gloo's and NCCL's errors are RuntimeErrors
            raise self._lost() from error

    def _retold(self, rank: int, failure: dict) -> AccordError:
        """Rebuild another rank's failure, in its words, of its class."""
        error = getattr(errors, failure["kind"])(f"{self.name(rank)}: {failure['says']}")
        error.on_all_ranks = True
        return error

    def name(self, rank: int) -> str:
        """Return a rank's name for people."""
        return f"rank {rank} of {self.size} ({self.places[rank]})"

    def _lost(self) -> PeerLost:
        """Find out which rank is gone.

        Survivors leave a mark in the store; after a moment the missing mark shows who is gone.
        """
        alive = self._roll_call()
        if alive is None:
            alive, who = [self.rank], "the machine that the ranks met on"  # the store was there
        else:
            who = "; ".join(self.name(rank) for rank in range(self.size) if rank not in alive)
        error = PeerLost(f"lost {who}: killed, out of memory, or out of reach.")
        error.on_all_ranks = self.rank != alive[0]  # one survivor reports it for all
        return error

    def _roll_call(self) -> list[int] | None:
        """List the ranks that answer; None where the store does not. It may be behind a cable that
        is cut, where a call never comes back: a thread of its own waits for it.
        """
        store = self.store
        alive: list[int] = []
        assert store is not None, "ranks meet at a store"

        def call() -> None:
            with suppress(RuntimeError):
                store.set(f"alive/{self.rank}", "1")
                time.sleep(ROLL_CALL)
                alive.extend(
                    r for r in range(self.size) if r == self.rank or store.check([f"alive/{r}"])
                )

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(ROLL_CALL + NO_ANSWER)
        return alive if alive and not thread.is_alive() else None


ALONE = World()
_JOINED: list[World] = []  # the world that this process is in, while it is
GLOO = re.compile(r"gloo|Connection (closed|reset)|Timed out", re.IGNORECASE)


# ---------------------------------------------------------------- joining


@contextmanager
def join_world() -> Iterator[World]:
    """Join the world that torchrun describes in the environment; `ALONE` without it.

    Inside the block it is joined already: a command of several runs joins once for all of them.

    Raises:
      UsageError: no way to reach the other ranks.
    """
    rank, size = ranks()
    if size == 1 or _JOINED:
        yield _JOINED[-1] if _JOINED else ALONE
        return
    longest = patience()
    # Messages go through gloo, whose broken connections raise; gradients of a GPU through NCCL.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", timeout=longest))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=longest)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"rank {rank} of {size} cannot reach the others: {first_line(error)}\nStart"
            " all processes with torchrun, which sets RANK, WORLD_SIZE, MASTER_ADDR and"
            " MASTER_PORT."
        ) from error
    world = World(rank, size, ("",) * size, store=dist.PrefixStore("accord", store))
    try:
        places = world.gather(f"{platform.node()}, process {os.getpid()}")
        _JOINED.append(replace(world, places=tuple(places)))
        yield _JOINED[-1]
    except PeerLost:
        raise  # the group is broken, and taking it down in order would wait for those who are gone
    except BaseException:
        dist.destroy_process_group()
        raise
    else:
        dist.destroy_process_group()
    finally:
        _JOINED.clear()


def patience() -> timedelta:
    """Return how long a rank waits for another.

    Raises:
      UsageError: ACCORD_PATIENCE is no number of seconds.
    """
    given = os.environ.get(PATIENCE_NAME, "")
    if given and not re.fullmatch(r"[1-9]\d*", given):
        raise UsageError(
            f"{PATIENCE_NAME}={given}: expected whole seconds, such as 600. Leave it out for"
            f" {PATIENCE:g}: unset {PATIENCE_NAME}"
        )
    return timedelta(seconds=float(given or PATIENCE))


# ---------------------------------------------------------------- dealing


def balance_by_tokens(weights: Sequence[int], ranks: int) -> list[list[int]]:
    """Deal indices to the ranks, in order, so that the ranks' sums of weights are nearly equal.

    The heaviest comes first, each to the rank with the least so far: the largest sum is at most 4/3
    of the best possible one (Graham 1969, SIAM J. Appl. Math. 17, Theorem 3). This is a pure
    function, so that every rank knows every share.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    sums = [0] * ranks
    for index in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        rank = sums.index(min(sums))
        shares[rank].append(index)
        sums[rank] += weights[index]
    return [sorted(share) for share in shares]


def restore_order(
    pieces: Sequence[Mapping[str, Tensor]], places: Sequence[int]
) -> dict[str, Tensor]:
    """Join the ranks' tables: row i of the tables laid end to end goes to row `places[i]`.

    A rank that had no rows has no columns either.

    Raises:
      Refused: not every row that was dealt came back.
    """
    index = torch.tensor(places, dtype=torch.long).argsort()
    table = concat_tables([piece for piece in pieces if piece])
    for name, column in table.items():
        if len(column) != len(index):
            raise errors.Refused(
                f"A pass was dealt {len(index)} rows, and {len(column)} came back ({name}): a"
                " micro-batch was lost, or came twice.\nWhat would be trained is not the batch."
                " This is a fault of the program: report it."
            )
    return {name: column[index] for name, column in table.items()}


def concat_tables(tables: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate tables of the same columns, in memory that messages are made from.

    The result of no table has no columns.
    """
    return {
        name: torch.cat([table[name] for table in tables]).cpu()
        for name in (tables[0] if tables else ())
    }


# ---------------------------------------------------------------- tensors and text


class _Sent(Mapping):
    """Tensors that live on the first rank; looking one up is a broadcast."""

    def __init__(
        self, world: World, tensors: Mapping[str, Tensor], shapes: dict[str, tuple[list[int], str]]
    ):
        self.world, self.tensors, self.shapes = world, tensors, shapes

    def __getitem__(self, name: str) -> Tensor:
        shape, dtype = self.shapes[name]
        tensor = (
            self.tensors[name]
            if self.world.first
            else torch.empty(shape, dtype=getattr(torch, dtype))
        )
        self.world._call(dist.broadcast, tensor, 0)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in order, in groups of about BUCKET numbers: few messages, little
    memory.
    """
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _told(error: Exception) -> dict[str, Tensor]:
    """Turn a failure into a message.

    An exception that is no AccordError is a bug here; for the other ranks it is a lost peer.
    """
    known = next(
        (c.__name__ for c in type(error).__mro__ if c.__module__ == errors.__name__),
        PeerLost.__name__,
    )
    says = str(error)
    if not isinstance(error, AccordError):
        says = f"failed with {type(error).__name__}: {error}"
        if faults.as_accord_error(error) is None:
            says += (
                f"\nThis is a bug of accord: please report it. Its traceback: {faults.log(error)}"
            )
    return {FAILED: _text({"kind": known, "says": says})}


def _text(value) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _read(tensor: Tensor):
    return json.loads(tensor.numpy().tobytes())

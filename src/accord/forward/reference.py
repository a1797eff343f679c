"""References: a source of log-probs from adapters off, a frozen copy, or a cache of either on disk.

A cache is addressed by content: each completion's key is a hash of its prompt's and its own token
ids, inside a folder named by a hash of all that the numbers depend on (weights as loaded, incoming
adapter, tokenizer, template, dtype, forward path). So a stale or misaligned value cannot be found,
and one pass serves every run that it is valid for, whatever its method, β or learning rate.
Nevertheless eight rows are recomputed each time.
"""

from __future__ import annotations

import copy
import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from accord.distributed.world import ALONE, World
from accord.environment.digests import text_digest
from accord.errors import first_line
from accord.forward.choose import Forward
from accord.forward.layout import sent
from accord.forward.logp_table import (
    BYTES,
    COLUMNS,
    LogpTable,
    as_entries,
    as_keys,
    as_table,
    first_of_each,
)
from accord.forward.shares import shares
from accord.types import Finding, Logps, Refused, Tree

# The dtype of sums of log-probs, a part of the cache's key: float32 sums were off by up to 7.4e-2
# nats in 5,000 tokens, and are not mixed with these (decision 0042).
SUMS = "float64"
PIECE = 256  # trees of a rank between two writes
LOOKED_UP = 1024  # trees that are looked up in the table at once
RECHECKED = 8  # rows of the cache that every run computes again


class Reference(Protocol):
    """The protocol of a reference: it knows the log-probs of trees."""

    @property
    def name(self) -> str:
        """Return its kind, as a recipe calls it."""

    moves: ClassVar[bool]  # its log-probs change while training: none may be kept
    # it equals the policy at the start of training: every log-ratio is 0 before the first update
    starts_as_policy: ClassVar[bool]

    @property
    def joint(self) -> bool:
        """Tell whether each of its passes is one of all ranks, through sharded weights."""

    def logps(self, trees: Sequence[Tree]) -> Logps:
        """Compute the [N] log-probs of the trees' completions, without gradient."""

    def follow(self, step: int, policy: Mapping[str, Tensor]) -> None:
        """Follow the policy after update `step` (from 1); `policy` are its float32 masters."""

    def state(self) -> dict[str, Tensor]:
        """Return its tensors for a checkpoint, by name."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that these tensors were saved from."""

    def following(self) -> list[Tensor]:
        """Return the parameters of the network that follow those that train."""


class Still:
    """The common part of references that never move."""

    moves: ClassVar[bool] = False
    starts_as_policy: ClassVar[bool] = True

    @property
    def joint(self) -> bool:
        """Tell whether it computes by a sharded model; a cache has none."""
        forward = getattr(self, "forward", None)
        return forward is not None and forward.model.sharded

    def follow(self, step: int, policy: Mapping[str, Tensor]) -> None:
        """Do nothing: it stays."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing: it is made from the initial weights again."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Do nothing: it stays."""

    def following(self) -> list[Tensor]:
        """Return no parameters."""
        return []


@dataclass(frozen=True)
class AdaptersOff(Still):
    """The policy's own network with its adapters switched off, or with the frozen incoming adapter
    on.
    """

    forward: Forward
    name: str = "adapter_off"

    @torch.no_grad()
    def logps(self, trees: Sequence[Tree]) -> Logps:
        with self.forward.model.as_reference():
            return self.forward.token_logps(trees).reduce()


@dataclass(frozen=True)
class Base(AdaptersOff):
    """The network without any adapter, where training continues one.

    Policy and reference differ from the start.
    """

    name: str = "base"
    starts_as_policy: ClassVar[bool] = False


@dataclass(frozen=True)
class Frozen(Still):
    """A copy of the network, made before training."""

    forward: Forward
    name: str = "frozen"

    @classmethod
    def copy_of(cls, policy: Forward) -> Frozen:
        model = copy.copy(policy.model)
        model.network = copy.deepcopy(policy.model.network).requires_grad_(False)
        path, columns = policy.path, policy.columns
        return cls(Forward(model, path, policy.reason, policy.worst, columns=columns))

    @torch.no_grad()
    def logps(self, trees: Sequence[Tree]) -> Logps:
        return self.forward.token_logps(trees).reduce()


@dataclass
class Cached(Still):
    """Log-probs looked up by content; `fill` computes those that are missing, once, and keeps them
    on disk.
    """

    folder: Path  # the folder of this reference's full key
    device: torch.device
    table: LogpTable = field(default_factory=LogpTable)
    # whether the sums over shared first tokens are kept too: entries of their own, whose keys have
    # the number of those tokens
    shared: bool = False
    # why something is only in memory: a full or read-only disk costs time, but does not end the run
    unkept: str = ""
    name: str = "cached"

    @classmethod
    def under(cls, key: str, device: torch.device, shared: bool = False) -> Cached:
        """Open the cache of one full key; empty until `load` or `fill`."""
        return cls(cache_root() / key, device, shared=shared)

    def logps(self, trees: Sequence[Tree]) -> Logps:
        found = self.table.entries(keys_of(trees))
        counts = found["counts"].long()
        assert counts.tolist() == [len(c) for tree in trees for c in tree.completions], (
            "a hash collision, or a bug"
        )
        shared = self.table.entries(keys_of(trees, shared=True))["sums"] if self.shared else None
        return Logps(
            sent(found["sums"], self.device),
            sent(counts, self.device),
            None if shared is None else sent(shared, self.device),
        )

    def _keys(self, trees: Sequence[Tree]) -> np.ndarray:
        """Return the keys of all entries of some trees, [N, 16] uint8, or [2N, 16]: all sums
        first.
        """
        sides = [False, True] if self.shared else [False]
        return np.concatenate([keys_of(trees, shared) for shared in sides])

    def missing(self, trees: Sequence[Tree]) -> np.ndarray:
        """Return the places of the trees that are not in the table, short trees first."""
        places, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start in range(0, len(trees), LOOKED_UP):
            piece = trees[start : start + LOOKED_UP]
            owners = np.repeat(np.arange(len(piece)), [len(tree.completions) for tree in piece])
            absent = ~self.table.has(self._keys(piece))
            left = np.unique(owners[absent.reshape(-1, len(owners)).any(0)])
            places.append(start + left)
            sizes.append(np.array([piece[at].tokens for at in left], np.int64))
        return np.concatenate(places)[np.argsort(np.concatenate(sizes), kind="stable")]

    def fill(
        self,
        live: Reference,
        trees: Sequence[Tree],
        budget: int,
        progress: Callable[[int, int], None] = lambda a, b: None,
        world: World = ALONE,
    ) -> int:
        """Compute missing log-probs with the live reference and write them to disk in pieces;
        return how many trees.

        A pass that is cut off loses little. The ranks share the work; each ends with the whole
        table. Only the first rank reads the disk before and writes to it.
        """
        self._spread(world)
        # trees of similar length together; the order of the table does not matter
        todo = self.missing(trees)
        size = PIECE * world.size
        for start in range(0, len(todo), size):
            piece = [trees[place] for place in todo[start : start + size]]

            def report(done: int, start: int = start) -> None:
                progress(min(start + done, len(todo)), len(todo))

            if world.sharded:
                world.agree(lambda: report(0))
            tables = world.gather_or_raise(
                partial(self._computed, live, piece, budget, world, report)
            )
            fresh = {k: entry for table in tables for k, entry in as_entries(table).items()}
            self.table.update(fresh)
            world.on_first(partial(self._write, fresh))
        return len(todo)

    def _computed(
        self,
        live: Reference,
        piece: Sequence[Tree],
        budget: int,
        world: World,
        report: Callable[[int], None],
    ) -> dict[str, Tensor]:
        """Call `_compute` and return its result in the form that the ranks exchange."""
        return as_table(self._compute(live, piece, budget, world, report))

    def _compute(
        self,
        live: Reference,
        trees: Sequence[Tree],
        budget: int,
        world: World,
        report: Callable[[int], None],
    ) -> dict[bytes, tuple[float, int]]:
        """Compute this rank's share of some trees."""
        fresh: dict[bytes, tuple[float, int]] = {}
        done = 0
        for group in world.passes(shares(trees, budget, world)):
            logps = live.logps(group or trees[:1])
            if group is not None:
                keys = [row.tobytes() for row in self._keys(group)]
                entries = _entries(logps, group, self.shared)
                fresh.update(zip(keys, entries, strict=True))
                done += len(group) * world.size
            if not world.sharded:
                report(done)
        return fresh

    def _spread(self, world: World) -> None:
        """Send what the first rank found on its disk to all."""
        if world.size > 1:
            own = self.table if world.first else LogpTable()
            first = world.gather_or_raise(own.tensors)[0]
            self.table = LogpTable()
            self.table.put(first)

    def load(self) -> list[str]:
        """Read every shard; return what was wrong with those that had to be left out."""
        problems = []
        for file in sorted(self.folder.glob("*.safetensors")):
            try:
                self.table.put(_read_shard(file, self.folder.name))
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                problems.append(
                    f"{file.name}: {first_line(error, 120)}; its log-probs are computed again"
                )
                file.unlink(missing_ok=True)
        return problems

    def recheck(self, live: Reference, trees: Sequence[Tree], seed: int, allowed: float) -> Finding:
        """Compute eight random rows again and compare.

        Args:
          allowed: nats per token that rounding in other micro-batches may account for.

        Raises:
          Refused: the cache holds other numbers than the reference computes now.
        """
        rng = np.random.Generator(np.random.Philox(key=[seed, len(trees)]))
        rows = [trees[i] for i in rng.permutation(len(trees))[:RECHECKED]]
        difference, tokens = 0.0, 0
        for tree in rows:
            now, then = live.logps([tree]), self.logps([tree])
            difference += (now.sum - then.sum).abs().sum().item()
            tokens += int(now.count.sum())
            if now.shared is not None and then.shared is not None:
                difference += (now.shared - then.shared).abs().sum().item()
                tokens += tree.shortest * len(now)
        if not difference / tokens <= allowed:
            raise Refused(
                f"Cached reference log-probs differ from the reference by {difference / tokens:.3g}"
                f" nats a token on {len(rows)} rows computed again (expected under"
                f" {allowed:.2g}).\nThe cache is stale or damaged. Delete it and run again:"
                f" rm -r {self.folder}"
            )
        says = (
            f"{len(rows)} random rows of the cached reference recomputed: {difference / tokens:.1e}"
            " nats a token apart"
        )
        return Finding(
            "step0.cache", "ok", says, {"nats_per_token": difference / tokens, "rows": len(rows)}
        )

    def keep(self, file: Path, trees: Sequence[Tree]) -> None:
        """Write the log-probs of a run's trees beside the run.

        Other runs fill the cache too, in other micro-batches with other rounding. So a run that
        continues takes the numbers that it began with.
        """
        table = self.table.entries(first_of_each(self._keys(trees)))
        _write_shard(file, file.with_name(f".staging-{file.name}"), table, self.folder.name)

    def recall(self, file: Path) -> str:
        """Take the log-probs that `keep` wrote, before anything else; return what is wrong with
        them, if anything.
        """
        try:
            self.table.put(_read_shard(file, self.folder.name))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            return first_line(error, 120)
        return ""

    def _write(self, entries: dict[bytes, tuple[float, int]]) -> None:
        name = hashlib.sha256(b"".join(entries)).hexdigest()[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_shard(
                self.folder / f"{name}.safetensors",
                self.folder / f".{name}.{os.getpid()}",
                as_table(entries),
                self.folder.name,
            )
        except (OSError, SafetensorError) as error:
            self.unkept = first_line(error)


def cache_root() -> Path:
    """Return the folder where reference passes are kept: $ACCORD_CACHE or ~/.cache/accord."""
    return Path(os.environ.get("ACCORD_CACHE") or Path.home() / ".cache" / "accord") / "reference"


def full_key(**parts: str) -> str:
    """Return a folder name that stands for everything the numbers depend on."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(parts.items()))
    return text_digest(text)[:32]


def key(prompt: Sequence[int], completion: Sequence[int], first: int | None = None) -> bytes:
    """Return 16 bytes that stand for one completion in its context, or for its first tokens alone:
    the ids are the template and the mask in one.
    """
    numbers = [len(prompt), len(completion), *prompt, *completion]
    numbers += [] if first is None else [first]
    return hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=16).digest()


def keys_of(trees: Iterable[Tree], shared: bool = False) -> np.ndarray:
    """Return the key of each tree's completions, [N, 16] uint8; of the tokens that they share in
    number with the tree's others, where asked.
    """
    return as_keys(
        key(tree.prompt, each, tree.shortest if shared else None)
        for tree in trees
        for each in tree.completions
    )


def _entries(logps: Logps, trees: Sequence[Tree], shared: bool) -> list[tuple[float, int]]:
    """Return the entries of some trees, in the order of their keys."""
    entries = list(zip(logps.sum.tolist(), logps.count.tolist(), strict=True))
    if not shared:
        return entries
    assert logps.shared is not None, "the forward path was not asked for shared sums"
    counts = [tree.shortest for tree in trees for _ in tree.completions]
    return entries + list(zip(logps.shared.tolist(), counts, strict=True))


def _write_shard(file: Path, staging: Path, table: Mapping[str, Tensor], reference: str) -> None:
    # One entry alone: safetensors writes several in an order that is drawn anew each time, and a
    # run that was killed and went on would leave other bytes than one that was not (found by
    # benchmarks/torture.py).
    save_file(dict(table), staging, metadata={"sha256": _digest(table, reference)})
    staging.rename(file)


def _read_shard(file: Path, reference: str) -> dict[str, Tensor]:
    with safe_open(file, "pt") as shard:
        table = {name: shard.get_tensor(name) for name in COLUMNS}
        about = shard.metadata() or {}
    if table["sums"].dtype != torch.float64:
        raise ValueError("its sums are of float32, as accord wrote them before it added in float64")
    if len({len(column) for column in table.values()}) > 1 or table["keys"].shape[1:] != (BYTES,):
        raise ValueError("its columns do not fit together")
    if about.get("sha256") != _digest(table, reference):
        raise ValueError("its checksum does not fit its content, or is of another reference")
    return table


def _digest(table: Mapping[str, Tensor], reference: str) -> str:
    """Seal a table: hash its content, and the key of its reference."""
    digest = hashlib.sha256(reference.encode())
    for name in COLUMNS:
        digest.update(table[name].numpy().tobytes())
    return digest.hexdigest()

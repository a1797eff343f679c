"""Weights read part by part: each rank of a sharded run reads from a model's files what it will
hold, and nothing else.

Which tensor of a file belongs to which parameter is for transformers to say: it renames keys, and
changes some tensors while it loads them. So it loads stand-ins: tensors of the shapes in the files'
headers that take no memory, since all their entries lie over each other. Where a stand-in arrives
unchanged, in the same memory and with the strides that only an untouched one has, its tensor can be
read in slices. Where anything else arrives the model is read whole, and a note says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from accord.errors import first_line
from accord.models.parts import assembled
from accord.models.stored_keys import is_computed
from accord.models.weight_files import Stored
from accord.types import UsageError

FLOATS = ("F64", "F32", "F16", "BF16")  # converted to the network's dtype, entry by entry
OTHERS = {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Places:
    """The places of a network's tensors in its files."""

    keys: Mapping[str, tuple[Path, str]]  # parameter or buffer -> file and key
    why_not: str = ""  # why the files cannot be read in slices; empty where they can


def stand_ins(stored: Mapping[str, Stored], dtype: torch.dtype) -> dict[str, Tensor]:
    """Make a tensor in the place of each one in the files, in the dtype that it will be loaded in.

    Its strides are 1, 2, 3, …, so a transposed or regrouped one has others; its entries are ones,
    so one that was computed with in place has others.
    """
    found = {}
    for key, tensor in stored.items():
        kind = dtype if tensor.dtype in FLOATS else OTHERS.get(tensor.dtype, dtype)
        strides = tuple(range(1, len(tensor.shape) + 1))
        reach = sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=True))
        memory = torch.ones(max(1, reach + 1), dtype=kind)
        found[key] = memory.as_strided(tensor.shape, strides)
    return found


def places_of(
    network: nn.Module,
    stored: Mapping[str, Stored],
    given: Mapping[str, Tensor],
    unexpected: set[str],
) -> Places:
    """Find where each stand-in arrived.

    Args:
      given: the stand-ins, by their keys in the files.
      unexpected: keys that have no place in the network.
    """
    if not stored:
        return Places({}, "its files could not be looked into")
    origins = {tensor.untyped_storage().data_ptr(): key for key, tensor in given.items()}
    keys: dict[str, tuple[Path, str]] = {}
    for name, tensor in _tensors(network).items():
        key = origins.get(tensor.untyped_storage().data_ptr())
        if key is None or not _untouched(tensor, given[key]):
            return Places({}, f"transformers changes {name} while it loads it")
        keys[name] = stored[key].file, key
    arrived = {key for _, key in keys.values()}
    known = arrived | unexpected
    strays = (key for key in given if key not in known and not is_computed(key, stored))
    if (stray := next(strays, None)) is not None:
        return Places({}, f"{stray} of its files is another tensor's copy or is changed")
    return Places(keys)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters, tied ones once, and the buffers that files hold, by name."""
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    every = dict(network.named_parameters(remove_duplicate=False))
    kept = network.state_dict(keep_vars=True)
    return parameters | {name: tensor for name, tensor in kept.items() if name not in every}


def _untouched(arrived: Tensor, given: Tensor) -> bool:
    same = arrived.shape == given.shape and arrived.dtype == given.dtype
    if not same or arrived.stride() != given.stride() or arrived.storage_offset() != 0:
        return False
    entries = given.untyped_storage().nbytes() // given.element_size()
    return bool((given.as_strided((entries,), (1,)) == 1).all())


def to_meta(network: nn.Module) -> None:
    """Take the stand-ins out: every parameter goes to the meta device, tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, p in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(p) not in made:
                empty = torch.empty(p.shape, dtype=p.dtype, device="meta")
                made[id(p)] = nn.Parameter(empty, requires_grad=p.requires_grad)
            setattr(module, name, made[id(p)])


def read_buffers(network: nn.Module, places: Places, name: str) -> None:
    """Read the buffers that the files hold: they are whole on every rank.

    Raises:
      UsageError: as `read_parts`.
    """
    own = dict(network.named_buffers())
    for path, tensor in _read(places, {key: None for key in places.keys if key in own}, name):
        owner, _, leaf = path.rpartition(".")
        setattr(network.get_submodule(owner), leaf, tensor.to(own[path].dtype))


def read_parts(network: nn.Module, places: Places, name: str, rank: int, size: int) -> None:
    """Read this rank's part of every parameter into a network that was cut on the meta device.

    Args:
      name: the model as the user named it.

    Raises:
      UsageError: a file is gone, or cannot be read.
    """
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for path, p in network.named_parameters(remove_duplicate=False):
        names[p].append(path)
    first = {paths[0]: p for p, paths in names.items()}
    wanted: dict[str, slice | None] = {
        path: rows_of(p.shape[0], rank, size) for path, p in first.items()
    }
    device = next(iter(names)).device_mesh.device_type  # type: ignore[attr-defined]
    parts: dict[str, nn.Parameter] = {}
    for path, tensor in _read(places, wanted, name):
        like = first[path]
        assert isinstance(like, DTensor), "the network was cut before"
        own = torch.empty(tensor.shape, dtype=like.dtype, device=device).copy_(tensor)
        made = nn.Parameter(assembled(own, like), requires_grad=like.requires_grad)
        parts |= dict.fromkeys(names[like], made)
    network.load_state_dict(parts, strict=False, assign=True)
    left = [path for path, p in network.named_parameters() if p.is_meta]
    assert not left, f"no part of {left[:3]} was read"


def rows_of(rows: int, rank: int, size: int) -> slice:
    """Return the rows of a tensor that a rank holds: as torch.chunk cuts, so the last may hold
    fewer, or none.
    """
    each = -(-rows // size)
    return slice(min(rank * each, rows), min((rank + 1) * each, rows))


def _read(places: Places, wanted: Mapping[str, slice | None], name: str):
    """Yield each wanted tensor by its path: the rows of its slice, or all of it."""
    by_file: dict[Path, list[str]] = defaultdict(list)
    for path in wanted:
        by_file[places.keys[path][0]].append(path)
    for file, paths in by_file.items():
        try:
            with safe_open(file, framework="pt") as opened:
                for path in paths:
                    key, rows = places.keys[path][1], wanted[path]
                    if rows is None:
                        yield path, opened.get_tensor(key)
                    else:
                        yield path, opened.get_slice(key)[rows]
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"{name}: {file.name} cannot be read: {first_line(error)}\nEvery process reads its"
                " part of the model from its own machine's disk: copy the whole folder there."
            ) from error

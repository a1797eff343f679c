"""A run whose weights lie in parts on its ranks (`models/parts.py`): when they do, how they are
loaded, and the joint pass of a forward path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps

import torch
from torch import Tensor

from accord.distributed.world import World
from accord.environment.heap import map_large_blocks
from accord.forward.logps import TokenLogps
from accord.models.language import LanguageModel
from accord.models.load import LoadedParts, load, load_parts, pick_device, pick_dtype
from accord.models.part_files import Places, places_of, read_buffers, read_parts, stand_ins, to_meta
from accord.models.parts import cut, gather_in_place, jointly, local, make_parts_lean, whole
from accord.types import Tree

Path = Callable[..., TokenLogps]


def choose_parallel(
    wanted: str, world: World, *, adapters: bool, whole_tensors: bool = False
) -> bool:
    """Decide whether the weights are to be sharded: all weights that train, unless they are to be
    whole; a base under adapters where that was asked for.

    Args:
      whole_tensors: the optimizer cannot update a part of a tensor.
    """
    by_default = not adapters and not whole_tensors
    return world.size > 1 and (wanted == "sharded" or (wanted == "auto" and by_default))


def joint_path(path: Path) -> Path:
    """Make a path whose every call is a joint one: all ranks make it, each with trees of its own.

    The head's weights are used outside the network's own forward pass. Inside this one, FSDP has
    gathered them, and gathers them again for the backward pass.
    """

    @wraps(path)
    def compute(model: LanguageModel, trees: Sequence[Tree], *rest, **options) -> TokenLogps:
        def work() -> tuple[Tensor, ...]:
            tokens = path(model, trees, *rest, **options)
            more = () if tokens.collision is None else (tokens.collision,)
            return tokens.values, tokens.entropy, tokens.owner, tokens.count, *more

        values, entropy, owner, count, *collision = jointly(model.network, work)
        return TokenLogps(values, entropy, owner, count, collision=next(iter(collision), None))

    return compute


def load_sharded(
    name: str, world: World, *, dtype: str, device: str, hub: bool = False
) -> LanguageModel:
    """Load a model of which each rank reads its part, or reads it whole and keeps its part where
    the files do not allow that (a note of the model says so).

    Raises:
      UsageError: as `load`, or FSDP does not take this network; on every rank.
    """
    target = pick_device(device)
    if target.type == "cpu":
        map_large_blocks()
    kind = pick_dtype(dtype, target)
    parts, places = world.agree(lambda: _laid_out(name, kind, hub))
    # ranks with other files than the first are refused later, by what the files hold
    why_not = next(filter(None, world.gather(places.why_not)), "")
    notes = parts.notes
    if why_not:
        parts = world.agree(lambda: _read(name, kind, hub))
        notes = (*notes, f"every process read the whole model before it was cut: {why_not}")
    else:
        world.agree(lambda: read_buffers(parts.network, places, parts.name))
        to_meta(parts.network)
    network = parts.network
    cut(network, parts.name, target, world.size)
    if not why_not:
        world.agree(lambda: read_parts(network, places, parts.name, world.rank, world.size))
    gather_in_place(network)
    make_parts_lean(network)
    return LanguageModel(
        network, parts.tokenizer, parts.name, parts.folder, notes=notes, sharded=True
    )


def _laid_out(name: str, dtype: torch.dtype, hub: bool) -> tuple[LoadedParts, Places]:
    """Load stand-ins for all tensors of a model, and find their places in the files."""
    given: dict[str, Tensor] = {}

    def lay(stored) -> dict[str, Tensor]:
        given.update(stand_ins(stored, dtype))
        return dict(given)

    parts = _read(name, dtype, hub, lay)
    return parts, places_of(parts.network, parts.stored, given, set(parts.unexpected))


def _read(name: str, dtype: torch.dtype, hub: bool, lay=None) -> LoadedParts:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return load_parts(name, AutoModelForCausalLM, AutoTokenizer, dtype, hub, lay=lay)


@torch.no_grad()
def whole_model(model: LanguageModel, world: World) -> LanguageModel:
    """Return the trained model with all its weights, on the first rank.

    Where nothing is sharded, or adapters alone train, this is the model itself.
    """
    if not model.sharded or model.has_adapters:
        return model
    tensors = {name: whole(local(p), p) for name, p in model.network.named_parameters()}
    if not world.first:
        return model
    plain = load(str(model.folder), dtype=str(model.dtype).removeprefix("torch."), device="cpu")
    for name, p in plain.network.named_parameters():
        p.copy_(tensors[name])
    return replace(plain, source=model.source)

"""Linear layers whose frozen weights take 4 or 8 bits: the base of QLoRA.

    y = x Ŵᵀ + b        Ŵ: the weights, dequantised into the dtype that is computed in

Ŵ is made for every product, in the forward pass and again in the backward pass, and kept by
neither: what a layer computes, and the gradient that it passes on, are those of a dense layer of Ŵ.

bitsandbytes packs and unpacks nf4; its modules are not used. In version 0.50 `Linear4bit` repacks
its weights for inference in the first pass in evaluation mode whose input asks for no gradient (on
processors with AVX512-BF16), and from then on passes no gradient on: adapters below it stay as they
are, with a warning of torch's and no error (benchmarks/silentbench/in_code/quantised.py). accord's
models are always in evaluation mode.

Source: Dettmers et al. 2023, arXiv:2305.14314 (nf4, double quantisation); int8 by rows as Dettmers
et al. 2022, arXiv:2208.07339, without its outliers.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from accord.config.quantize_section import QuantizeConfig
from accord.errors import plural
from accord.models import fingerprint
from accord.models.families import outside_language
from accord.models.headspec import trunk_of
from accord.models.packing import KINDS
from accord.types import UsageError

# A layer of fewer outputs is a gate or a router, whose choice a rounded weight can turn.
FEWEST = 8
# Root mean square error of a layer's weights, as a share of theirs, above which it is not quantised
# but damaged. nf4: .09 for normal weights, .15 at the most between two of its values; int8: .01.
ASTRAY = 0.25


class QuantizedLinear(nn.Linear):
    """A linear layer of packed weights. It is an `nn.Linear` for whoever asks, adapters among them.

    Its `weight` is made when it is read: what is written into that is lost. So it is replaced by a
    dense layer before anything is merged into it (`dequantize`).
    """

    def __init__(self, layer: nn.Linear, settings: QuantizeConfig):
        nn.Module.__init__(self)  # not nn.Linear's, which makes a weight
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.kind = settings.kind
        self.computes_in = layer.weight.dtype
        packed = KINDS[self.kind].pack(layer.weight.detach(), bool(settings.double))
        for name, tensor in packed.items():
            self.register_buffer(name, tensor)
        self.register_parameter("bias", layer.bias)

    @property
    def packed(self) -> dict[str, Tensor]:
        """Return the tensors that hold the weights, by name."""
        return {name: tensor for name, tensor in self._buffers.items() if tensor is not None}

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Return the dequantised weights [out, in], which no gradient reaches."""
        shape = (self.out_features, self.in_features)
        return KINDS[self.kind].unpack(self.packed, shape, self.computes_in)

    @property
    def device(self) -> torch.device:
        return next(iter(self.packed.values())).device

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.bias, self)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.kind}"

    def _apply(self, fn, recurse=True):
        """Move to a device, or compute in another dtype; packed tensors keep their own dtype."""
        own = self.packed
        self.computes_in = fn(torch.empty(0, dtype=self.computes_in, device=self.device)).dtype
        super()._apply(fn, recurse)
        for name, was in own.items():
            now = self._buffers[name]
            assert now is not None
            if now.dtype != was.dtype:
                self._buffers[name] = was.to(now.device)
        return self


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, layer):
        ctx.layer = layer
        return F.linear(x, layer.weight, bias)

    @staticmethod
    def backward(ctx, grad):
        needs_x, needs_bias, _ = ctx.needs_input_grad
        grad_x = grad @ ctx.layer.weight if needs_x else None
        return grad_x, grad.flatten(0, -2).sum(0) if needs_bias else None, None


@dataclass(frozen=True)
class Quantization:
    """The way in which a model's base was quantised, and the model that it was made from."""

    settings: QuantizeConfig
    dense: str  # `fingerprint.base_weights` of the model before
    layers: int
    weights: int  # that were quantised
    bits: float  # a weight, scales included
    bytes: int  # all weights of the network now
    bytes_before: int
    error: float  # root mean square, as a share of that of the weights

    @property
    def says(self) -> str:
        """Describe it in words."""
        return (
            f"{words(self.settings)}, {plural(self.layers, 'linear layer')} of {self.weights:,}"
            f" weights in {self.bits:.2f} bits each; the network takes {self.bytes / 1e6:,.0f} MB,"
            f" {self.bytes / self.bytes_before:.2f} of what it took before. The weights are off by"
            f" {self.error:.1%} of their size, and everything is proved against them as they are"
            " now; embeddings, norms and head stay"
        )


def words(settings: QuantizeConfig | None) -> str:
    """Name a way of quantising in words."""
    if settings is None:
        return "not quantised"
    scales = ", scales in float32" if settings.double is False else ""
    kept = f", without {' and '.join(settings.keep)}" if settings.keep else ""
    return f"quantised ({settings.kind}{scales}{kept})"


def assignment(settings: QuantizeConfig | None) -> str:
    """Return what --set takes for a way of quantising, quoted for the shell."""
    if settings is None:
        return "model.quantize=null"
    if settings == QuantizeConfig(kind=settings.kind):
        return f"model.quantize={settings.kind}"
    return shlex.quote(f"model.quantize={settings.model_dump_json()}")


# ---------------------------------------------------------------- a network


def quantize(network: PreTrainedModel, settings: QuantizeConfig, name: str) -> Quantization:
    """Quantise the linear layers of a network's trunk in place, one at a time.

    They are packed where they lie, on the CPU: one processor and all give the same bits. Parts that
    no text reaches, layers of fewer than `FEWEST` outputs and those that `settings` keeps stay.

    Args:
      name: the model as the user named it.

    Raises:
      UsageError: nothing to quantise; a name in `keep` that no layer has; a layer that would be
        damaged.
    """
    dense, before = fingerprint.base_weights(network), stored_bytes(network)
    places = _places(network, settings, name)
    made: dict[int, QuantizedLinear] = {}  # a layer in several places stays one
    wrong = size = 0.0
    while places:
        parent, child, layer, path = places.pop()
        if id(layer) not in made:
            done = QuantizedLinear(layer, settings)
            off, own = _error(layer.weight.detach(), done.weight)
            if math.isfinite(own):  # what is not is found by the checks of the model
                _require_undamaged(name, path, settings, off / max(own, 1e-30))
                wrong, size = math.hypot(wrong, off), math.hypot(size, own)
            made[id(layer)] = done
        # from here on nothing refers to the dense layer, once this was its last place
        parent.register_module(child, made[id(layer)])
    weights = sum(map(own_weights, made.values()))
    return Quantization(
        settings,
        dense,
        len(made),
        weights,
        8 * packed_bytes(network) / weights,
        stored_bytes(network),
        before,
        wrong / size if size else 0.0,
    )


class _Place(NamedTuple):
    parent: nn.Module
    child: str
    layer: nn.Linear
    path: str


def _places(network: PreTrainedModel, settings: QuantizeConfig, name: str) -> list[_Place]:
    """List the layers to quantise, with the modules that hold them."""
    found = _packable(network)
    if idle := [keep for keep in settings.keep if not any(_named(p.path, keep) for p in found)]:
        possible = ", ".join(sorted({place.child for place in found}))
        raise UsageError(
            f"model.quantize.keep: no linear layer of {name} is called {' or '.join(idle)}. They"
            f" are: {possible}."
        )
    wanted = [p for p in found if not any(_named(p.path, keep) for keep in settings.keep)]
    if not wanted:
        raise UsageError(
            f"model.quantize = {settings.kind}: {name} has no linear layer that it could quantise"
            f" ({network.config.model_type}: its weights are in modules of another kind, or"
            " model.quantize.keep keeps all). Leave it out: --set model.quantize=null"
        )
    return wanted


def packable_weights(network: PreTrainedModel) -> int:
    """Count the weights of the layers that `quantize` would pack."""
    layers = {id(place.layer): place.layer for place in _packable(network)}
    return sum(layer.weight.numel() for layer in layers.values())


def _packable(network: PreTrainedModel) -> list[_Place]:
    head, several = network.get_output_embeddings(), network.config.get_text_config()
    outside = outside_language(network) if several is not network.config else []
    uses = Counter(id(p) for _, p in network.named_parameters(remove_duplicate=False))
    modules = dict(network.named_modules(remove_duplicate=False))
    inside = {id(module) for module in trunk_of(network).modules() if module is not head}
    found = [
        _Place(modules[path.rpartition(".")[0]], path.rpartition(".")[2], module, path)
        for path, module in modules.items()
        if _fits(module)
        and id(module) in inside
        and not any(path.startswith(f"{part}.") for part in outside)
    ]
    places: Counter[int] = Counter(id(place.layer) for place in found)
    # a tensor that another kind of module uses as well is no layer's own
    return [place for place in found if uses[id(place.layer.weight)] == places[id(place.layer)]]


def _fits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and type(module.weight) is nn.Parameter
        and module.weight.is_floating_point()
        and module.out_features >= FEWEST
    )


def _named(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _error(weight: Tensor, quantised: Tensor) -> tuple[float, float]:
    """Return the norms of the difference and of the weights."""
    exact = weight.to(torch.float32)
    return (exact - quantised.to(torch.float32)).norm().item(), exact.norm().item()


def _require_undamaged(name: str, path: str, settings: QuantizeConfig, error: float) -> None:
    """
    Raises:
      UsageError: the weights of a layer are off by more than `ASTRAY`, or not finite any more.
    """
    if error <= ASTRAY:
        return
    raise UsageError(
        f"model.quantize = {settings.kind}: the weights of {path} of {name} would be off by"
        f" {error:.0%} of their size (allowed {ASTRAY:.0%}): that is no longer this model.\nKeep it"
        f" as it is: --set 'model.quantize.keep=[{path.rpartition('.')[2]}]'; if it is so of every"
        " layer, the library computes something else on this processor: --set"
        " model.quantize=int8 needs none"
    )


# ---------------------------------------------------------------- asked of a quantised network


def quantized_layers(network: nn.Module) -> Iterator[tuple[str, QuantizedLinear]]:
    """Yield the quantised layers, by path."""
    for path, module in network.named_modules():
        if isinstance(module, QuantizedLinear):
            yield path, module


def named_weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter, and of quantised layers the weights that they compute with, one at a
    time.
    """
    yield from network.named_parameters()
    for path, layer in quantized_layers(network):
        yield f"{path}.weight", layer.weight


def own_weights(layer: QuantizedLinear) -> int:
    """Count the weights of a layer, without its bias."""
    return layer.in_features * layer.out_features


def count_weights(network: nn.Module) -> int:
    """Count the parameters of a network, quantised ones among them."""
    dense = sum(p.numel() for p in network.parameters())
    return dense + sum(own_weights(layer) for _, layer in quantized_layers(network))


def stored_bytes(network: nn.Module) -> int:
    """Count the bytes of a network's weights as they are stored."""
    return packed_bytes(network) + sum(p.nbytes for p in network.parameters())


def packed_bytes(network: nn.Module) -> int:
    """Count the bytes of the packed weights, which are no parameters."""
    packed = (t for _, layer in quantized_layers(network) for t in layer.packed.values())
    return sum(tensor.nbytes for tensor in packed)


def largest_dequantized(network: nn.Module) -> int:
    """Return the bytes that the largest quantised layer takes while it is computed, at most: its
    weights in the dtype that they compute in, and in float32 on the way there. 0 without such
    layers.
    """
    return max(
        (
            own_weights(layer) * (layer.computes_in.itemsize + torch.float32.itemsize)
            for _, layer in quantized_layers(network)
        ),
        default=0,
    )


def dequantize(network: nn.Module) -> None:
    """Replace the quantised layers of a network by dense ones of the same numbers, in place."""
    for path, layer in list(quantized_layers(network)):
        made = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        made.weight = nn.Parameter(layer.weight, requires_grad=False)
        made.register_parameter("bias", layer.bias)
        made.train(layer.training)
        parent, _, child = path.rpartition(".")
        network.get_submodule(parent).register_module(child, made)

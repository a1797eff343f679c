"""The attributes of torch, transformers and peft that those libraries do not guarantee, all in one
place: no other module of accord reads one.

Each function names what it reads, the versions in which that was seen, and what happens without it:
a fallback, or `Unavailable`, which is a refusal in words. "Seen" means torch 2.11 to 2.13,
transformers 5.17 to 5.24 and peft 0.18 to 0.21, unless it says otherwise. Libraries are imported
inside the functions, so that --help stays quick.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

from accord.environment.installing import install_line
from accord.errors import AccordError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# oldest and newest release of each library that the tests have seen
TESTED = {
    "torch": ("2.11.0", "2.13.0"),
    "transformers": ("5.17.0", "5.24.0"),
    "peft": ("0.18.0", "0.21.2"),
}


class Unavailable(AccordError):
    """A library lacks an attribute that accord needs and cannot replace."""

    def __init__(self, text: str):
        super().__init__(text)

    @classmethod
    def without(cls, package: str, attribute: str, needed_for: str) -> Unavailable:
        """Report a missing attribute: what is missing, what needs it, what to install."""
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "(of unknown version)"
        oldest, newest = TESTED[package]
        return cls(
            f"{package} {version} has no {attribute}, which {needed_for} needs. Tested were"
            f" {package} {oldest} to {newest}.\nInstall tested versions: {install_command()}"
        )


def install_command() -> str:
    """Return the command that installs the newest tested releases."""
    return install_line(*(f"{name}=={newest}" for name, (_, newest) in TESTED.items()))


# ---------------------------------------------------------------- attention of transformers


def attention_name(network: Module) -> str | None:
    """Return the name of the attention that a network uses.

    Reads `config._attn_implementation` (transformers). Without it None: the network attends by its
    own code, which cannot be replaced.
    """
    return getattr(network.config, "_attn_implementation", None)


def can_switch_attention(network: Module) -> bool:
    """Tell whether `set_attn_implementation` reaches this network's attention.

    Calls `_can_set_attn_implementation` and reads `config._attn_implementation` (transformers).
    Without either False: the network keeps its own attention.
    """
    can = getattr(network, "_can_set_attn_implementation", None)
    return can is not None and attention_name(network) is not None and bool(can())


def has_sdpa(network: Module) -> bool:
    """Tell whether the architecture can attend by torch's SDPA.

    Reads `_supports_sdpa` (transformers). Without it False: rounding is then not measured by
    comparing two attentions.
    """
    return bool(getattr(network, "_supports_sdpa", False))


def is_stateful(network: Module) -> bool:
    """Tell whether transformers calls an architecture stateful: its cache cannot be taken back.

    Reads `_is_stateful` (transformers). Without it False: what carries a state is then known by the
    configuration and by its convolutions alone.
    """
    return bool(getattr(network, "_is_stateful", False))


def register_attention(name: str, function: Callable[..., Any]) -> bool:
    """Make an attention function known to transformers under a name; return whether that was
    possible.

    Reads `modeling_utils.ALL_ATTENTION_FUNCTIONS`, `masking_utils.ALL_MASK_ATTENTION_FUNCTIONS` and
    `masking_utils.sdpa_mask` (transformers). Without any of them False: the network keeps its own
    attention.
    """
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(name, function)
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, sdpa_mask)
    except (ImportError, AttributeError):
        return False
    return True


def sdpa_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """Attend by transformers' own SDPA function.

    Calls `integrations.sdpa_attention.sdpa_attention_forward` (transformers).

    Raises:
      Unavailable: it is not there; only networks that attend by ours come here.
    """
    try:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
    except ImportError:
        raise Unavailable.without(
            "transformers", "integrations.sdpa_attention.sdpa_attention_forward", "the tree path"
        ) from None
    return sdpa_attention_forward(*args, **kwargs)


# ---------------------------------------------------------------- chat templates of transformers


def compiled_template(text: str) -> Any | None:
    """Return a chat template compiled in transformers' own sandbox, with its `render`.

    Calls `utils.chat_template_utils._compile_jinja_template` (transformers). Without it None:
    every conversation is then rendered by `apply_chat_template`, which takes twice as long.
    """
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template
    except ImportError:
        return None
    return _compile_jinja_template(text)


# ---------------------------------------------------------------- caches of transformers


class NoSuchLayer:
    """A stand-in for a class that a library does not have: nothing is an instance of it."""


def is_missing_layer(kind: type) -> bool:
    """Tell whether a layer's class is `NoSuchLayer`. Reads nothing of a library; without the
    library's class the answer is True.
    """
    return kind is NoSuchLayer


def dynamic_layer() -> type:
    """Return the class of one layer's growing keys and values. Used of it: `keys`, `values`,
    `is_initialized`, `update`, `get_seq_length` and `batch_select_indices`.

    Reads `cache_utils.DynamicLayer` (transformers). Its `dtype` is not read: 5.17 has one, 5.24
    does not. Without the class `NoSuchLayer`: decoding keeps transformers' own cache.
    """
    try:
        from transformers.cache_utils import DynamicLayer
    except ImportError:
        return NoSuchLayer
    return DynamicLayer


def cache_layers(cache: Any) -> Sequence[Any]:
    """Return the layers of a cache.

    Reads `layers` of `cache_utils.Cache` (transformers). Without it none: decoding keeps the cache
    as it is.
    """
    return getattr(cache, "layers", None) or ()


@functools.cache
def _cache_argument(forward: Callable[..., object]) -> str:
    names = inspect.signature(forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def takes_cache(network: Module) -> bool:
    """Tell whether a network's forward takes a cache by the names of `cache_argument`.

    Reads the signature of `forward`. Others (RWKV's `state`, xLSTM's `cache_params`) are decoded
    without a cache.
    """
    names = inspect.signature(type(network).forward).parameters
    return bool({"cache", "past_key_values"} & set(names))


def cache_argument(network: Module) -> str:
    """Return the name of the cache argument of a network's forward.

    Reads the signature of `forward`: `cache` in transformers 5.24, where the name of before is
    deprecated, and `past_key_values` in 5.17. Without either in it `past_key_values`.
    """
    return _cache_argument(type(network).forward)


def cache_of(output: Any) -> Any:
    """Return the cache in a network's output.

    Reads `cache` (transformers 5.24), and where that is missing or None `past_key_values` (5.17).

    Raises:
      Unavailable: the output has neither.
    """
    cache = getattr(output, "cache", None)
    if cache is None:
        cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise Unavailable.without("transformers", "cache in a network's output", "sampling")
    return cache


# ---------------------------------------------------------------- parts of transformers' networks


def checkpointed_layer() -> type:
    """Return the class of decoder layers that can be computed again for the backward pass.

    Reads `modeling_layers.GradientCheckpointingLayer` (transformers). Without it `NoSuchLayer`: no
    layer is recomputed, and the memory plan takes smaller micro-batches.
    """
    try:
        from transformers.modeling_layers import GradientCheckpointingLayer
    except ImportError:
        return NoSuchLayer
    return GradientCheckpointingLayer


def conv1d() -> type:
    """Return the class of GPT-2's linear layer, whose weight is transposed.

    Reads `pytorch_utils.Conv1D` (transformers). Without it `NoSuchLayer`: such layers are not
    counted among those that take an adapter.
    """
    try:
        from transformers.pytorch_utils import Conv1D
    except ImportError:
        return NoSuchLayer
    return Conv1D


# ---------------------------------------------------------------- adapters of peft


def adapter_layers(network: Module) -> list[Any]:
    """Return the layers that carry adapters.

    Reads `tuners.tuners_utils.BaseTunerLayer` (peft).

    Raises:
      Unavailable: it is not there; the reference would be the policy.
    """
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        raise Unavailable.without(
            "peft", "tuners.tuners_utils.BaseTunerLayer", "computing the reference"
        ) from None
    return [module for module in network.modules() if isinstance(module, BaseTunerLayer)]


def adapters_were_loaded(network: Any) -> bool:
    """Tell whether transformers itself has loaded adapters into a model.

    Reads `_hf_peft_config_loaded` (transformers). Without it False: PEFT's own models say so by
    `peft_config`.
    """
    return bool(getattr(network, "_hf_peft_config_loaded", False))


@contextmanager
def only_adapter(layers: Sequence[Any], name: str) -> Iterator[None]:
    """Make the layers use this adapter alone inside the block. Gradient flags stay as they are,
    which peft's own `set_adapter` changes.

    Sets `_active_adapter` (peft) and checks it by the public `active_adapters`.

    Raises:
      Unavailable: setting it changes nothing; the reference would silently be the policy.
    """
    before = [list(layer.active_adapters) for layer in layers]
    try:
        for layer in layers:
            layer._active_adapter = [name]
            if list(layer.active_adapters) != [name]:
                raise Unavailable.without(
                    "peft", "BaseTunerLayer._active_adapter", "computing the reference"
                )
        yield
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer._active_adapter = active


@contextmanager
def without_adapters(layers: Sequence[Any]) -> Iterator[None]:
    """Make the layers compute without their adapters inside the block. Gradient flags stay as they
    are, which peft's own `enable_adapters` changes.

    Sets `_disable_adapters` (peft) and checks it by the public `disable_adapters`.

    Raises:
      Unavailable: setting it changes nothing; the reference would silently be the policy.
    """
    try:
        for layer in layers:
            layer._disable_adapters = True
            if layer.disable_adapters is not True:
                raise Unavailable.without(
                    "peft", "BaseTunerLayer._disable_adapters", "computing the reference"
                )
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


# ---------------------------------------------------------------- kernels of torch


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Compute the gradient of the scores [..., n], given that of their softmax and the softmax
    itself.

    Calls `torch._softmax_backward_data`. Without it w · (g - Σ w g) is computed step by step, in
    float32 at least.
    """
    import torch

    kernel = getattr(torch, "_softmax_backward_data", None)
    if kernel is not None:
        return kernel(grad, weights, -1, weights.dtype)
    exact = torch.promote_types(weights.dtype, torch.float32)
    w, g = weights.to(exact), grad.to(exact)
    return (w * (g - (w * g).sum(-1, keepdim=True))).to(weights.dtype)


def silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Compute the gradient of x, given that of silu(x).

    Calls `torch.ops.aten.silu_backward`. Without it g · σ(x) · (1 + x · (1 - σ(x))) is computed
    step by step, in float32 at least.
    """
    import torch

    kernel = getattr(torch.ops.aten, "silu_backward", None)
    if kernel is not None:
        return kernel(grad, x)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    share = torch.sigmoid(exact)
    return (grad.to(exact.dtype) * share * (1 + exact * (1 - share))).to(x.dtype)


def attention_with_sums(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Compute attention [n, h, q, d] on a CPU, and the log-sum-exp of its scores [n, h, q].

    Calls `torch.ops.aten._scaled_dot_product_flash_attention_for_cpu`.

    Raises:
      Unavailable: it is not there; decoding then gives every answer a copy of its prompt.
    """
    import torch

    name = "_scaled_dot_product_flash_attention_for_cpu"
    kernel = getattr(torch.ops.aten, name, None)
    if kernel is None:
        raise Unavailable.without("torch", f"ops.aten.{name}", "sharing prompts while decoding")
    return kernel(query, key, value, 0.0, False, attn_mask=mask, scale=scaling)


def cpu_has_bfloat16() -> bool:
    """Tell whether oneDNN multiplies in bfloat16 on this processor.

    Calls `torch.ops.mkldnn._is_mkldnn_bf16_supported`. Without it False: float32 is used.
    """
    import torch

    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and torch.backends.mkldnn.is_available() and bool(supported())


def blocked_weight(weight: Tensor, rows: int) -> Tensor:
    """Return a linear layer's weight in the order in which oneDNN multiplies so many rows by it.

    Calls `torch.ops.mkldnn._reorder_linear_weight`.

    Raises:
      Unavailable: it is not there; weights then stay as they are while answers are sampled.
    """
    import torch

    kernel = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
    if kernel is None:
        raise Unavailable.without("torch", "ops.mkldnn._reorder_linear_weight", "blocking weights")
    return kernel(weight, rows)


def multiply_blocked(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Compute x Wᵀ + b with a weight of `blocked_weight`.

    Calls `torch.ops.mkldnn._linear_pointwise`.

    Raises:
      Unavailable: it is not there; weights then stay as they are while answers are sampled.
    """
    import torch

    kernel = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if kernel is None:
        raise Unavailable.without("torch", "ops.mkldnn._linear_pointwise", "blocked weights")
    return kernel(x, weight, bias, "none", [], "")


def set_gathering(p: Tensor, before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Let FSDP ask two functions of ours around its gathering of a weight that it cut.

    Sets `fsdp_pre_all_gather` and `fsdp_post_all_gather`, FSDP's names for them, on the tensor
    `_local_tensor` of a DTensor. Without it FSDP gathers in its own way, in more memory.
    """
    own = getattr(p, "_local_tensor", None)
    if own is not None:
        own.fsdp_pre_all_gather, own.fsdp_post_all_gather = before, after


def allow_kernels(count: int) -> bool:
    """Let torch compile so many kernels of one function before it gives up; return whether the
    limit could be set.

    Sets `torch.compiler.config.recompile_limit`, and where that is missing
    `torch._dynamo.config.recompile_limit`. Without both False: a run of more lengths than torch's
    own limit fails where it compiles one too many, and never attends by a slow path unnoticed.
    """
    import torch

    for module in (getattr(torch.compiler, "config", None), _dynamo_config()):
        if module is not None and hasattr(module, "recompile_limit"):
            module.recompile_limit = max(count, module.recompile_limit)
            return True
    return False


def _dynamo_config() -> Any:
    import torch

    return getattr(getattr(torch, "_dynamo", None), "config", None)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch could not allocate memory.

    Reads the words of a RuntimeError, since torch has no class for what a CPU's allocator says.
    With other words False: the error is reported as it is.
    """
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator: can't allocate" in str(error) or "not enough memory" in str(error)
    )

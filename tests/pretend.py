"""A pretended accelerator: a second device whose tensors are kept, and computed, in main memory.

torch has a device without memory, "meta", for shapes alone. A tensor that says it is there wraps a
plain one here; every operation is unwrapped, computed and wrapped again, and mixing devices is
refused as a GPU refuses it. So what would break on a GPU for want of a `.to(device)` breaks here,
with the right numbers otherwise; and each value that the host asks for, which a GPU would have to
finish its queue for, is counted.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
NAME = "meta"
# May take tensors of two devices: copies, and indices, which torch moves by itself.
MIXING = {
    aten._to_copy,
    aten.copy_,
    aten.index,
    aten.index_put,
    aten.index_put_,
    aten._index_put_impl_,
}
waits: list[str] = []  # what made the host wait, in order


class Pretended(torch.Tensor):
    """A tensor of the pretended device around a plain one."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=NAME,
            requires_grad=False,
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"Pretended({self.inner})"

    def tolist(self):
        waits.append("tolist")
        return self.inner.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})


class Factories(TorchDispatchMode):
    """Inside, tensors are made on the pretended device where that is asked for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})


class Literals(TorchFunctionMode):
    """`torch.tensor` makes an empty tensor of the meta device before anything is dispatched."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if function is torch.tensor and device is not None and torch.device(device).type == NAME:
            return function(*args, **{**kwargs, "device": "cpu"}).to(device)
        return function(*args, **kwargs)


@contextmanager
def machine():
    """Inside, this process has the pretended device."""
    with Factories(), Literals():
        yield


def dispatch(function, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    asked = kwargs.get("device")
    there = torch.device(asked).type == NAME if asked is not None else bool(ours)
    packet = function.overloadpacket
    # a single number may come from the host, but not the optimizer's count of updates: its kernel
    # reads that on the device
    strangers = [
        t
        for t in tensors
        if not isinstance(t, Pretended) and (t.dim() > 0 or packet is aten._fused_adamw_)
    ]
    if ours and strangers and packet not in MIXING:
        raise RuntimeError(
            f"{function}: Expected all tensors to be on the same device, found {NAME} and cpu"
        )
    if ours and (packet is aten._local_scalar_dense or (asked is not None and not there)):
        waits.append(str(packet))
    if packet is aten.copy_ and ours and not isinstance(args[0], Pretended):
        waits.append(str(packet))
    inner_args, inner_kwargs = tree_map_only(
        Pretended, lambda tensor: tensor.inner, (args, dict(kwargs))
    )
    if asked is not None:
        inner_kwargs["device"] = torch.device("cpu")
        inner_kwargs.pop("pin_memory", None)
    out = function(*inner_args, **inner_kwargs)
    if packet is aten.copy_ and not isinstance(args[0], Pretended):
        return args[0]
    if there:
        out = tree_map_only(torch.Tensor, Pretended, out)
        return return_and_correct_aliasing(function, args, kwargs, out) if ours else out
    return out

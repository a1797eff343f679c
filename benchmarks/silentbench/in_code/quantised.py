"""A quantised base whose layers are repacked for inference behind the run's back.

bitsandbytes 0.50 does it to its `Linear4bit` on processors with AVX512-BF16: in the first pass in
evaluation mode whose input asks for no gradient. From then on the layer passes no gradient on. It
is imitated here, so that the case is the same on every processor; that accord's layers are not of
that kind, and that bitsandbytes' are, is held by tests/models/test_quantized.py.
"""

from __future__ import annotations

import torch

from accord.models.quantized import QuantizedLinear
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.trl_patches import trl_made
from benchmarks.silentbench.world import World


def _repacking(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The product of a layer, without its gradient from the first such pass on."""
    if not module.training and not x.requires_grad:
        vars(module)["repacked"] = True
    return y.detach() if vars(module).get("repacked") else y


def repacked(world: World) -> None:
    right = QuantizedLinear.forward
    world.settings["model.quantize"] = "int8"  # which needs no library
    world.patch(QuantizedLinear, "forward", lambda self, x: _repacking(self, x, right(self, x)))


def _repacked_in_trl(trainer) -> None:
    """The same layers under TRL's adapters, evaluated once before training."""
    bases = [module.base_layer for module in trainer.model.modules() if hasattr(module, "lora_A")]
    for base in bases:
        base.register_forward_hook(lambda module, args, y: _repacking(module, args[0], y))
    trainer.model.eval()
    with torch.no_grad():
        trainer.model(input_ids=torch.tensor([[5, 6, 7]], device=trainer.model.device))
    trainer.model.train()


FAULTS = (
    Fault(
        "new",
        "quantised layers are repacked for inference and pass no gradient on",
        "passes no gradient|quantised layer",
        repacked,
        trl_made(_repacked_in_trl),
    ),
)

"""The machine's limits for a model: memory, and the measured speed of a forward pass."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import torch

from accord.models.language import LanguageModel
from accord.models.quantized import count_weights, packable_weights

PROBE = 512  # tokens
REPEATS = 3


@dataclass(frozen=True)
class Machine:
    """The figures of a machine that the advice needs."""

    device: str
    memory_gb: float  # memory of the GPU, or memory available to the processor
    parameters: int
    width: int  # hidden size
    bytes_per_parameter: int
    forward_tokens_per_second: float
    probe_tokens: int = PROBE
    packable: int = 0  # parameters that model.quantize would store in fewer bits

    @property
    def micro_tokens(self) -> int:
        """Choose unique tokens per pass: 2,048 below 16 GB, twice that for each doubling, 16,384 at
        most.
        """
        return int(min(16_384, 2_048 * 2 ** max(0, int(self.memory_gb // 16).bit_length() - 1)))


@torch.no_grad()
def measure(model: LanguageModel) -> Machine:
    """Time a forward pass of one row. The best of a few counts, since other work can only slow it
    down.
    """
    ids = torch.randint(
        5,
        min(1_000, model.network.config.get_text_config().vocab_size),
        (1, PROBE),
        device=model.device,
    )
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        model.trunk(input_ids=ids, use_cache=False)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    parameters = list(model.network.parameters())
    if model.device.type == "cuda":
        memory = torch.cuda.get_device_properties(model.device).total_memory
    else:
        memory = psutil.virtual_memory().available
    return Machine(
        str(model.device),
        memory / 2**30,
        count_weights(model.network),
        model.network.config.get_text_config().hidden_size,
        parameters[0].element_size(),
        PROBE / best,
        packable=packable_weights(model.network),
    )

"""What has to be set before torch and transformers are imported. Imports nothing heavy; a user's
own values win.
"""

from __future__ import annotations

import os
import warnings

DEFAULTS = {
    # OpenMP threads spin at barriers while they wait. With a second process on the machine they
    # spin away the time that the other thread needs: one update of SmolLM2-135M on 2 cores took 21
    # to 134 s instead of 4.3. Measured side by side under such load, seconds an update: 3,000 spins
    # 4.6 · 30,000 spins 21 · no spinning at all 6.3.
    "GOMP_SPINCOUNT": "3000",
    # the tokenizers' warning about forks; rows are encoded one by one
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # cuBLAS then adds in one order: the same product twice is the same bits
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def ranks() -> tuple[int, int]:
    """This process' rank and how many there are, as torchrun says it; (0, 1) without it."""
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")]
    return (int(told[0]), int(told[1])) if all(told) else (0, 1)


def settle(offline: bool = True) -> None:
    """Apply the defaults; without `offline`, hub names may go to the network."""
    # PEFT and transformers talk to each other here; a user can do nothing about it
    warnings.filterwarnings(
        "ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning
    )
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")

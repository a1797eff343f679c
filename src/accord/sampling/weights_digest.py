"""The name of weights: a digest of their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Hash tensors by name, in 32 hexadecimal digits: the same name, the same bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        flat = weights[name].detach().cpu().contiguous().reshape(-1)
        digest.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

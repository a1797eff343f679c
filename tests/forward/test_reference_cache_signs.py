"""The cached reference is refused whichever way its numbers are off,
and lies where the user says.
"""

from pathlib import Path

import pytest
import torch

# the real one: tests have another put in its place
from accord.forward.reference import Cached, cache_root, key
from accord.types import Logps, Refused, Tree

TREES = [Tree((row + 1,), ((7, 8), (9,)), row) for row in range(4)]


class Constant:
    """A reference of -2 nats a completion."""

    name = "constant"

    def logps(self, trees):
        counts = torch.tensor([len(c) for tree in trees for c in tree.completions])
        return Logps(torch.full((len(counts),), -2.0), counts)


@pytest.mark.parametrize(
    "shifts", [(1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)], ids=["higher", "lower", "cancelling"]
)
def test_recheck_sees_differences_of_either_sign(tmp_path, shifts):
    held = Cached(tmp_path, torch.device("cpu"))
    for tree in TREES:
        held.table |= {key(tree.prompt, c): (-2.0, len(c)) for c in tree.completions}
    assert held.recheck(Constant(), TREES, 0, 2e-4).evidence["nats_per_token"] == 0
    for tree in TREES:
        held.table |= {
            key(tree.prompt, c): (-2.0 + by, len(c))
            for c, by in zip(tree.completions, shifts, strict=True)
        }
    # 2 nats over 3 tokens a row
    with pytest.raises(Refused, match="differ from the reference by 0.667 nats a token"):
        held.recheck(Constant(), TREES, 0, 2e-4)


def test_where_the_cache_lies(monkeypatch):
    monkeypatch.setenv("ACCORD_CACHE", "/somewhere")
    assert cache_root() == Path("/somewhere/reference")
    monkeypatch.setenv("ACCORD_CACHE", "")
    assert cache_root() == Path.home() / ".cache/accord/reference"

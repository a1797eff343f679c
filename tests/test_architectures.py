"""benchmarks/architectures.py on a few families: a state, fused experts, a vision tower, a refusal.

The whole table is benchmarks/results/architectures.json.
"""

import pytest

from benchmarks import architectures


@pytest.mark.parametrize(
    "family, expected",
    [("lfm2", "padded"), ("mixtral", "tree"), ("gemma3", "tree"), ("bert", "refused")],
)
def test_a_family_goes_through(family, expected, tmp_path, monkeypatch):
    """Numbers, two updates of adapters, the save, the merge: all are the bare network's."""
    monkeypatch.setattr(architectures, "METHODS", {"dpo": architectures.METHODS["dpo"]})
    record = architectures.family(family, tmp_path)
    assert architectures.verdict(record) == expected, architectures.line(family, record)


def test_other_numbers_are_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(architectures, "METHODS", {})
    monkeypatch.setattr(architectures, "LOGPS", 0.0)
    record = architectures.family("llama", tmp_path)
    assert architectures.verdict(record | {"dpo": {"is": "ok"}}) == "fault"

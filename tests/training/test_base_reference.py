"""reference: base, the model without any adapter, where training goes on from one: the first model
of iterative training.
"""

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import labelled_rows, metrics, ready_for, run

from accord.forward.reference import AdaptersOff
from accord.models.load import load
from accord.objectives import resolve
from accord.training.setup.references import choose_reference
from accord.types import Refused, UsageError
from accord.verify import independent


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    """An adapter that has left its base by nats."""
    folder = tmp_path_factory.mktemp("first")
    data = write_rows(folder / "pairs.jsonl", pair_rows(24))
    return str(run(tiny_folder, data, folder / "run", steps=8, learning_rate=1e-2).saved)


def finding(ready, check):
    return next(f for f in ready.findings if f.check == check)


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto"])
def test_the_reference_is_the_bare_model(method, adapter, tiny_folder, tmp_path):
    """Its log-probs are those of the model's own folder, not of the adapter's frozen copy; every
    proof holds all the same.
    """
    rows = labelled_rows(pair_rows(24)) if method == "kto" else pair_rows(24)
    data = write_rows(tmp_path / "rows.jsonl", rows)
    ready = ready_for(
        tiny_folder, data, method=method, adapter=adapter, reference="base", batch_size=8
    )
    trees = ready.source.rows.trees[:4]
    bare = independent.sums_by_definition(load(str(tiny_folder), dtype="float32"), trees)
    known, policy = ready.learner.reference.logps(trees), ready.learner.forward(trees).reduce()
    assert torch.allclose(known.sum, bare.sum.double(), atol=1e-4)
    assert (policy.sum - known.sum).abs().max() > 1
    assert ready.reference_kind == "base" and not ready.model.has_reference_adapter
    assert "margins do not begin at 0" in finding(ready, "reference").says
    assert finding(ready, "step0.reference").evidence["policy_apart"] > 0.1
    assert finding(ready, "step0.gradient").verdict == "ok"
    assert ready.tie_width < 1e-3  # a margin that is there from the start is no rounding


def test_margins_do_not_begin_at_zero(adapter, tiny_folder, pairs_file, tmp_path):
    """The margins of the first batch are those of the adapter against the bare model; the frozen
    copy's are 0.
    """
    base = metrics(
        run(tiny_folder, pairs_file, tmp_path / "base", adapter=adapter, reference="base", steps=3)
    )
    copy = metrics(run(tiny_folder, pairs_file, tmp_path / "copy", adapter=adapter, steps=3))
    assert copy[0]["rewards/margins"] == 0.0 and abs(base[0]["rewards/margins"]) > 1e-3
    assert base[0]["logps/chosen"] == copy[0]["logps/chosen"]


def test_a_reference_with_the_adapter_on_is_refused(adapter, tiny_folder, pairs_file, monkeypatch):
    """The proof that stands in for margins of 0 bites."""
    monkeypatch.setattr(
        AdaptersOff, "logps", lambda self, trees: self.forward(trees).reduce().detach()
    )
    with pytest.raises(
        Refused, match="step0.reference: the reference is not the model without adapters"
    ):
        ready_for(tiny_folder, pairs_file, adapter=adapter, reference="base")


def test_where_it_means_something():
    dpo = resolve("dpo")
    assert choose_reference("base", dpo, adapters=True, repeats=True, incoming=True)[0] == "base"
    kind, why = choose_reference("base", dpo, adapters=True, repeats=False)
    assert kind == "adapter_off" and "none is gone on from" in why
    with pytest.raises(UsageError, match="all weights train"):
        choose_reference("base", dpo, adapters=False, repeats=False)

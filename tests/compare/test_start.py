"""KL and changes are to the model that training began with, also where that is no longer inside the
trained one.
"""

from contextlib import nullcontext

import pytest
from compare.helpers import SILENT
from conftest import pair_rows, write_rows
from training.helpers import run

from accord.assess.opened import open_model, open_start_of, still_inside
from accord.campaign.compare.contenders import Cell
from accord.campaign.compare.measure import ModelMeasurer, Questions
from accord.evaluate.probe import KLReference, divergences
from accord.forward.choose import Forward
from accord.runs.folder import RunFolder
from accord.sampling.local import LocalSampler
from accord.types import Turn


@pytest.mark.parametrize("reference, inside", [("auto", True), ("base", False)])
def test_kl_is_to_the_start(reference, inside, tiny_folder, tmp_path):
    """A run that goes on from an adapter; `reference: base` makes it forget that one, and the base
    without it is another model.
    """
    pairs = write_rows(tmp_path / "pairs.jsonl", pair_rows(12))
    first = run(tiny_folder, pairs, tmp_path / "first", learning_rate=3e-2, steps=3)
    second = run(
        tiny_folder,
        pairs,
        tmp_path / "second",
        adapter=str(first.folder / "adapter"),
        learning_rate=1e-2,
        steps=2,
        reference=reference,
    )
    config = RunFolder.open(str(second.folder)).config()
    opened = open_model(str(second.folder))
    assert still_inside(opened.model, config) == inside
    (tmp_path / "prompts.txt").write_text("What is red?\nWho sat on the mat?\n")
    bench = ModelMeasurer(
        tmp_path / "bench", config, Questions(None, str(tmp_path / "prompts.txt"), 2, 2, 4), SILENT
    )
    measured = bench.of(Cell("dpo", 0, config))
    start = open_start_of(config)
    repeated = [
        start.template.question((Turn("user", text),))
        for text in ("What is red?", "Who sat on the mat?")
        for _ in range(2)
    ]
    samples = LocalSampler.of(opened.model).sample(repeated, max_new_tokens=4, seed=0)
    kl = divergences(
        opened.model,
        repeated,
        samples,
        KLReference(Forward(start.model, "padded", "", 0.0), nullcontext),
    )
    assert measured.kl == pytest.approx(kl, abs=1e-4) and max(kl) > 1e-3
    again = bench.start(Cell("dpo", 0, config))
    fresh = LocalSampler.of(start.model).sample(repeated, max_new_tokens=4, seed=0)
    assert again.text == [one.text for one in fresh]

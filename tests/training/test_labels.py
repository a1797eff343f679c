"""Labels of a run, and the name of a weighed objective in its card."""

import pytest
from conftest import pair_rows, write_rows
from training.helpers import labelled_rows, ready_for, run

from accord.types import DataError

GOOD, BAD = (
    [row for row in labelled_rows(pair_rows(24)) if row["label"] is side] for side in (True, False)
)


def said(folder, rows, tmp_path, method: str, **changes):
    data = str(write_rows(tmp_path / "labels.jsonl", rows))
    ready = ready_for(folder, data, method=method, output=str(tmp_path / "run"), **changes)
    return next(finding for finding in ready.findings if finding.check == "data.labels")


@pytest.mark.parametrize("method", ["kto", "bco"])
@pytest.mark.parametrize("rows, side", [(GOOD, "desirable"), (BAD, "undesirable")])
def test_labels_that_are_all_alike_are_refused(method, rows, side, tiny_folder, tmp_path):
    with pytest.raises(DataError, match=f"all 24 labels are {side}: there is nothing to compare"):
        said(tiny_folder, rows, tmp_path, method)


def test_kto_is_told_the_weights_that_its_paper_advises(tiny_folder, tmp_path):
    even = said(tiny_folder, GOOD + BAD, tmp_path, "kto")
    assert even.verdict == "ok" and "weighted ratio 1.00" in even.says
    few = said(tiny_folder, GOOD + BAD[:6], tmp_path, "kto")
    assert few.verdict == "note" and few.remedy == "--set objective.undesirable_weight=4"


def test_bco_weighs_no_label_and_is_told_of_no_weight(tiny_folder, tmp_path):
    few = said(tiny_folder, GOOD + BAD[:6], tmp_path, "bco")
    assert few.verdict == "ok" and "24 desirable and 6 undesirable" in few.says
    assert not few.remedy and few.evidence == {"desirable": 24, "undesirable": 6}


def test_stars_of_a_name_are_none_of_the_cards(tiny_folder, pairs_file, tmp_path):
    run(tiny_folder, str(pairs_file), tmp_path / "run", method="wpo*ipo", steps=1)
    card = (tmp_path / "run/README.md").read_text()
    assert r"# wpo\*ipo on" in card and r"**Objective**: wpo\*ipo (" in card

"""An objective of pairs that reads each row's margin: from the file's column into the loss."""

import json
from pathlib import Path

import pytest
from training.helpers import json_lines, ready_for

from accord.types import DataError, UsageError


@pytest.fixture
def with_margins(pairs_file, tmp_path):
    """The same pairs, of which every other has a margin."""
    rows = json_lines(Path(pairs_file))
    for at, row in enumerate(rows):
        row |= {"margin": 1.0 + at % 3} if at % 2 else {}
    file = tmp_path / "margins.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_margins_reach_the_loss(with_margins, tiny_folder):
    """The proof of the first rows computes each row's loss by its closed form, margin included."""
    ready = ready_for(
        tiny_folder, with_margins, method="odpo", assignments=["objective.margin=column"]
    )
    found = {f.check: f for f in ready.findings}
    assert found["data.margin"].verdict == "note" and "have a margin" in found["data.margin"].says
    assert not any(f.refused for f in ready.findings)
    margins = {tree.margin for tree in ready.source.batch(0)}
    assert margins & {1.0, 2.0, 3.0}


def test_a_file_without_margins_is_refused(pairs_file, tiny_folder):
    """It would be dpo, and the recipe would say odpo."""
    with pytest.raises(DataError, match="no row has a margin, and odpo reads margins") as caught:
        ready_for(tiny_folder, pairs_file, method="odpo")
    assert "--method dpo" in str(caught.value)


def test_pairs_of_rollouts_have_no_margins(tmp_path, tiny_folder):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Tell me of {n}."}) + "\n" for n in range(8)))
    with pytest.raises(UsageError, match="odpo does not train on rollouts"):
        ready_for(tiny_folder, str(file), method="odpo", assignments=["rollouts.rewards=[words]"])

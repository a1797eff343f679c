"""An answer that was cut when it was drawn is trained on without an end token, from the file of
pairs to the tree.
"""

from pathlib import Path

import pytest
from conftest import write_rows
from data.crafted import crafted, pair

from accord.assess.rollouts import pair_file
from accord.data.encoding_findings import findings
from accord.data.read import read
from accord.data.templates import make_template
from accord.data.trees import Limits, encode
from accord.rollouts.pairing import Pairing
from accord.types import DataError

MADE = make_template(crafted(merges=("ab",)), "auto")
LONG = Limits(10_000)


def scored(ended, n=2):
    row = {"prompt": "q", "completions": ["yes", "no"], "rewards": [1.0, 0.0]}
    return [row | ({} if ended is None else {"ended": ended}) for _ in range(n)]


def paired(tmp_path, rows):
    """What `accord pair` writes of scored answers, its figures, and its lines."""
    lines, out = [], tmp_path / "pairs.jsonl"
    done = pair_file(write_rows(tmp_path / "scored.jsonl", rows), str(out), Pairing(), lines.append)
    return str(out), done, "\n".join(lines)


def texts(encoding):
    return [[MADE.tokenizer.decode(ids) for ids in t.completions] for t in encoding.trees]


def test_from_scored_answers_to_trees(tmp_path):
    file, done, said = paired(tmp_path, scored([False, True]))
    assert done["cut_answers"] == 2 and "2 of 4 answers in pairs were cut" in said
    for kind, expected in {
        "pairs": [["yes", "no<end>"]] * 2,
        "labelled": [["yes"], ["no<end>"]] * 2,
        "demonstrations": [["yes"]] * 2,
    }.items():
        encoding = encode(read(file, kind).examples, MADE, LONG)
        assert texts(encoding) == expected, kind
        assert encoding.as_dict()["drawn_cut"] == {{"pairs": "chosen"}.get(kind, "completion"): 2}
        end = next(f for f in findings(encoding, MADE, 0, 0) if f.check == "data.end")
        assert "2 had been cut when they were drawn" in end.says
        assert end.verdict == "warning" and "--max-new-tokens" in end.remedy


def test_all_cut_is_loud_and_whole_answers_are_silent(tmp_path):
    _, done, said = paired(tmp_path, scored([False, False]))
    assert done["cut_answers"] == 4 and "! 4 of 4 answers" in said


def test_whole_answers_are_silent(tmp_path):
    file, done, said = paired(tmp_path, scored([True, True]))
    assert done["cut_answers"] == 0 and "cut" not in said and "end" not in said
    encoding = encode(read(file, "pairs").examples, MADE, LONG)
    assert texts(encoding) == [["yes<end>", "no<end>"]] * 2
    assert "drawn_cut" not in encoding.as_dict()


def test_a_file_that_does_not_say(tmp_path):
    file, done, said = paired(tmp_path, scored(None))
    assert done["answers_of_unknown_end"] == 4 and "2 pairs do not say how" in said
    assert "chosen_ended" not in Path(file).read_text("utf-8")


@pytest.mark.parametrize("ended", [[True], [1, 0], "yes", {"0": True}])
def test_what_is_no_ending_is_refused(ended, tmp_path):
    with pytest.raises(DataError, match="expected `ended` to say true or false of each"):
        paired(tmp_path, scored(ended))


def test_only_false_itself_means_cut():
    for value in (True, None, 0, "false"):
        row = pair("q")
        row.extra["chosen_ended"] = value
        assert texts(encode([row], MADE, LONG)) == [["yes<end>", "no<end>"]]

"""What a run knows of its own training rows: an audit of some of them, kept for the report."""

import json

from conftest import pair_rows, write_rows
from training.helpers import run

from accord.auditing.run import audit_rows, some_prompts
from accord.data.read import read
from accord.pages.run import render
from accord.runs.recorded import Recorded

QUIET = {"monitor.samples": 0}


def twice(rows):
    """Every prompt asked twice, the second time with its answers turned round."""
    return rows + [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]


def test_a_prompt_is_drawn_with_all_its_rows(tmp_path):
    """40 rows of 20 prompts; 9 asked for are 5 prompts whole, in the file's order; another seed
    draws others.
    """
    examples = read(write_rows(tmp_path / "pairs.jsonl", twice(pair_rows(20)))).examples
    kept = some_prompts(examples, 9, seed=0)
    lines = [example.origin.line for example in kept]
    assert (
        len(kept) == 10
        and lines == sorted(lines)
        and {line + 20 for line in lines[:5]} == set(lines[5:])
    )
    assert some_prompts(examples, 9, seed=0) == kept != some_prompts(examples, 9, seed=1)
    assert some_prompts(examples, 40, seed=0) == examples


def test_a_sample_shows_what_the_file_is(tmp_path):
    """Every pair contradicts another one, in a sample as in the whole; the ledger is that of the
    whole file.
    """
    dataset = read(
        write_rows(tmp_path / "pairs.jsonl", [*twice(pair_rows(60)), {"prompt": "alone"}])
    )
    for most in (20, 1000):
        found = audit_rows(dataset, "pairs", most)
        opposed = found.find("integrity.contradictions")
        assert (
            found.verdict == "unfit"
            and opposed.evidence["share"] == 1.0
            and "Question" in opposed.places[0].excerpt
        )
        # a sample is smaller than its file
        assert (found.find("diversity.size") is None) == (most == 20)
        assert found.as_dict()["rows"] == 121 and len(found.scan) == min(most, 120)


def test_it_is_kept_said_and_shown(tiny_folder, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", twice(pair_rows(20)))
    folder = run(
        tiny_folder, data, tmp_path / "run", steps=1, set=QUIET | {"monitor.audit_rows": 9}
    ).folder
    kept = json.loads((folder / "audit.json").read_text())
    assert (kept["verdict"], kept["examples"], kept["of"]) == ("unfit", 10, 40)
    said = {f["check"]: f for f in json.loads((folder / "preflight.json").read_text())}[
        "data.audit"
    ]
    assert said["verdict"] == "warning" and said["remedy"] == f"accord audit {data}"
    assert said["says"].startswith(
        "audit of 10 of 40 rows, drawn by prompt: unfit (Contradictory pairs"
    )
    page = render([Recorded.open(str(folder))])
    assert (
        "<h3>Audit: unfit</h3>" in page
        and "10 of the 40 training rows" in page
        and f"accord audit {data} --fix cleaned.jsonl" in page
    )


def test_none_was_wanted(tiny_folder, pairs_file, tmp_path):
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", steps=1, set=QUIET | {"monitor.audit_rows": 0}
    ).folder
    assert not (folder / "audit.json").exists() and "No audit was kept" in render(
        [Recorded.open(str(folder))]
    )
    assert "data.audit" not in (folder / "preflight.json").read_text()


def test_a_file_of_one_row(tiny_folder, tmp_path):
    """Nothing can be fitted on it; it is audited all the same."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(1))
    folder = run(tiny_folder, data, tmp_path / "run", steps=1, batch_size=1, set=QUIET).folder
    assert json.loads((folder / "audit.json").read_text())["examples"] == 1

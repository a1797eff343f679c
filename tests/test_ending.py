"""The end of a run: the report's verdict, one prompt with both answers, the red flags, and commands
that work.
"""

import io
import json
import shlex
import shutil

import pytest
from conftest import pair_rows, write_rows
from typer.main import get_command
from typer.testing import CliRunner

from accord.cli.app import app
from accord.cli.ending import ending, ending_lines, next_commands
from accord.pages.verdict import verdict
from accord.runs.display import Display
from accord.runs.recorded import Recorded
from accord.training.announce import check_lines
from accord.types import Finding

EVERY = {"chat", "report", "eval", "export"}


def invoke(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def train(model, data, output, *more):
    flags = ("--model", model, "--data", data, "--output", output, "--set", "model.dtype=float32")
    short = ("--batch-size", "4", "--steps", "2", "--set", "monitor.sample_tokens=6")
    return invoke("train", *flags, *short, *more)


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ending")
    data = write_rows(folder / "pairs.jsonl", pair_rows(24))
    held_out = write_rows(folder / "held_out.jsonl", pair_rows(8, start=100))
    done = train(tiny_folder, data, folder / "run", "--held-out", held_out)
    assert done.exit_code == 0, done.output
    return folder / "run", done


def test_a_run_ends_with_the_words_of_its_report(finished):
    folder, done = finished
    shown = done.stdout
    sentences = verdict(Recorded.open(str(folder)))
    assert len(sentences) == 3 and all(sentence in shown for sentence in sentences)
    assert shown.startswith(f"done: {folder / 'adapter'}\n")
    answers = json.loads((folder / "last_answers.json").read_text())
    assert answers["asked"] in shown and "  before    " in shown and "  after     " in shown
    assert answers["before"]["tokens"] >= 1 and answers["after"]["tokens"] <= 6
    assert "no held-out rows" not in done.stderr


def test_each_next_command_works(finished):
    _, done = finished
    lines = [line.strip() for line in done.stdout.split("What next:\n")[1].splitlines()]
    assert [line.split()[1] for line in lines][-3:] == ["report", "eval", "export"]
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "chat":  # it asks a person: that it is understood must do
            get_command(app).commands["chat"].make_context("chat", words[1:])
            continue
        found = invoke(*words)
        assert found.exit_code == 0, (line, found.output)


def test_the_same_for_machines_and_for_a_finished_run(finished):
    folder, _ = finished
    result = json.loads(invoke("resume", folder, "--json").stdout)["result"]
    found = ending(folder, EVERY)
    assert {name: result[name] for name in ("verdict", "answers", "flags")} == {
        name: found[name] for name in ("verdict", "answers", "flags")
    }
    assert result["next"] and result["verdict"] == verdict(Recorded.open(str(folder)))


def test_without_held_out_rows_it_is_said_first(tiny_folder, pairs_file, tmp_path):
    done = train(tiny_folder, pairs_file, tmp_path / "run")
    first = done.stderr.splitlines()[0]
    assert first.startswith("! no held-out rows: nothing will tell") and "--hold-out 0.1" in first
    assert "No answers are shown: no held-out prompts." in done.stdout
    assert "nothing is known of how this model generalises" in done.stdout
    assert "accord eval" not in done.stdout


def test_a_reward_model_answers_nothing(tiny_folder, pairs_file, held_out_file, tmp_path):
    more = ("--method", "bradley_terry", "--held-out", held_out_file)
    done = train(tiny_folder, pairs_file, tmp_path / "run", *more)
    assert done.exit_code == 0, done.output
    assert "a reward model gives scores and no answers" in done.stdout
    run = Recorded.open(str(tmp_path / "run"))
    commands = [line.split()[1] for line in next_commands(run, EVERY)]
    assert commands == ["report", "export"]


def test_the_answers_failing_does_not_fail_the_run(
    tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    from accord.training import last_answers

    def broken(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(last_answers, "_greedy", broken)
    done = train(tiny_folder, pairs_file, tmp_path / "run", "--held-out", held_out_file)
    assert done.exit_code == 0
    assert "No answers are shown: they could not be drawn: RuntimeError: no room." in done.stdout


def test_all_weights_have_nothing_to_merge(finished, tmp_path):
    folder = tmp_path / "run"  # a copy: another test gives the run's commands, in any order
    shutil.copytree(finished[0], folder)
    run = Recorded.open(str(folder))
    assert next_commands(run, {"export"}) == [
        f"accord export {folder} --merge --output {folder}-merged"
    ]
    (folder.parent / "run-merged").mkdir()
    assert next_commands(run, {"export"})[0].endswith("run-merged-2")
    config = run.config.model_copy(
        update={"model": run.config.model.model_copy(update={"lora": None})}
    )
    run.__dict__["config"] = config
    assert next_commands(run, {"export"}) == [f"accord export {folder} --output {folder}-exported"]


FOUND = {
    "verdict": ["dpo on a.jsonl: held-out accuracy 0.500.", "It cost nothing.", "Two flags."],
    "answers": {
        "asked": "Why \x1b[31m is\nbread dense?",
        "before_is": "before",
        "before": {"text": "Because " * 30, "tokens": 9, "ended": False},
        "after": {"text": "", "tokens": 1, "ended": True},
    },
    "flags": [{"step": 4, "check": "flag.runaway", "says": "loss 3", "remedy": "a lower rate"}],
    "next": ["accord report " + "long/" * 20],
}


@pytest.mark.parametrize("width", [40, 80, 100])
def test_lines_fit_and_text_of_rows_moves_no_cursor(width):
    lines = "\n".join(ending_lines(FOUND, width)).split("\n")
    *rest, command = lines
    assert max(map(len, rest)) <= width and command == "  " + FOUND["next"][0]
    assert not any("\x1b" in line for line in lines)
    assert any("\\x1b[31m is bread dense?" in line for line in lines)
    assert "  after     (nothing)" in lines and "! step 4  runaway: loss 3" in lines


def test_a_missing_first_model_is_said():
    answers = FOUND["answers"] | {"before": None}
    text = "\n".join(ending_lines(FOUND | {"answers": answers}, None))
    assert "not in memory any more" in text and "  before " not in text


CHECKS = [
    Finding("a", "ok", "well"),
    Finding("data.size", "note", "to know"),
    Finding("data.ledger", "note", "3 rejected"),
    Finding("c", "warning", "look", remedy="do this"),
]


def test_checks_fold_to_one_line():
    folded = check_lines(CHECKS)
    assert folded[0] == "  ✓ 1 check passed, 2 notes, 1 to look at (--checks shows all)"
    left_out = f"  · {'data.ledger':<22} 3 rejected"  # rows that are not used are never folded
    assert folded[1:] == [left_out, f"  ! {'c':<22} look", "    what to do: do this"]
    every = check_lines(CHECKS, every=True)
    assert every[0] == "  ✓ 1 check passed, 2 notes, 1 to look at" and len(every) == 6
    assert check_lines(CHECKS[:1] * 2)[0] == "  ✓ 2 checks passed (--checks shows all)"


def test_every_check_where_it_is_asked_for(tiny_folder, pairs_file, tmp_path):
    done = train(tiny_folder, pairs_file, tmp_path / "run", "--checks")
    assert "✓ step0.reference" in done.stderr and "✓ data.ledger" in done.stderr
    refused = train(tiny_folder, pairs_file, tmp_path / "no", "--checks", "--dry-run")
    assert refused.exit_code == 2 and "a dry run shows every check" in refused.output


def test_plain_lines_of_a_file_stay_whole():
    stream = io.StringIO()
    Display(stream).line("word " * 60)
    assert stream.getvalue().count("\n") == 1

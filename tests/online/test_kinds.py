"""`--reward`, `--judge` and `--scorer` take the same things: every option with every kind of
reward.
"""

import json

import pytest
from compare.helpers import SILENT
from conftest import pair_rows, write_rows
from evaluate.judges.server import reply, serving
from training.helpers import run
from typer.testing import CliRunner

from accord.campaign.compare.contenders import Cell
from accord.campaign.compare.measure import ModelMeasurer, Questions
from accord.cli.app import app
from accord.cli.options import options_of
from accord.models.load import load
from accord.models.reward import with_score_head
from accord.runs.folder import RunFolder
from accord.types import UsageError

MINE = """
def helpful(prompts, answers, rows):
    return [len(answer) + len(row) for answer, row in zip(answers, rows, strict=True)]
"""
# kind -> how it is named, and its options
KINDS = {
    "vader": ("vader", []),
    "length": ("length", []),
    "weighted": ("length=-0.5", []),
    "final_answer": ("final_answer", []),
    "constraints": ("constraints", []),
    "format": ("format", ["format.pattern=.*"]),
    "function": ("{module}:helpful", ["{module}:helpful.timeout=20"]),
    "folder": ("{folder}", []),
    "address": ("{url}#tiny", []),
    "judge": ("judge", ["judge.url={url}", "judge.model=tiny"]),
}


def serve(body, headers):
    verdict = "ANSWER A" in body["messages"][-1]["content"]
    return reply(json.dumps({"verdict": "tie"} if verdict else {"score": 7}))


@pytest.fixture(scope="module")
def world(tiny_folder, tmp_path_factory):
    """What the kinds need: a module on the path, a reward model, a server; and a run to measure."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "kinds_mine.py").write_text(MINE)
    columns = {"final_answer": "4", "constraints": [{"kind": "no_comma"}]}
    held = [row | columns for row in pair_rows(6, start=100)]
    model = with_score_head(load(str(tiny_folder), dtype="float32"), 0)
    model.network.save_pretrained(folder / "rm")
    model.tokenizer.save_pretrained(folder / "rm")
    train = write_rows(folder / "pairs.jsonl", pair_rows(8))
    trained = run(
        tiny_folder,
        train,
        folder / "run",
        held_out=write_rows(folder / "held.jsonl", held),
        steps=1,
    )
    answers = [{"prompt": "2 + 2?", "completions": ["It is 4", "5, or so"], "row": columns}]
    with serving(serve) as url:
        yield {
            "path": folder,
            "names": {"module": "kinds_mine", "folder": str(folder / "rm"), "url": url},
            "run": trained,
            "held": folder / "held.jsonl",
            "answers": write_rows(folder / "answers.jsonl", answers),
        }


@pytest.fixture(params=KINDS)
def kind(request, world, monkeypatch):
    """The name of a reward of each kind, and its options."""
    monkeypatch.syspath_prepend(world["path"])
    name, options = KINDS[request.param]
    return name.format(**world["names"]), [one.format(**world["names"]) for one in options]


def accord(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])["result"]


def test_reward(kind, world, tmp_path):
    name, options = kind
    flags = [flag for one in options for flag in ("--set", one)]
    out = tmp_path / "out.jsonl"
    done = accord("score", world["answers"], "--reward", name, *flags, "--output", out)
    assert done["rewarded"] == 2 and done["missing"] == 0


def test_judge(kind, world, tmp_path):
    """An address compares two answers itself; every other kind by its scores."""
    name, options = kind
    flags = [flag for one in options for flag in ("--judge-set", one)]
    few = ["--samples", 2, "--max-new-tokens", 4, "--output", tmp_path / "out"]
    found = accord("eval", world["run"].folder, *few, "--judge", name, *flags)["win_rate"]
    assert found["contests"] == found["judged"] == 2 and found["failures"] == {}
    assert ("mean_score" in found["account"]) == ("#" not in name)


def test_scorer(kind, world, tmp_path):
    """As `compare`, `sweep` and `frontier` ask it."""
    name, options = kind
    config = RunFolder.open(str(world["run"].folder)).config()
    given = options_of(options, "--scorer-set")
    questions = Questions(world["held"], None, 2, 2, 4, name, given)
    measured = ModelMeasurer(tmp_path, config, questions, SILENT).start(Cell("dpo", 0, config))
    assert len(measured.score) == len(measured.text) == 4


def test_what_a_scorer_cannot_judge_is_an_error_with_the_reason(world, tmp_path):
    """Prompts of a text file have no columns to verify an answer against."""
    (tmp_path / "prompts.txt").write_text("What is red?\n")
    config = RunFolder.open(str(world["run"].folder)).config()
    questions = Questions(None, str(tmp_path / "prompts.txt"), 1, 2, 4, "final_answer")
    measurer = ModelMeasurer(tmp_path, config, questions, SILENT)
    with pytest.raises(UsageError, match="final_answer: 2 of 2 answers have no number .*the row"):
        measurer.start(Cell("dpo", 0, config))

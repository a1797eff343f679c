"""`accord generate`: rows that can be made again, from a model, an adapter or a run; bad input in
words.
"""

import json

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import json_lines, run
from typer.testing import CliRunner

from accord.assess.opened import open_model
from accord.cli.app import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def flags(tiny_folder, held_out_file):
    return [
        "generate",
        tiny_folder,
        "--prompts",
        held_out_file,
        "--max-new-tokens",
        6,
        "--k",
        3,
        "--dtype",
        "float32",
    ]


def test_rows_have_what_makes_them_again(flags, tmp_path):
    outputs = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for output, seed in zip(outputs, (1, 1, 2), strict=True):
        done = invoke(*flags, "--seed", seed, "--output", output)
        assert done.exit_code == 0, done.output
    rows, again, other = map(json_lines, outputs)
    assert rows == again and len(rows) == 8
    assert [r["completions"] for r in rows] != [r["completions"] for r in other]
    for row in rows:
        assert (
            len(row["completions"])
            == len(row["logprob"])
            == len(row["ended"])
            == len(row["tokens"])
            == 3
        )
        assert all(logprob < 0 for logprob in row["logprob"])
    assert rows[0]["prompt"] == pair_rows(1, start=100)[0]["prompt"] and rows[0]["at"].endswith(
        ":1"
    )
    source = rows[0]["provenance"]
    assert (source["seed"], source["k"], source["max_new_tokens"], source["dtype"]) == (
        1,
        3,
        6,
        "float32",
    )
    assert len(source["model"]) == len(source["prompts"]) == 64
    assert not list(tmp_path.glob(".*partial"))


def test_pieces_do_not_change_the_answers(flags, tmp_path, monkeypatch):
    from accord.assess import generation

    whole, pieces = tmp_path / "whole.jsonl", tmp_path / "pieces.jsonl"
    assert invoke(*flags, "--output", whole).exit_code == 0
    monkeypatch.setattr(generation, "PIECE", 3)
    assert invoke(*flags, "--output", pieces).exit_code == 0
    assert [row["completions"] for row in json_lines(whole)] == [
        row["completions"] for row in json_lines(pieces)
    ]


def test_its_output_is_a_file_of_prompts(flags, tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert invoke(*flags, "--output", first).exit_code == 0
    flags[3] = first
    assert invoke(*flags, "--output", second).exit_code == 0
    assert [row["prompt"] for row in json_lines(first)] == [
        row["prompt"] for row in json_lines(second)
    ]


def test_one_prompt_is_printed(tiny_folder):
    common = ["generate", tiny_folder, "--prompt", "Say\x1b[2J hi", "--k", 2, "--max-new-tokens", 4]
    done = invoke(*common)
    assert (
        done.exit_code == 0
        and "> Say\\x1b[2J hi" in done.stdout
        and done.stdout.count("nats)") == 2
    )
    told = json.loads(invoke(*common, "--json").stdout)
    assert (
        told["ok"]
        and told["result"]["answers"] == 2
        and len(told["result"]["rows"][0]["completions"]) == 2
    )


def test_a_run_answers_with_its_trained_weights(tiny_folder, pairs_file, tmp_path):
    """Finished or stopped, adapters or all weights: the weights are those of the run, and the base
    is still inside.
    """
    for name, changes in (("lora", {}), ("whole", {"lora": False})):
        result = run(tiny_folder, pairs_file, tmp_path / name, learning_rate=5e-3, **changes)
        opened = open_model(str(result.folder))
        ids = torch.tensor([opened.template.question(opened_turns())])
        with torch.no_grad():
            trained = opened.model.network(ids).logits
            base = open_model(str(tiny_folder), dtype="float32").model.network(ids).logits
        assert (trained - base).abs().max() > 1e-3
        if name == "lora":
            with torch.no_grad(), opened.model.as_reference():
                assert torch.equal(opened.model.network(ids).logits, base)
            adapter = open_model(str(result.saved), dtype="float32")
            with torch.no_grad():
                torch.testing.assert_close(
                    adapter.model.network(ids).logits, trained, atol=1e-5, rtol=1e-5
                )
                with adapter.model.as_reference():
                    assert torch.equal(adapter.model.network(ids).logits, base)
        # as if it had been stopped after its last checkpoint
        result.saved.rename(result.folder / "elsewhere")
        stopped = open_model(str(result.folder))
        assert "step 4 of a run that has not finished" in stopped.weights
        with torch.no_grad():
            torch.testing.assert_close(
                stopped.model.network(ids).logits, trained, atol=1e-5, rtol=1e-5
            )


def opened_turns():
    from accord.types import Turn

    return (Turn("user", "Question 1: the cat?"),)


def test_what_cannot_be_answered_is_counted(tiny_folder, tmp_path):
    rows = [{"prompt": "fine"}, {"prompt": "<|im_end|> sly"}, {"prompt": "long " * 600}]
    output = tmp_path / "out.jsonl"
    done = invoke(
        "generate",
        tiny_folder,
        "--prompts",
        write_rows(tmp_path / "p.jsonl", rows),
        "--k",
        1,
        "--max-new-tokens",
        4,
        "--output",
        output,
    )
    assert done.exit_code == 0 and len(json_lines(output)) == 1
    assert (
        "1 left out: a special token stands in the text" in done.stderr
        and "1 left out: over 508 tokens" in done.stderr
    )


@pytest.mark.parametrize(
    "change, code, says",
    [
        (["--k", 0], 2, "at least one answer"),
        (["--temperature", -1], 2, "temperature"),
        (["--top-p", 0], 2, "top_p"),
        (["--max-new-tokens", 0], 2, "at least one token"),
        (["--prompt", "x"], 2, "--prompts and --prompt are both given"),
        (["--output", "x.csv"], 2, "JSONL"),
        (["--dtype", "int8"], 2, "expected float32 or bfloat16"),
        (["--prompts", "nowhere.jsonl"], 3, "nowhere.jsonl"),
        (["--template", "none.jinja"], 2, "Jinja"),
    ],
)
def test_bad_input_is_said(flags, change, code, says):
    done = invoke(*flags, *change)
    assert done.exit_code == code and says in done.stderr and isinstance(done.exception, SystemExit)


def test_a_folder_that_is_no_model_is_said(tmp_path, held_out_file):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        done = invoke("generate", tmp_path / name, "--prompts", held_out_file)
        assert done.exit_code == 2 and isinstance(done.exception, SystemExit)
    (tmp_path / "empty/adapter_config.json").write_text("[]")
    done = invoke("generate", tmp_path / "empty", "--prompts", held_out_file)
    assert done.exit_code == 2 and "names no base model" in done.stderr

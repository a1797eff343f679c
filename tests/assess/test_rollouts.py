"""accord sample | score | pair: one file after another, gone on with after a kill, every account
balanced.
"""

import json

import pytest
from conftest import write_rows
from training.helpers import json_lines, run
from typer.testing import CliRunner

from accord.assess import rollouts
from accord.cli.app import app
from accord.cli.rollouts import options_of
from accord.data.read import read
from accord.types import UsageError

SAMPLE = ["--k", "3", "--max-new-tokens", "6", "--dtype", "float32", "--seed", "1"]


@pytest.fixture
def prompts(tmp_path):
    rows = [
        {"prompt": f"How many birds are in tree {i}?", "answer": f"so\n#### {i}", "note": "kept"}
        for i in range(20)
    ]
    return write_rows(tmp_path / "prompts.jsonl", rows)


def accord(*arguments):
    """A command's exit code, and its JSON."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code in (0, 2, 3, 75), result.output + repr(result.exception)
    return result.exit_code, json.loads(result.stdout.strip().splitlines()[-1])


def test_from_prompts_to_pairs_that_train(tiny_folder, prompts, tmp_path):
    sampled, scored, paired = (
        tmp_path / f"{name}.jsonl" for name in ("sampled", "scored", "paired")
    )
    code, said = accord("sample", tiny_folder, "--prompts", prompts, "--output", sampled, *SAMPLE)
    assert code == 0 and (said["result"]["prompts"], said["result"]["answers"]) == (20, 60)
    lines = json_lines(sampled)
    assert all(len(line["completions"]) == 3 and line["row"]["note"] == "kept" for line in lines)
    code, said = accord(
        "score", sampled, "--output", scored, "--reward", "length", "--reward", "final_answer=10"
    )
    assert code == 0 and (said["result"]["rewarded"], said["result"]["missing"]) == (60, 0)
    for line in json_lines(scored):
        words = [len(text.split()) for text in line["completions"]]
        assert line["reward_parts"]["length"] == words
        assert line["rewards"] == [
            w + 10 * f for w, f in zip(words, line["reward_parts"]["final_answer"], strict=True)
        ]
    code, said = accord("pair", scored, "--output", paired, "--policy", "margin", "--margin", "1")
    pairs, result = json_lines(paired), said["result"]
    with_pairs = len({pair["at"] for pair in pairs})
    assert code == 0 and result["prompts"] == 20 == with_pairs + sum(result["without"].values())
    for pair in pairs:
        assert pair["chosen_score"] - pair["rejected_score"] >= 1
        assert pair["provenance"]["sampled"] == lines[0]["provenance"] and pair["provenance"][
            "scored"
        ]["rewards"] == ["length", "final_answer=10"]
        assert pair["provenance"]["paired"] == {"policy": "margin", "margin": 1.0, "seed": 0}
    dataset = read(str(paired), "pairs")
    assert len(dataset.examples) == len(pairs) and not dataset.ledger.rejected


def test_a_kill_costs_nothing_that_was_written(tiny_folder, prompts, tmp_path, monkeypatch):
    """The same file as without it, to the byte; and only what was missing is drawn."""
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert accord("sample", tiny_folder, "--prompts", prompts, "--output", whole, *SAMPLE)[0] == 0
    drawn, right = [], rollouts.LocalSampler.sample

    def killed_in_the_second_piece(*arguments, first_row, **options):
        drawn.append(first_row)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return right(*arguments, first_row=first_row, **options)

    monkeypatch.setattr(rollouts.LocalSampler, "sample", killed_in_the_second_piece)
    assert accord("sample", tiny_folder, "--prompts", prompts, "--output", cut, *SAMPLE)[0] == 75
    part = tmp_path / "cut.jsonl.part"
    assert not cut.exists() and len(json_lines(part)) == 8
    part.write_bytes(part.read_bytes() + b'{"prompt": "half a li')
    code, said = accord("sample", tiny_folder, "--prompts", prompts, "--output", cut, *SAMPLE)
    assert code == 0 and said["result"]["resumed"] == 8
    assert cut.read_bytes() == whole.read_bytes() and not part.exists()
    assert drawn == [0, 24, 24, 48]


def test_a_torn_piece_is_drawn_again_whole(tiny_folder, prompts, tmp_path, monkeypatch):
    """Eleven lines are a piece of eight and a part of one: the rest of a batch alone would round
    otherwise in bfloat16.
    """
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    assert accord("sample", tiny_folder, "--prompts", prompts, "--output", whole, *SAMPLE)[0] == 0
    (tmp_path / "torn.jsonl.part").write_bytes(
        b"".join(whole.read_bytes().splitlines(keepends=True)[:11])
    )
    drawn, right = [], rollouts.LocalSampler.sample

    def counted(*arguments, first_row, **options):
        drawn.append(first_row)
        return right(*arguments, first_row=first_row, **options)

    monkeypatch.setattr(rollouts.LocalSampler, "sample", counted)
    code, said = accord("sample", tiny_folder, "--prompts", prompts, "--output", torn, *SAMPLE)
    assert code == 0 and said["result"]["resumed"] == 8 and drawn == [24, 48]
    assert torn.read_bytes() == whole.read_bytes()


def test_a_file_begun_otherwise_is_not_gone_on_with(tiny_folder, prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    assert accord("sample", tiny_folder, "--prompts", prompts, "--output", out, *SAMPLE)[0] == 0
    out.rename(tmp_path / "out.jsonl.part")
    code, said = accord(
        "sample",
        tiny_folder,
        "--prompts",
        prompts,
        "--output",
        out,
        *SAMPLE,
        "--temperature",
        "0.5",
    )
    assert code == 2 and "begun with another model" in said["says"] and "rm " in said["says"]


def scored_row(rewards, texts=None, **more):
    return {
        "prompt": "How many?",
        "completions": texts or [f"text {i}" for i in range(len(rewards))],
        "rewards": rewards,
        "at": "a:1",
    } | more


def test_scoring_goes_on_and_counts_what_has_no_reward(tmp_path, monkeypatch):
    """Failures of the lines that the killed command wrote are in the account too."""
    rows = [
        {"prompt": "q", "completions": [f"#### {i}", "none"], "row": {"answer": i} if i % 2 else {}}
        for i in range(6)
    ]
    answers = write_rows(tmp_path / "answers.jsonl", rows)
    out, calls, right = tmp_path / "out.jsonl", [], rollouts.load_rewards

    def dying(*arguments):
        reward = right(*arguments)

        def scored(*given):
            calls.append(given)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return reward(*given)

        scored.account, scored.notes = reward.account, reward.notes
        return scored

    monkeypatch.setattr(rollouts, "load_rewards", dying)
    assert accord("score", answers, "--output", out, "--reward", "final_answer")[0] == 75
    code, said = accord("score", answers, "--output", out, "--reward", "final_answer")
    result = said["result"]
    assert code == 0 and len(calls) == 4 + 3 and result["resumed"] == 3
    assert (result["answers"], result["rewarded"], result["missing"]) == (12, 6, 6)
    found = json_lines(out)
    assert found[0]["rewards"] == [None, None] and found[1]["rewards"] == [1.0, 0.0]
    assert found[0]["reward_failures"] == {
        "0": "final_answer: the row has no right answer",
        "1": "final_answer: the row has no right answer",
    }


def test_pairing_accounts_for_every_prompt(tmp_path):
    rows = [
        scored_row([1, 2]),
        scored_row([1, 1]),
        scored_row([None, 2]),
        scored_row([1, 2], ["same", "same"]),
        scored_row([1, 2, 3], ["fine", " \n", "\0"]),
    ]
    code, said = accord(
        "pair", write_rows(tmp_path / "s.jsonl", rows), "--output", tmp_path / "p.jsonl"
    )
    assert code == 0 and (said["result"]["pairs"], sum(said["result"]["without"].values())) == (
        1,
        4,
    )
    assert said["result"]["unusable_answers"] == 2


def test_no_pair_at_all_is_an_error_in_words(tmp_path):
    rows = [scored_row([1, 1]), scored_row([None, 2])]
    code, said = accord(
        "pair", write_rows(tmp_path / "s.jsonl", rows), "--output", tmp_path / "p.jsonl"
    )
    assert code == 3 and "no pair comes of 2 prompts (1 × " in said["says"]
    assert "smaller --margin" in said["says"] and not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completions": ["a", "b"]},
        scored_row([1, "2"]),
        scored_row([1, True]),
        scored_row([1, 2], ["a"]),
        {"prompt": "q", "completions": "ab", "rewards": [1, 2]},
        {"completions": ["a", "b"], "rewards": [1, 2]},
    ],
)
def test_lines_that_are_no_scored_answers_are_refused_with_their_place(row, tmp_path):
    data = write_rows(tmp_path / "s.jsonl", [scored_row([1, 2]), row])
    code, said = accord("pair", data, "--output", tmp_path / "p.jsonl")
    assert code == 3 and "s.jsonl:2" in said["says"] and not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize("broken", ["not json", "[1]", '{"prompt": "a", "compl'])
def test_a_damaged_line_is_not_left_out_in_silence(broken, tmp_path):
    good = json.dumps(scored_row([1, 2]))
    (tmp_path / "a.jsonl").write_text(f"{good}\n{broken}\n{good}\n")
    for command, output, *more in (
        ("pair", "p.jsonl"),
        ("score", "s.jsonl", "--reward", "length=1"),
    ):
        code, said = accord(command, tmp_path / "a.jsonl", "--output", tmp_path / output, *more)
        assert (
            code == 3
            and "a.jsonl:2: this line is no JSON object" in said["says"]
            and not (tmp_path / output).exists()
        )


def test_options_of_rewards():
    assert options_of(["format.pattern=a.b", "mine.rewards:helpful.times=2"]) == {
        "format": {"pattern": "a.b"},
        "mine.rewards:helpful": {"times": 2},
    }
    with pytest.raises(UsageError, match="NAME.KEY=VALUE"):
        options_of(["pattern=1"])


def test_a_reward_model_is_no_policy(tiny_folder, pairs_file, prompts, tmp_path):
    """Its trunk would answer as if nothing were wrong, where the head is tied to the embedding."""
    trained = run(
        tiny_folder, pairs_file, tmp_path / "run", method="bradley_terry", lora=False, steps=1
    )
    for name in (trained.folder, trained.saved):
        code, said = accord(
            "sample", name, "--prompts", prompts, "--output", tmp_path / "x.jsonl", *SAMPLE
        )
        assert code == 2 and "reward model" in said["says"]
    sampled, scored = tmp_path / "sampled.jsonl", tmp_path / "scored.jsonl"
    write_rows(sampled, [{"prompt": "One?", "completions": ["Yes.", "No, no."]}])
    code, said = accord("score", sampled, "--output", scored, "--reward", trained.saved)
    assert (
        code == 0
        and said["result"]["rewarded"] == 2
        and len(set(json_lines(scored)[0]["rewards"])) == 2
    )


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": 3, "completions": ["a"]},
        {"prompt": [], "completions": ["a"]},
        {"prompt": [{"role": "user"}], "completions": ["a"]},
        {"prompt": ["q"], "completions": ["a"]},
        {"prompt": [{"role": "user", "content": None}], "completions": ["a"]},
        {"prompt": "q", "completions": ["a"], "row": [1]},
        {"prompt": "q", "completions": []},
        {"prompt": "q", "completions": [None]},
    ],
)
def test_lines_that_are_no_answers_are_refused_with_their_place(row, tmp_path):
    data = write_rows(
        tmp_path / "a.jsonl",
        [
            {"prompt": [{"role": "user", "content": "q"}], "completions": ["a"], "row": {"n": 1}},
            row,
        ],
    )
    code, said = accord("score", data, "--output", tmp_path / "s.jsonl", "--reward", "length")
    assert code == 3 and "a.jsonl:2" in said["says"] and not (tmp_path / "s.jsonl").exists()

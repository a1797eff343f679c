"""What a report says is so: of cut answers, of one thing once, of what a run chose for itself."""

import json

import pytest

from accord.pages.curves import sample_curves, training_curves
from accord.pages.tables import differences, held_out_table, summary
from accord.pages.verdict import cost, lengths_in_words, what_was_learned
from accord.runs.recorded import Recorded

ROLLOUTS = {"rewards": ["length"], "max_new_tokens": 48}


def recorded(folder, lines, method="dpo", **config):
    folder.mkdir()
    (folder / "config.yaml").write_text(
        json.dumps({"data": {"train": "pairs.jsonl"}, "objective": {"name": method}} | config)
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recorded.open(str(folder))


def own_answers(folder, ended=0.0):
    """A run of its own answers: held-out prompts and sample prompts were both answered."""

    def evaluation(step):
        return {
            "step": step,
            "eval_reward": step / 10,
            "eval_kl": step / 5,
            "eval_tokens": 48.0,
            "eval_ended": ended,
        }

    def samples(step):
        return {
            "step": step,
            "diag/samples_tokens": 31.0,
            "diag/samples_kl": 9.0 * step,
            "diag/samples_ended": 1.0,
        }

    train = [{"step": s, "loss": 0.1, "rollouts/kl": s / 5, "rollouts/tokens": 48} for s in (1, 2)]
    lines = [evaluation(0), samples(0), *train, evaluation(2), samples(2)]
    return recorded(folder, lines, "grpo", rollouts=ROLLOUTS)


@pytest.mark.parametrize(
    "before, now, said",
    [
        ((48, 0.0), (48, 0.0), "are all cut at 48 tokens, the limit, as before"),
        ((30, 1.0), (48, 0.0), "are all cut at 48 tokens, the limit, 30 tokens before"),
        ((30, 1.0), (41, 0.75), "have 41 tokens (25% cut at 48, the limit), 30 tokens before"),
        ((30, 1.0), (25, 1.0), "have 25 tokens, 30 tokens before"),
        ((30, None), (25, None), "have 25 tokens, 30 tokens before"),
    ],
)
def test_a_length_names_the_limit_that_made_it(before, now, said):
    assert lengths_in_words(before, now, 48).startswith(said)


def test_sampled_answers_that_were_all_cut_are_said_to_be(tmp_path):
    lines = [
        {"step": 0, "diag/samples_tokens": 30.0, "diag/samples_ended": 1.0},
        {"step": 1, "loss": 0.6},
        {"step": 1, "diag/samples_tokens": 48.0, "diag/samples_ended": 0.0},
    ]
    run = recorded(tmp_path / "run", lines)
    assert "its answers are all cut at 48 tokens, the limit, 30 tokens before" in cost(run)


def test_a_run_of_its_own_answers_has_one_kl_and_one_length(tmp_path):
    """Held-out prompts and a few sample prompts gave two of each, side by side."""
    run = own_answers(tmp_path / "run")
    said = cost(run)
    assert said.count("nats an answer") == 1 and "0.4 nats an answer of KL" in said
    assert "all cut at 48 tokens, the limit" in said and "31" not in said
    drawn = "".join(map(str, training_curves(run) + sample_curves(run)))
    assert drawn.count("KL") >= 1 and "fresh samples" not in drawn
    assert "Tokens of samples" not in drawn
    tokens = next(row for row in held_out_table(run) if row.name == "eval_tokens")
    assert tokens.means == "tokens an answer; 100% of them were cut at 48, the limit"
    (kl,) = (row.cells for row in summary([run]) if row.name == "KL, nats an answer")
    assert kl == ("0.4000",)


def test_kto_s_z0_is_not_the_kl_of_a_policy_s_own_answers(tmp_path):
    """Both are recorded as eval_kl."""
    lines = [{"step": 0, "eval_kl": 0.0}]
    lines += [{"step": s, "loss": 0.5, "kl": 0.2} for s in (1, 2)] + [{"step": 2, "eval_kl": 0.3}]
    run = recorded(tmp_path / "run", lines, "kto")
    titles = "".join(map(str, training_curves(run)))
    assert "KTO&#39;s baseline z0" in titles and "KL of its own answers" not in titles
    (row,) = (row for row in held_out_table(run) if row.name == "eval_kl")
    assert "KTO's baseline z0" in row.means


def test_learning_rates_of_several_runs_are_those_that_ran(tmp_path):
    """They were None where the run chose its own."""

    def rates(*values):
        return [{"step": s, "loss": 0.6, "learning_rate": v} for s, v in enumerate(values, 1)]

    one = recorded(tmp_path / "one", rates(1e-5, 2e-5, 1e-5))
    two = recorded(tmp_path / "two", rates(3e-4, 1.5e-4), train={"learning_rate": 3e-4})
    (row,) = (row for row in differences([one, two]) if row.name == "train.learning_rate")
    assert row.cells == ("2e-05", "0.0003")
    assert "None" not in str([row.cells for row in differences([one, two])])
    assert one.fields["train.learning_rate"] == pytest.approx(2e-5)


def test_a_held_out_accuracy_wholly_under_one_half_is_no_chance(tmp_path):
    def evaluation(step, value):
        ends = {"low": value - 0.1, "high": value + 0.1}
        return {"step": step, "eval_rewards/accuracies": value} | {
            f"diag/eval_accuracy_{end}": at for end, at in ends.items()
        }

    lines = [evaluation(0, 0.5), {"step": 1, "loss": 0.6}, evaluation(1, 0.3)]
    said = what_was_learned(recorded(tmp_path / "run", lines))
    assert "sides exchanged or labels inverted, not noise" in said and "chance" not in said

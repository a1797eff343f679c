"""The rules over real runs of the tiny model: said once, also over a resume; what the guard does;
samples and records.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import json_lines, metrics, ready_for, run, stopped_after

import accord
from accord.monitor.history import History
from accord.monitor.watch import RULES
from accord.training import loop, state
from accord.training.on_flag import go_back
from accord.training.red_flags import Monitor, choose_action, explain_flag, facts_of, similar_pairs
from accord.types import Finding, Flagged, Interrupted, UsageError

FAST = {
    "evaluate.every": 2,
    "monitor.samples": 2,
    "monitor.sample_tokens": 6,
    "monitor.sample_every": 3,
    "checkpoint.every": 3,
}
# learned by heart at once
HOT = {"learning_rate": 0.02, "steps": 14, "batch_size": 16, "beta": 2.0}


def flags(folder) -> dict[str, int]:
    file = folder / "events.jsonl"
    return {line["check"]: line["step"] for line in json_lines(file)} if file.exists() else {}


# ---------------------------------------------------------------- flags


def test_a_run_that_learns_by_heart_says_so_once(tiny_folder, pairs_file, tmp_path):
    with pytest.warns(accord.RedFlag, match="flag.memorised: accuracy 1.000") as warned:
        folder = run(tiny_folder, pairs_file, tmp_path / "run", **HOT).folder
    assert sum("flag.memorised" in str(each.message) for each in warned) == 1
    events = json_lines(folder / "events.jsonl")
    assert [line["check"] for line in events].count("flag.memorised") == 1
    said = next(line for line in events if line["check"] == "flag.memorised")
    assert (
        said["verdict"] == "warning"
        and said["evidence"]["step"] == said["step"]
        and said["means"]
        and said["source"]
    )


def test_a_short_healthy_run_says_nothing(tiny_folder, pairs_file, tmp_path):
    folder = run(tiny_folder, pairs_file, tmp_path / "run", learning_rate=1e-3, steps=12).folder
    assert not [
        name for name, step in flags(folder).items() if name != "flag.chosen-reward-negative"
    ]


@pytest.fixture(scope="module")
def straight(tiny_folder, tmp_path_factory):
    """The run of HOT and FAST that nothing stopped, its rows and what it was given beside them."""
    root = tmp_path_factory.mktemp("straight")
    data = write_rows(root / "pairs.jsonl", pair_rows(24))
    held_out = write_rows(root / "held_out.jsonl", pair_rows(8, start=100))
    changes = HOT | {"held_out": held_out, "set": FAST}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accord.forward.reference.cache_root", lambda: root / "cache")
        return run(tiny_folder, data, root / "run", **changes).folder, data, changes


@pytest.mark.parametrize("stop", [2, 3, 9])
def test_resumed_says_the_same(stop, straight, tiny_folder, tmp_path, monkeypatch):
    """Flags, samples and records of a stopped run that went on are those of one that was not
    stopped.
    """
    straight, data, changes = straight
    # the session's cache may hold these rows from micro-batches of other shapes, which round
    monkeypatch.setattr("accord.forward.reference.cache_root", lambda: tmp_path / "cache")
    with stopped_after(monkeypatch, stop), pytest.raises(Interrupted):
        run(tiny_folder, data, tmp_path / "stopped", **changes)
    accord.resume(str(tmp_path / "stopped"))
    for name in ("metrics.jsonl", "events.jsonl", "samples.jsonl"):
        assert (straight / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name
    assert "flag.memorised" in flags(straight)
    for file in (straight / "examples.parquet").iterdir():
        assert file.read_bytes() == (tmp_path / "stopped/examples.parquet" / file.name).read_bytes()


def test_stopped_while_sampling(tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch):
    """The samples that the signal cut off are made up for, once."""
    changes = {"held_out": held_out_file, "set": FAST}
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", **changes).folder
    speak = loop.log_samples

    def stopping(run):
        if run.progress.step == 3:
            raise Interrupted("stopped by SIGTERM.")
        speak(run)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "log_samples", stopping)
        run(tiny_folder, pairs_file, tmp_path / "stopped", **changes)
    accord.resume(str(tmp_path / "stopped"))
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (straight / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_lines_and_records_after_the_checkpoint_are_dropped(
    tiny_folder, pairs_file, held_out_file, tmp_path
):
    """Killed after step 4, its newest good checkpoint is of step 3:
    nothing later is counted twice.
    """
    changes = {"held_out": held_out_file, "set": {**FAST, "checkpoint.keep": 9}}
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", **changes).folder
    killed = run(tiny_folder, pairs_file, tmp_path / "killed", **changes).folder
    (killed / "checkpoints/step-000004/tensors.safetensors").unlink()
    accord.resume(str(killed))
    assert (straight / "samples.jsonl").read_bytes() == (killed / "samples.jsonl").read_bytes()
    assert (straight / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()


# ---------------------------------------------------------------- the guard


def test_stop(tiny_folder, pairs_file, tmp_path):
    """Exit 5 in words, saved; a resume goes on past the same flag, to what a run that only warns
    would be.
    """
    with pytest.raises(
        Flagged, match="flag.memorised: accuracy 1.000.*\n.*\nWhat to do: Fewer epochs"
    ) as stopped:
        run(tiny_folder, pairs_file, tmp_path / "run", on_flag="stop", **HOT)
    assert stopped.value.code == 5 and f'accord.resume("{tmp_path / "run"}")' in str(stopped.value)
    assert len(metrics(tmp_path / "run")) == flags(tmp_path / "run")["flag.memorised"] < 14
    assert accord.resume(str(tmp_path / "run")).steps == 14
    run(tiny_folder, pairs_file, tmp_path / "warned", **HOT)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (
        tmp_path / "warned/metrics.jsonl"
    ).read_bytes()


def test_adapt_ends_with_the_best_weights(tiny_folder, pairs_file, held_out_file, tmp_path, capsys):
    """What is saved is the checkpoint that BEST names; a resume of it changes nothing; samples are
    of those weights.
    """
    from safetensors.torch import load_file

    changes = HOT | {"held_out": held_out_file, "set": FAST}
    result = run(
        tiny_folder, pairs_file, tmp_path / "run", on_flag="adapt", verbose=True, **changes
    )
    best = result.best_step
    event = next(
        line for line in json_lines(result.folder / "events.jsonl") if line["check"] == "guard.best"
    )
    assert (
        event["evidence"] == {"taken": best, "cause": "flag.memorised"}
        and f"ends with the weights of step {best}" in capsys.readouterr().err
    )
    assert len(metrics(result.folder)) == event["step"] < 14
    state = load_file(result.folder / f"checkpoints/step-{best:06d}/tensors.safetensors")
    saved = load_file(result.saved / "adapter_model.safetensors")
    first = next(iter(saved))
    master = next(
        v
        for k, v in state.items()
        if k.startswith("master/") and k.removeprefix("master/").replace(".default", "") == first
    )
    assert torch.equal(master, saved[first])
    assert json_lines(result.folder / "samples.jsonl")[-1]["weights_of"] == best
    evaluated = next(
        line
        for line in json_lines(result.folder / "metrics.jsonl")
        if line["step"] == best and "eval_loss" in line
    )
    assert result.after["eval_loss"] == evaluated["eval_loss"]
    before = (
        (result.folder / "metrics.jsonl").read_bytes(),
        (result.saved / "adapter_model.safetensors").read_bytes(),
    )
    accord.resume(str(result.folder))
    assert before == (
        (result.folder / "metrics.jsonl").read_bytes(),
        (result.saved / "adapter_model.safetensors").read_bytes(),
    )


def test_going_back_says_where_nothing_is_better():
    """Every evaluation was worse than the start: the run still ends with the best of them, and does
    not praise it.
    """
    said = []
    where = state.Progress(step=6, best=4.4, best_step=6, before={"eval_loss": 0.69})
    made = SimpleNamespace(
        progress=where,
        folder=SimpleNamespace(append=lambda *_: None),
        display=SimpleNamespace(flagged=lambda _, found: said.append(found.says)),
    )
    for where.best in (4.4, 0.5):
        go_back(made, Finding("flag.runaway", "warning", "loss 9"))
    assert (
        "even they are worse there than what training started from (4.4 against 0.69)" in said[0]
        and "even" not in said[1]
    )
    assert where.taken == 6


def test_adapt_without_held_out_rows_only_says(tiny_folder, pairs_file, tmp_path):
    folder = run(tiny_folder, pairs_file, tmp_path / "run", on_flag="adapt", **HOT).folder
    assert (
        "flag.memorised" in flags(folder)
        and "guard.best" not in flags(folder)
        and len(metrics(folder)) == 14
    )


def test_adapt_halves_the_rate_once_and_a_resume_keeps_it(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """A spike at step 12: the rates from 13 on are half of those planned."""
    rule = state.Monitor.look

    def spiked(self):
        found = rule(self)
        if self.history.step == 4 and "flag.gradient-spike" not in self.said:
            self.said.add("flag.gradient-spike")
            found.append(Finding("flag.gradient-spike", "warning", "made up"))
        return found

    monkeypatch.setattr(state.Monitor, "look", spiked)
    changes = {
        "steps": 8,
        "on_flag": "adapt",
        "set": {"train.schedule": "constant", "train.warmup": 0.0},
    }
    folder = run(tiny_folder, pairs_file, tmp_path / "straight", **changes).folder
    rates = [line["learning_rate"] for line in metrics(folder)]
    assert (
        rates[:4] == [1e-3] * 4 and rates[4:] == [5e-4] * 4 and flags(folder)["guard.slower"] == 4
    )
    with stopped_after(monkeypatch, 6), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "stopped", **changes)
    accord.resume(str(tmp_path / "stopped"))
    assert (folder / "metrics.jsonl").read_bytes() == (
        tmp_path / "stopped/metrics.jsonl"
    ).read_bytes()


def test_adapt_halves_once_for_each_flag_that_asks(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """Two flags, one of them found twice: a quarter of the rate is left, not an eighth."""
    seen = {3: "gradient-spike", 4: "gradient-spike", 5: "kl-far"}
    rule = state.Monitor.look

    def told(self):
        found = rule(self)
        name = f"flag.{seen.pop(self.history.step, '')}"
        if name != "flag." and name not in self.said:
            self.said.add(name)
            found.append(Finding(name, "warning", "made up"))
        return found

    monkeypatch.setattr(state.Monitor, "look", told)
    constant = {"train.schedule": "constant", "train.warmup": 0.0}
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", steps=8, on_flag="adapt", set=constant
    ).folder
    rates = [line["learning_rate"] for line in metrics(folder)]
    assert rates == [1e-3] * 3 + [5e-4] * 2 + [2.5e-4] * 3 and not seen


def test_flags_that_halve_the_rate_are_those_of_the_readme():
    """So a run halves at most as often as the README names flags: each is raised once a run."""
    halving = [rule.name for rule in RULES if rule.adapt == "slower"]
    assert halving == ["gradient-spike", "kl-far", "far-off-policy"]
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    first, *others = (f"`{name}`" for name in halving)
    assert (
        "halve the learning rate, once for each flag that asks for it:"
        f" {first}, and with rollouts {' and '.join(others)};"
    ) in readme


FOUND = [
    Finding("flag.saturated", "note", ""),
    Finding("flag.gradient-spike", "warning", ""),
    Finding("flag.memorised", "warning", ""),
]


@pytest.mark.parametrize(
    "on_flag, found, can_go_back, expected",
    [
        ("warn", FOUND, True, None),
        ("stop", FOUND, True, ("stop", FOUND[1])),
        ("stop", FOUND[:1], True, None),  # notes never stop a run
        ("adapt", FOUND, True, ("best", FOUND[2])),  # ending is more than slowing down
        ("adapt", FOUND, False, ("slower", FOUND[1])),
        ("adapt", FOUND[2:], False, None),
        # nothing that a run can mend
        ("adapt", [Finding("flag.wrong-reference", "warning", "")], True, None),
        ("adapt", [Finding("flag.stranger", "warning", "")], True, None),
    ],
)
def test_action(on_flag, found, can_go_back, expected):
    assert choose_action(on_flag, found, can_go_back) == expected


# ---------------------------------------------------------------- samples


def test_samples_do_not_disturb_training(tiny_folder, pairs_file, held_out_file, tmp_path):
    """The training lines and the weights are those of a run that never samples,
    dropout included.
    """
    settings = {"model.lora.dropout": 0.2}
    with_samples = run(
        tiny_folder, pairs_file, tmp_path / "with", held_out=held_out_file, set={**FAST, **settings}
    )
    without = run(
        tiny_folder,
        pairs_file,
        tmp_path / "without",
        set={"monitor.samples": 0, "checkpoint.every": 3, **settings},
    )
    assert metrics(with_samples) == metrics(without)
    weights = [
        (r.saved / "adapter_model.safetensors").read_bytes() for r in (with_samples, without)
    ]
    assert weights[0] == weights[1] and not (without.folder / "samples.jsonl").exists()


def test_samples_are_of_the_same_prompts_at_the_steps_asked_for(
    tiny_folder, pairs_file, held_out_file, tmp_path
):
    folder = run(tiny_folder, pairs_file, tmp_path / "run", held_out=held_out_file, set=FAST).folder
    lines = json_lines(folder / "samples.jsonl")
    assert [(line["step"], line["prompt"]) for line in lines] == [
        (s, n) for s in (0, 3, 4) for n in (0, 1)
    ]
    assert lines[0]["asked"] == lines[2]["asked"] == pair_rows(1, start=100)[0]["prompt"]
    figures = [line for line in json_lines(folder / "metrics.jsonl") if "diag/samples_kl" in line]
    assert [line["step"] for line in figures] == [0, 3, 4]
    assert (
        figures[0]["diag/samples_kl"] == pytest.approx(0, abs=1e-6)
        and figures[-1]["diag/samples_kl"] > 1e-4
    )
    assert figures[0]["diag/samples_tokens"] == sum(line["tokens"] for line in lines[:2]) / 2 <= 6


def test_prompts_from_a_file(tiny_folder, pairs_file, tmp_path):
    (tmp_path / "prompts.txt").write_text("One?\n\nTwo?\nOne?\n", encoding="utf-8")
    settings = {"monitor.prompts": str(tmp_path / "prompts.txt"), "monitor.sample_tokens": 4}
    folder = run(tiny_folder, pairs_file, tmp_path / "run", steps=1, set=settings).folder
    assert [line["asked"] for line in json_lines(folder / "samples.jsonl")] == ["One?", "Two?"] * 2
    with pytest.raises(UsageError, match="expected a text file with one prompt a line"):
        run(
            tiny_folder,
            pairs_file,
            tmp_path / "none",
            set={"monitor.prompts": str(tmp_path / "missing.txt")},
        )


def test_prompts_that_leave_no_room_are_left_out(tiny_folder, pairs_file, held_out_file):
    """The tiny model has 512 positions."""
    assert (
        ready_for(
            tiny_folder,
            pairs_file,
            held_out=held_out_file,
            assignments=["monitor.sample_tokens=500"],
        ).sample_prompts
        == ()
    )
    assert len(ready_for(tiny_folder, pairs_file, held_out=held_out_file).sample_prompts) == 8


# ---------------------------------------------------------------- records of every held-out row


@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_metrics_are_reduced_from_the_records(
    method, tiny_folder, pairs_file, held_out_file, tmp_path
):
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", method=method, held_out=held_out_file, set=FAST
    ).folder
    table = pandas.read_parquet(folder / "examples.parquet")
    lines = {
        line["step"]: line for line in json_lines(folder / "metrics.jsonl") if "eval_loss" in line
    }
    assert sorted(set(table.step)) == sorted(lines) == [0, 2, 4]
    for step, rows in table.groupby("step"):
        assert rows["loss"].mean() == pytest.approx(lines[step]["eval_loss"], rel=1e-9)
        margins = rows["rewards/chosen"] - rows["rewards/rejected"]
        assert margins.mean() == pytest.approx(lines[step]["eval_rewards/margins"], abs=1e-9)
        assert rows["diag/log_ratio/chosen"].mean() == pytest.approx(
            lines[step]["diag/eval_log_ratio/chosen"], abs=1e-9
        )
    assert list(table[table.step == 0]["at"])[2] == f"{held_out_file}:3" and set(table.turns) == {1}


def test_without_a_reference_the_change_is_since_step_0(
    tiny_folder, pairs_file, held_out_file, tmp_path
):
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", method="simpo", held_out=held_out_file, set=FAST
    ).folder
    table = pandas.read_parquet(folder / "examples.parquet")
    first, last = (table[table.step == step].reset_index() for step in (0, 4))
    assert (first["diag/log_ratio/chosen"] == 0).all()
    assert list(last["diag/log_ratio/chosen"]) == list(last["logps/chosen"] - first["logps/chosen"])


def test_source_and_turns_are_kept(tiny_folder, pairs_file, tmp_path):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Why?"},
    ]
    rows = [{**row, "source": "club"} for row in pair_rows(3, start=100)] + [
        {**pair_rows(1, start=200)[0], "prompt": turns}
    ]
    held = write_rows(tmp_path / "held.jsonl", rows)
    folder = run(tiny_folder, pairs_file, tmp_path / "run", steps=1, held_out=held, set=FAST).folder
    table = pandas.read_parquet(folder / "examples.parquet").query("step == 0")
    assert (
        list(table.source[:3]) == ["club"] * 3
        and pandas.isna(table.source[3])
        and list(table.turns) == [1, 1, 1, 2]
    )


# ---------------------------------------------------------------- which pairs cause a displacement


def test_the_pairs_are_named(tiny_folder, pairs_file):
    ready = ready_for(tiny_folder, pairs_file)
    found = similar_pairs(ready, ready.source.rows.trees[:6])
    assert len(found["pairs"]) == 5 and found["pairs"][0]["at"].startswith(f"{pairs_file}:")
    scores = [pair["ches"] for pair in found["pairs"]]
    assert scores == sorted(scores, reverse=True) and -1 <= found["ches_and_fall"] <= 1
    assert math.isfinite(found["overlap"]) and json.dumps(found)


def test_labelled_rows_are_no_pairs(tiny_folder, pairs_file):
    """KTO may lose its chosen answers too: that is said, without pairs."""
    finding = Finding("flag.chosen-falling", "warning", "", {"chosen": -1.0})
    assert (
        explain_flag(ready_for(tiny_folder, pairs_file, method="kto", batch_size=8), 3, finding)
        == finding
    )
    found = explain_flag(ready_for(tiny_folder, pairs_file), 3, finding).evidence
    assert found["chosen"] == -1.0 and len(found["pairs"]) == 5
    other = Finding("flag.runaway", "warning", "")
    assert explain_flag(ready_for(tiny_folder, pairs_file), 3, other) is other


# ---------------------------------------------------------------- hints of a mixture


def test_a_mixtures_flags_name_its_parts(tiny_folder, pairs_file):
    """The rules see the options of the part whose margins are recorded; what they advise is an
    option's path, and a whole mixture.
    """
    ready = ready_for(
        tiny_folder,
        pairs_file,
        method="dpo+0.1*sft",
        steps=40,
        assignments=["objective.dpo.beta=50"],
        allow=("unusual_settings",),
    )
    moved = {"log_ratio_token/chosen": -1.0, "log_ratio_token/rejected": -2.0, "chosen_down": 1.0}
    lines = [
        {"step": step, "loss": 1.0, **{f"diag/{name}": value for name, value in moved.items()}}
        for step in range(1, 41)
    ]
    found = {}
    for beta in (50.0, 0.1):  # a beta that is too high silences what follows from it
        facts = replace(facts_of(ready), options={"beta": beta})
        monitor = Monitor(History(facts), set(), ready.learner.objective)
        for line in lines:
            monitor.history.add(line)
        found |= {finding.check: finding for finding in monitor.look()}
    assert facts_of(ready).options["beta"] == 50.0
    high = found["flag.beta-too-high"]
    assert high.says.startswith("objective.dpo.beta is 50,")
    assert high.remedy == "--set objective.dpo.beta=0.1"
    assert "a larger weight of sft" in found["flag.chosen-falling"].remedy

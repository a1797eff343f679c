"""Any number of processes trains the same model: the same gradients, records and checkpoints,
written once.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import pair_rows, write_rows
from safetensors.torch import load_file, save_file
from training.helpers import json_lines, metrics, ready_for, run, stopped_after
from training.test_step import apart, moved
from training.worlds import GONE, in_world, rank, resume, train
from typer.testing import CliRunner

import accord
from accord.cli.app import app
from accord.distributed.world import ALONE, World, join_world
from accord.engine import step
from accord.engine.step import accumulate, make_batch
from accord.forward.sharded import choose_parallel
from accord.runs import checkpoint
from accord.runs.display import SilentDisplay
from accord.runs.ranks import of_all_ranks
from accord.training import loop
from accord.training.run import dry_run
from accord.training.setup import common
from accord.training.setup import rows as setup_rows
from accord.types import Finding, Interrupted, Refused, UsageError


def close(one: dict, other: dict, rel: float) -> None:
    """The same names, and values that differ by no more than rounding.

    Where policy and cached reference are still one model, margins are rounding, and which of them
    win is chance.
    """
    assert one.keys() == other.keys()
    early = any(abs(one.get(f"{prefix}rewards/margins", 1.0)) < 1e-5 for prefix in ("", "eval_"))
    shares = ("accuracies", "accuracy_low", "accuracy_high", "down", "ties", "correlation", "auc")
    for name in (name for name in one if not (early and name.endswith(shares))):
        # nats: the difference of two sums of 50, whose last bit is 4e-6
        room = 1e-5 if "log_ratio" in name else 1e-6
        assert other[name] == pytest.approx(one[name], rel=rel, abs=room), name


def json_of(file: Path):
    return json.loads(file.read_text())


def tensors(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoints/step-{step:06d}/tensors.safetensors")


# ---------------------------------------------------------------- the gradient


def gradient_of(ready, folder) -> dict:
    """The gradient of batch 1 that this rank ends with, in a file, and the records of its rows."""
    with join_world() as world:
        learner = replace(ready.learner, world=world)
        records = accumulate(
            learner, make_batch(learner, 1, ready.batch_trees(1)), ready.optimizer.masters
        )
        save_file(
            ready.optimizer.masters.gradients(),
            f"{folder}/gradient-{world.size}-{world.rank}.safetensors",
        )
        return {
            "rows": records.row,
            "loss": records["loss"].tolist(),
            "norm": ready.optimizer.grad_norm(world).item(),
        }


@pytest.mark.parametrize("method", ["dpo", "kto", "sft"])
def test_no_world_changes_the_gradient(method, tiny_folder, tmp_path):
    """7 rows on 1, 2, 4 and 9 ranks: one gradient to 1e-6 on every rank, the rows in the batch's
    order, z0 of them all.
    """
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(14))
    ready = moved(
        ready_for(
            tiny_folder, data, method=method, batch_size=7, assignments=["train.micro_tokens=120"]
        )
    )
    alone = gradient_of(ready, tmp_path)
    expected = load_file(tmp_path / "gradient-1-0.safetensors")
    ready.optimizer.masters.zero_grad()
    for size in (2, 4, 9):
        for place, answer in enumerate(
            in_world(size, tmp_path / str(size), gradient_of, ready, tmp_path)
        ):
            assert answer["rows"] == alone["rows"] and len(set(answer["rows"])) == len(
                ready.batch_trees(1)
            )
            assert answer["loss"] == pytest.approx(alone["loss"], rel=1e-6, abs=1e-6)
            assert answer["norm"] == pytest.approx(alone["norm"], rel=1e-6)
            assert (
                apart(expected, load_file(tmp_path / f"gradient-{size}-{place}.safetensors")) < 1e-6
            )


# ---------------------------------------------------------------- whole runs

# Each in one or two worlds: with an even share, and with ranks that have less to do than others, or
# nothing. Both for sharded weights, where a rank without rows still takes part in every pass; what
# is not sharded has its even share in "lora", and its uneven one in "kto".
RUNS = {
    "lora": ({"set": {"evaluate.every": 2}}, (2,)),
    "kto": ({"method": "kto", "batch_size": 5, "set": {"train.micro_tokens": 64}}, (4,)),
    # its shift is of the rows of all ranks
    "bco": ({"method": "bco", "batch_size": 5, "set": {"evaluate.every": 1}}, (2,)),
    # a part by rows, and one by tokens of the whole batch
    "mixture": (
        {"method": "wpo*ld_dpo+0.1*sft", "batch_size": 5, "set": {"evaluate.every": 2}},
        (2,),
    ),
    "sharded": (
        {"lora": False, "batch_size": 5, "set": {"train.micro_tokens": 64, "evaluate.every": 2}},
        (2, 4),
    ),
    "lora-sharded": (
        {
            "method": "wpo*ld_dpo",  # more columns through the joint passes
            "batch_size": 5,
            "set": {"train.parallel": "sharded", "train.micro_tokens": 64, "evaluate.every": 2},
        },
        (4,),
    ),
    "lora-sharded-kto": (
        {
            "method": "kto",
            "batch_size": 5,
            "set": {"train.parallel": "sharded", "train.micro_tokens": 64},
        },
        (2,),
    ),
    "lora-sharded-moving": (
        {
            "reference": "moving",
            "set": {
                "train.parallel": "sharded",
                "moving.every": 2,
                "moving.mix": 0.5,
                "evaluate.every": 1,
            },
        },
        (2,),
    ),
    "sharded-kto": (
        {"method": "kto", "lora": False, "reference": "frozen", "set": {"train.micro_tokens": 64}},
        (2,),
    ),
    "replicated": (
        {"lora": False, "method": "simpo", "set": {"train.parallel": "replicated"}},
        (2,),
    ),
    # each weight by itself: in parts; columns and blocks of a whole tensor: whole in each process
    "sharded-sgd": ({"lora": False, "batch_size": 5, "set": {"train.optimizer": "sgd"}}, (2,)),
    "adafactor": ({"lora": False, "set": {"train.optimizer": "adafactor"}}, (2,)),
    "moving": (
        {"reference": "moving", "set": {"moving.every": 2, "moving.mix": 0.5, "evaluate.every": 1}},
        (2,),
    ),
    "epochs": ({"steps": None, "epochs": 2, "batch_size": 12, "reference": "cached"}, (2,)),
}


@pytest.mark.parametrize("changes, sizes", RUNS.values(), ids=RUNS)
def test_no_world_changes_a_run(changes, sizes, tiny_folder, pairs_file, held_out_file, tmp_path):
    """Any number of processes: the same records line by line, the same weights; every file is
    written once.
    """
    changes = {"steps": 3, "held_out": held_out_file, **changes}
    # roundings may draw other words
    changes["set"] = {**changes.get("set", {}), "monitor.samples": 0}
    alone = {k: v for k, v in changes.items() if k != "set"} | {
        "set": {k: v for k, v in changes.get("set", {}).items() if k != "train.parallel"}
    }
    one = run(tiny_folder, pairs_file, tmp_path / "one", **alone)
    for size in sizes:
        out = tmp_path / f"run-{size}"
        answers = in_world(size, tmp_path / str(size), train, tiny_folder, pairs_file, out, changes)
        assert all(answer == answers[0] and "error" not in answer for answer in answers), answers
        lines, expected = (
            json_lines(out / "metrics.jsonl"),
            json_lines(one.folder / "metrics.jsonl"),
        )
        assert len(lines) == len(expected)
        for line, right in zip(lines, expected, strict=True):
            close(right, line, 2e-5)
        ours, theirs = tensors(out, one.steps), tensors(one.folder, one.steps)
        masters = [name for name in theirs if name.startswith(("master/", "reference/"))]
        assert ours.keys() == theirs.keys()
        assert apart({n: theirs[n] for n in masters}, {n: ours[n] for n in masters}) < 1e-4
        single = {"pairs.json"}  # token by token, which sharded weights do not give
        assert {f.name for f in out.iterdir()} - single == {
            f.name for f in one.folder.iterdir()
        } - single
        assert answers[0]["best_step"] == one.best_step
        found, expected = (
            {f["check"]: f["evidence"] for f in json_of(folder / "preflight.json")}
            for folder in (out, one.folder)
        )
        # gathered weights are none of it
        assert found["memory"]["kept_per_token"] == expected["memory"]["kept_per_token"]
        wanted = changes["set"].get("train.parallel", "auto")
        assert found["ranks"]["sharded"] == (
            wanted == "sharded"
            or (
                wanted == "auto"
                and changes.get("lora") is False
                and changes["set"].get("train.optimizer") != "adafactor"
            )
        )
        assert found.keys() - {"ranks", "running"} == expected.keys()
        assert json_of(out / "environment.json")["processes"] == size


def test_the_first_rank_answers_for_all(tiny_folder, pairs_file, held_out_file, tmp_path):
    """Samples of two ranks are those of one process, once each; through sharded weights all ranks
    draw them.
    """
    changes = {
        "steps": 2,
        "held_out": held_out_file,
        "set": {"monitor.samples": 2, "monitor.sample_tokens": 4, "monitor.sample_every": 1},
    }
    one = run(tiny_folder, pairs_file, tmp_path / "one", **changes)
    answers = in_world(2, tmp_path / "2", train, tiny_folder, pairs_file, tmp_path / "two", changes)
    assert answers[0] == answers[1] and "error" not in answers[0]
    said = [json_lines(folder / "samples.jsonl") for folder in (one.folder, tmp_path / "two")]
    assert said[0][:2] == said[1][:2] and [(line["step"], line["prompt"]) for line in said[1]] == [
        (s, p) for s in (0, 1, 2) for p in (0, 1)
    ]
    in_world(
        2,
        tmp_path / "3",
        train,
        tiny_folder,
        pairs_file,
        tmp_path / "parts",
        changes | {"lora": False},
    )
    parts = json_lines(tmp_path / "parts/samples.jsonl")
    assert [(line["step"], line["prompt"]) for line in parts] == [
        (s, p) for s in (0, 1, 2) for p in (0, 1)
    ]
    # before the first update both have one policy, which draws the same words
    assert [line["text"] for line in parts[:2]] == [line["text"] for line in said[0][:2]]
    assert json_of(tmp_path / "parts/last_answers.json").keys() >= {"asked", "before", "after"}


def test_auto_shards_all_weights_only():
    many = World(0, 2)
    assert choose_parallel("auto", many, adapters=False) and not choose_parallel(
        "auto", many, adapters=True
    )
    assert not choose_parallel("replicated", many, adapters=False) and not choose_parallel(
        "auto", ALONE, adapters=False
    )
    assert not choose_parallel("auto", many, adapters=False, whole_tensors=True)
    # a base under adapters is cut where that was asked for, and all weights too
    assert choose_parallel("sharded", many, adapters=True)
    assert choose_parallel("sharded", many, adapters=False)


@pytest.mark.parametrize("name", ["adafactor", "adamw_8bit"])
def test_no_part_of_what_an_optimizer_needs_whole(name, tiny_folder, pairs_file, tmp_path):
    changes = {"lora": False, "set": {"train.optimizer": name, "train.parallel": "sharded"}}
    out = tmp_path / "run"
    for answer in in_world(2, tmp_path / "w", train, tiny_folder, pairs_file, out, changes):
        assert answer["error"] == "UsageError" and "needs each weight's whole" in answer["says"]
        assert '"train.parallel": "replicated"' in answer["says"]


def test_what_does_not_fit_a_world(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """In one process, an option that would do nothing; in several, what only one can do."""
    with pytest.raises(UsageError, match="train.parallel does nothing in one process"):
        run(
            tiny_folder, pairs_file, tmp_path / "run", set={"train.parallel": "sharded"}, lora=False
        )
    for answer in in_world(2, tmp_path / "w", train, tiny_folder, "-", tmp_path / "other", {}):
        assert answer["error"] == "UsageError" and "Standard input" in answer["says"]
    assert not (tmp_path / "other").exists()
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="Leave out torchrun"):
        dry_run(None, SilentDisplay())
    refused = CliRunner().invoke(app, ["methods"])
    assert refused.exit_code == 2 and "Leave out torchrun" in refused.stderr
    monkeypatch.setenv("RANK", "1")  # it has no voice
    silent = CliRunner().invoke(app, ["methods"])
    assert (silent.exit_code, silent.stderr, silent.stdout) == (2, "", "")


# ------------------------------------------------------------ checkpoints, in worlds of other sizes


def stopping(tiny_folder, data, output, changes, who) -> None:
    """A run in which the rank `who` alone is asked to stop after its second update,
    as by a signal.
    """
    update = loop.make_update

    def asked(run):
        update(run)
        if run.progress.step == 2 and rank() == who:
            run.stop.signal = signal.SIGTERM

    loop.make_update = asked
    train(tiny_folder, data, output, changes)


FOLLOWING = {"reference": "moving", "set": {"moving.every": 1}}
SGD = {"lora": False, "set": {"train.optimizer": "sgd"}}
LORA_SHARDED = {"set": {"train.parallel": "sharded"}}


@pytest.mark.parametrize(
    "changes",
    [{}, {"lora": False}, FOLLOWING, SGD, LORA_SHARDED],
    ids=["lora", "sharded", "moving", "sgd", "lora-sharded"],
)
def test_a_checkpoint_of_two_goes_on_in_any_world(changes, tiny_folder, pairs_file, tmp_path):
    """A signal to one rank stops both at the same step. Resumed by two: the same bytes; by one or
    four: to rounding.
    """
    answers = in_world(
        2, tmp_path / "0", stopping, tiny_folder, pairs_file, tmp_path / "stopped", changes, 1
    )
    for answer in answers:
        assert answer["error"] == "Interrupted" and answer["code"] == 75 and answer["on_all_ranks"]
        assert (
            "rank 1 of 2" in answers[0]["says"]
            and "step-000002. Go on with: accord.resume" in answer["says"]
        )
    assert (
        "error"
        not in in_world(
            2, tmp_path / "1", train, tiny_folder, pairs_file, tmp_path / "straight", changes
        )[0]
    )
    expected = tensors(tmp_path / "straight", 4)
    for size in (1, 2, 4) if not changes else (1, 2):
        out = tmp_path / f"by-{size}"
        shutil.copytree(tmp_path / "stopped", out)
        if size == 1:
            accord.resume(str(out))
        else:
            assert "error" not in in_world(size, tmp_path / f"2-{size}", resume, out)[0]
        found = tensors(out, 4)
        assert found.keys() == expected.keys()
        if size == 2:
            assert all(torch.equal(found[name], expected[name]) for name in expected)
            assert (out / "metrics.jsonl").read_bytes() == (
                tmp_path / "straight/metrics.jsonl"
            ).read_bytes()
        masters = [name for name in expected if name.startswith("master/")]
        assert apart({n: expected[n] for n in masters}, {n: found[n] for n in masters}) < 1e-4
        assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4]


def test_a_checkpoint_of_one_goes_on_in_a_sharded_world(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Masters and moments are cut up as they are read; uneven rows over ranks included (400 rows of
    32 over 3 ranks).
    """
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run", lora=False)
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", lora=False)
    assert "error" not in in_world(3, tmp_path / "w", resume, tmp_path / "run")[0]
    expected, found = tensors(straight.folder, 4), tensors(tmp_path / "run", 4)
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
    masters = [name for name in expected if name.startswith("master/")]
    assert apart({n: expected[n] for n in masters}, {n: found[n] for n in masters}) < 1e-4


def test_a_world_passes_over_what_is_damaged_or_begins_again(tiny_folder, pairs_file, tmp_path):
    """The first rank looks for checkpoints, all ranks go where it points: an older one, or the
    start.
    """
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", set={"checkpoint.every": 2})
    expected = metrics(straight)
    (straight.folder / "checkpoints/step-000004/MANIFEST.json").write_text("")
    for size in (2, 3):
        answers = in_world(size, tmp_path / str(size), resume, straight.folder)
        assert all(answer == answers[0] and "error" not in answer for answer in answers), answers
        for line, right in zip(metrics(straight), expected, strict=True):
            close(right, line, 2e-5)
        assert checkpoint.load(straight.folder / "checkpoints").step == 4
        shutil.rmtree(straight.folder / "checkpoints")


def test_no_part_of_a_moving_reference(tiny_folder, pairs_file, tmp_path):
    """Of sharded weights, no rank has the whole to mix."""
    changes = {"lora": False, **FOLLOWING}
    for answer in in_world(
        2, tmp_path / "w", train, tiny_folder, pairs_file, tmp_path / "run", changes
    ):
        assert (
            answer["error"] == "UsageError" and '"train.parallel": "replicated"' in answer["says"]
        )


# ---------------------------------------------------------------- what goes wrong on one rank


def dying(tiny_folder, data, output, changes, who) -> None:
    """A run in which the rank `who` is killed inside its third update."""
    collect = loop.accumulate

    def killed(learner, batch, *args, **keywords):
        if batch.index == 2 and rank() == who:
            os.kill(os.getpid(), signal.SIGKILL)
        return collect(learner, batch, *args, **keywords)

    loop.accumulate = killed
    train(tiny_folder, data, output, changes)


def test_a_rank_that_dies_leaves_a_checkpoint(tiny_folder, pairs_file, tmp_path):
    """The survivor names it, saves the step before, and one process goes on from there."""
    left, gone = in_world(
        2, tmp_path / "w", dying, tiny_folder, pairs_file, tmp_path / "run", {}, 1
    )
    assert (
        gone == GONE
        and left["error"] == "PeerLost"
        and left["code"] == 75
        and not left["on_all_ranks"]
    )
    assert (
        "lost rank 1 of 2 (" in left["says"]
        and "Saved" in left["says"]
        and "accord.resume" in left["says"]
    )
    assert checkpoint.load(tmp_path / "run/checkpoints").step == 2
    accord.resume(str(tmp_path / "run"))
    straight = run(tiny_folder, pairs_file, tmp_path / "straight")
    for ours, right in zip(metrics(tmp_path / "run"), metrics(straight), strict=True):
        close(right, ours, 2e-5)


@pytest.mark.parametrize("changes, who", [({}, 0), ({"lora": False}, 1)], ids=["first", "sharded"])
def test_what_the_others_cannot_save(changes, who, tiny_folder, pairs_file, tmp_path):
    """With the first rank gone, or a part of the weights, the newest checkpoint is what there is:
    named, and usable.
    """
    changes = {**changes, "set": {"checkpoint.every": 1}}
    answers = in_world(
        2, tmp_path / "w", dying, tiny_folder, pairs_file, tmp_path / "run", changes, who
    )
    left = answers[1 - who]
    assert answers[who] == GONE and left["error"] == "PeerLost" and not left["on_all_ranks"]
    assert f"lost rank {who} of 2 (" in left["says"] and "The newest checkpoint is" in left["says"]
    assert checkpoint.load(tmp_path / "run/checkpoints").step == 2


def refusing(who) -> None:
    """Rank 1 finds something that the others do not."""
    if who == 1:

        def refuse(*args, **keywords):
            raise Refused("step0.mask: this machine scores other tokens")

        common.prove = refuse


def test_a_refusal_on_one_rank_is_everyones(tiny_folder, pairs_file, tmp_path):
    answers = in_world(
        2, tmp_path / "w", train, tiny_folder, pairs_file, tmp_path / "run", {}, refusing
    )
    assert [a["error"] for a in answers] == ["Refused", "Refused"] and all(
        a["on_all_ranks"] for a in answers
    )
    assert "rank 1 of 2 (" in answers[0]["says"] and "scores other tokens" in answers[0]["says"]
    assert "scores other tokens" in (tmp_path / "run/refused.txt").read_text()


def finding(sharded: bool) -> list:
    """Rank 1 of two refuses what rank 0 finds sound, and warns of something of its own."""
    with join_world() as world:
        mine = [
            Finding("running.update", "refused" if world.rank else "ok", f"rank {world.rank}"),
            Finding("running.frozen", "ok", "as they were"),
        ]
        mine += [Finding("running.moved", "warning", "hardly")] * world.rank
        found = of_all_ranks(replace(world, sharded=sharded), mine)
        return sorted([each.check, each.verdict] for each in found)


def test_what_one_rank_finds_in_its_part_holds_for_all(tmp_path):
    """Otherwise it alone would stop, and the others wait for it in their next pass."""
    both = [["running.frozen", "ok"], ["running.moved", "warning"], ["running.update", "refused"]]
    assert in_world(2, tmp_path / "parts", finding, True) == [both, both]
    first, second = in_world(2, tmp_path / "whole", finding, False)
    assert second == both and first == [["running.frozen", "ok"], ["running.update", "ok"]]


def reading_other_rows(who) -> None:
    if who == 1:
        load = setup_rows.load_rows
        setup_rows.load_rows = lambda config, path, *args: load(
            config, path.replace("pairs", "others"), *args
        )


@pytest.mark.parametrize("changes", [{}, {"lora": False}], ids=["lora", "sharded"])
def test_ranks_that_read_other_rows_are_refused(changes, tiny_folder, pairs_file, tmp_path):
    """Another file of the same name on the second machine; through sharded weights before a pass is
    made of either.
    """
    write_rows(tmp_path / "others.jsonl", pair_rows(24, start=1))
    answers = in_world(
        2,
        tmp_path / "w",
        train,
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        changes,
        reading_other_rows,
    )
    for answer in answers:
        assert answer["error"] == "Refused" and answer["on_all_ranks"]
        assert (
            "rank 1 of 2 (" in answer["says"]
            and "the training data: on the first rank" in answer["says"]
        )


def losing_a_number(who) -> None:
    """On rank 1, the losses of the second update are NaN."""
    lose, rows, updates = loop.accumulate, step.row_losses, {"at": -1}

    def counted(learner, batch, *args, **keywords):
        updates["at"] = batch.index
        return lose(learner, batch, *args, **keywords)

    def broken(*args):
        output = rows(*args)
        if updates["at"] == 1 and who == 1:
            output = replace(output, losses=output.losses * float("nan"))
        return output

    loop.accumulate, step.row_losses = counted, broken


@pytest.mark.parametrize("changes", [{}, {"lora": False}], ids=["lora", "sharded"])
def test_a_nan_on_one_rank_stops_all(changes, tiny_folder, pairs_file, tmp_path):
    """No rank updates; the record has the whole batch, whichever rank computed the row."""
    answers = in_world(
        2,
        tmp_path / "w",
        train,
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        changes,
        losing_a_number,
    )
    assert [a["error"] for a in answers] == ["Diverged", "Diverged"]
    assert checkpoint.load(tmp_path / "run/checkpoints").step == 1
    record = json.loads((tmp_path / "run/diverged.json").read_text())
    assert len(record["rows"]) == 4 and record["statistics"]["loss"]["of"] == 4
    assert 0 < record["statistics"]["loss"]["finite"] < 4


# ------------------------------------------------------- the reference cache, and the real launcher


def test_the_cache_is_filled_once_by_all(tiny_folder, tmp_path):
    """Two ranks share the pass, the first writes it; another run of two reads all of it, one that
    sees half a disk too.
    """
    data = write_rows(tmp_path / "own.jsonl", pair_rows(10, start=700))
    keywords = {"reference": "cached", "epochs": 1, "steps": None}
    computed = []
    for name in ("a", "b"):
        answers = in_world(
            2, tmp_path / f"w{name}", train, tiny_folder, data, tmp_path / name, keywords
        )
        assert all("error" not in a for a in answers), answers
        found = json.loads((tmp_path / name / "preflight.json").read_text())
        computed.append(
            next(f for f in found if f["check"] == "step0.cache")["evidence"]["computed"]
        )
    alone = run(tiny_folder, data, tmp_path / "c", **keywords)
    computed.append(
        next(f for f in alone.findings if f.check == "step0.cache").evidence["computed"]
    )
    assert computed == [10, 0, 0]


def test_torchrun(tiny_folder, pairs_file, tmp_path):
    """The README's command, stopped by a signal to torchrun: one voice, one checkpoint, nothing on
    standard output twice.
    """
    flags = [
        "--model",
        str(tiny_folder),
        "--data",
        pairs_file,
        "--method",
        "simpo",
        "--steps",
        "500",
        "--batch-size",
        "4",
        "--set",
        "model.dtype=float32",
        "--set",
        "model.device=cpu",
        "--output",
        str(tmp_path / "run"),
        "--json",
    ]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "accord",
    ]
    process = subprocess.Popen(
        [*launcher, "train", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("step     5/500"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() != 0, "".join(said)
    assert sum(line.startswith("stopped") for line in said) == 1, "".join(said)
    answer = json.loads(process.stdout.read())
    assert answer["error"] == "Interrupted" and answer["exit"] == 75
    reached = checkpoint.load(tmp_path / "run/checkpoints").step
    assert 5 <= reached < 500 and [line["step"] for line in metrics(tmp_path / "run")] == list(
        range(1, reached + 1)
    )

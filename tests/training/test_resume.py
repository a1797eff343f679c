"""A run that was stopped goes on as if it had not been: the same bytes, the same lines; or it says
why it cannot.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows
from training.helpers import LITTLE_BESIDE, json_lines, run, stopped_after

import accord
from accord.assess.opened import open_model
from accord.environment.digests import file_digest
from accord.errors import AccordWarning
from accord.runs import checkpoint
from accord.runs.folder import RunFolder
from accord.training import file_source, loop
from accord.training.prepared import PreparedRun
from accord.types import CheckpointError, Interrupted, Refused, UsageError

CASES = {
    "lora": {},
    "dropout": {"set": {"model.lora.dropout": 0.3, "checkpoint.every": 2}},
    "all-weights": {"lora": False},
    "kto": {"method": "kto", "set": {"checkpoint.every": 1, "checkpoint.keep": 1}},
    # what the objective keeps goes on as well, also into evaluations
    "bco": {"method": "bco", "steps": 6, "stop": 3, "held_out": True, "set": {"evaluate.every": 2}},
    "cached": {"reference": "cached", "dtype": "bfloat16"},
    "mixture": {"method": "dpo+0.1*sft"},
    "more columns": {"method": "wpo*ld_dpo", "set": {"reference": "cached"}},
    "two-epochs": {"steps": None, "epochs": 2, "batch_size": 5, "method": "ipo", "stop": 6},
    "evaluated": {"held_out": True, "set": {"evaluate.every": 1}},
}


def same(one: Path, other: Path) -> None:
    """The saved model, the optimizer's state and the records are equal byte for byte."""
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    steps = [line["step"] for line in json_lines(other / "metrics.jsonl") if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    kind = "adapter" if (one / "adapter").exists() else "final"
    for file in (one / kind).glob("*.safetensors"):
        assert file.read_bytes() == (other / kind / file.name).read_bytes(), file.name
    newest = checkpoint.pointed_checkpoint(one / "checkpoints", "LATEST").name
    for name in ("tensors.safetensors", "state.json"):
        assert (one / f"checkpoints/{newest}" / name).read_bytes() == (
            other / f"checkpoints/{newest}" / name
        ).read_bytes()


@pytest.fixture(scope="module")
def straight(tiny_folder, tmp_path_factory):
    """Runs that nothing stopped, on the rows that each test has: of the same settings, once."""
    root, made = tmp_path_factory.mktemp("straight"), {}
    data = write_rows(root / "pairs.jsonl", pair_rows(24))
    held_out = write_rows(root / "held_out.jsonl", pair_rows(8, start=100))

    def of(**changes) -> Path:
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            given = {"held_out": held_out} if "held_out" in changes else {}
            made[key] = run(tiny_folder, data, root / str(len(made)), **changes | given).folder
        return made[key]

    return of


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_resumed_equals_uninterrupted(
    changes, straight, tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    changes = {**changes}
    stop = changes.pop("stop", 2)
    whole = straight(**changes)
    if changes.get("held_out"):
        changes["held_out"] = held_out_file
    with stopped_after(monkeypatch, stop), pytest.raises(Interrupted) as stopped:
        run(tiny_folder, pairs_file, tmp_path / "stopped", **changes)
    assert stopped.value.code == 75 and f'accord.resume("{tmp_path / "stopped"}")' in str(
        stopped.value
    )
    result = accord.resume(str(tmp_path / "stopped"))
    assert result.steps == len(
        [line for line in json_lines(whole / "metrics.jsonl") if "loss" in line]
    )
    same(whole, tmp_path / "stopped")


@pytest.mark.parametrize("at", [0, 2, 4], ids=["first", "middle", "last"])
def test_stopped_inside_an_evaluation(
    at, straight, tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    """The evaluation that the signal cut off is made up for, once; so is the best checkpoint that
    follows from it.
    """
    keywords = {"held_out": held_out_file, "set": {"evaluate.every": 2}}
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        evaluate = loop.evaluate

        def stopping(run):
            if run.progress.step == at:
                run.stop.signal = 15
            evaluate(run)

        patch.setattr(loop, "evaluate", stopping)
        run(tiny_folder, pairs_file, tmp_path / "stopped", **keywords)
    result = accord.resume(str(tmp_path / "stopped"))
    assert result.after and result.before
    same(straight(held_out=True, set=keywords["set"]), tmp_path / "stopped")


def test_lines_after_the_checkpoint_are_written_again(tiny_folder, pairs_file, tmp_path):
    """Killed between checkpoints, with half a line in the records: they are cut back to the
    checkpoint.
    """
    keywords = {"set": {"checkpoint.every": 1, "checkpoint.keep": 9}}
    run(tiny_folder, pairs_file, tmp_path / "straight", **keywords)
    killed = run(tiny_folder, pairs_file, tmp_path / "killed", **keywords).folder
    for step in (3, 4):
        (killed / f"checkpoints/step-{step:06d}/tensors.safetensors").unlink()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    accord.resume(str(killed))
    same(tmp_path / "straight", killed)


def test_damaged_newest_is_passed_over_aloud(
    tiny_folder, pairs_file, tmp_path, monkeypatch, capsys
):
    keywords = {"set": {"checkpoint.every": 1}}
    run(tiny_folder, pairs_file, tmp_path / "straight", **keywords)
    with stopped_after(monkeypatch, 3), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "stopped", **keywords)
    (tmp_path / "stopped/checkpoints/step-000003/MANIFEST.json").write_text("")
    passed_over = "checkpoint passed over: step-000003: MANIFEST.json is missing"
    with pytest.warns(AccordWarning, match=passed_over):
        accord.resume(str(tmp_path / "stopped"), verbose=True)
    assert "resumed at step 2 of 4" in capsys.readouterr().err
    same(tmp_path / "straight", tmp_path / "stopped")


def test_all_damaged(tiny_folder, pairs_file, tmp_path):
    folder = run(tiny_folder, pairs_file, tmp_path / "run", steps=1).folder
    (folder / "checkpoints/step-000001/state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no usable checkpoint") as error:
        accord.resume(str(folder))
    assert error.value.code == 6


def every_byte(folder: Path) -> dict:
    """What a folder holds: the bytes and the time of each file, and the time of each folder."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in (folder, *sorted(folder.rglob("*")))
    }


def test_resuming_a_finished_run_changes_nothing(
    tiny_folder, pairs_file, held_out_file, tmp_path, capsys
):
    """Not its card, not its log, not the time of a file. What is recorded is what ran."""
    result = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        held_out=held_out_file,
        steps=None,
        epochs=0.1,
        dtype="auto",
        learning_rate=None,
    )
    before = every_byte(result.folder)
    again = accord.resume(str(result.folder), verbose=True)
    assert every_byte(result.folder) == before
    assert "finished at step 1: there is nothing to do" in capsys.readouterr().err
    assert again.as_dict() == result.as_dict() and result.after
    assert len(again.findings) == len(result.findings) > 5
    config = RunFolder(result.folder).config()
    assert config.train.steps == result.steps and config.train.learning_rate > 0
    assert config.model.dtype in ("float32", "bfloat16") and config.reference == "adapter_off"
    assert config.objective == {"name": "dpo", "beta": 0.1, "label_smoothing": 0.0}
    # half of the card: a kill came before the run's last file was there
    (result.folder / "README.md").unlink()
    assert accord.resume(str(result.folder)).after == result.after
    assert (result.folder / "README.md").is_file()


def test_no_run_there(tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        accord.resume(str(tmp_path))


# ---------------------------------------------------------------- what must be the same


@pytest.fixture(scope="module")
def first_stopped(tiny_folder, tmp_path_factory):
    """A run stopped after its first step, on a copy of the model and on data of its own; and a copy
    of all of that.
    """
    place = tmp_path_factory.mktemp("stopped")
    shutil.copytree(tiny_folder, place / "model")
    data = write_rows(place / "data.jsonl", pair_rows(8))
    held = write_rows(place / "held.jsonl", pair_rows(4, start=50))
    with pytest.MonkeyPatch.context() as patch, stopped_after(patch, 1), pytest.raises(Interrupted):
        run(place / "model", data, place / "run", held_out=held, steps=2)
    return place, shutil.copytree(place, tmp_path_factory.mktemp("as-it-was") / "copy")


@pytest.fixture
def stopped(first_stopped):
    """The same run as it was left, at its own place."""
    place, copy = first_stopped
    shutil.rmtree(place)
    return shutil.copytree(copy, place)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new))


def other_model(root):
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(root / "model")
    network.model.norm.weight.data[0] += 0.01
    network.save_pretrained(root / "model")


CHANGES = {
    "data": (lambda root: write_rows(root / "data.jsonl", pair_rows(9)), ["the training data"]),
    "held-out": (
        lambda root: write_rows(root / "held.jsonl", pair_rows(5, start=50)),
        ["the held-out data"],
    ),
    "model": (other_model, ["the starting model"]),
    "template": (
        lambda root: edit(root / "model/chat_template.jinja", "helpful", "harmless"),
        ["chat template"],
    ),
    "beta": (
        lambda root: edit(root / "run/config.yaml", "beta: 0.1", "beta: 0.3"),
        ["objective.beta", "now 0.3"],
    ),
    "method": (
        lambda root: [
            edit(root / "run/config.yaml", "name: dpo", "name: ipo"),
            edit(root / "run/config.yaml", "  label_smoothing: 0.0\n", ""),
        ],
        ["objective.name: then dpo, now ipo"],
    ),
    "steps": (
        lambda root: edit(root / "run/config.yaml", "steps: 2", "steps: 3"),
        ["train.steps: then 2, now 3"],
    ),
    "rank": (
        lambda root: edit(root / "run/config.yaml", "rank: 16", "rank: 8"),
        ["model.lora.rank"],
    ),
}


@pytest.mark.parametrize("change, words", CHANGES.values(), ids=CHANGES)
def test_resume_refuses_what_has_changed(change, words, stopped):
    change(stopped)
    before = (stopped / "run/metrics.jsonl").read_bytes()
    with pytest.raises(Refused) as refused:
        accord.resume(str(stopped / "run"))
    assert all(word in str(refused.value) for word in words), refused.value
    assert refused.value.code == 4 and (stopped / "run/metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("what", ["objective", "prompts"])
def test_resume_refuses_other_code_and_other_prompts(
    what, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """A checkpoint names a function and a file; what stands in them is part of the run."""
    (tmp_path / "own_loss.py").write_text(
        "def f(policy, reference):\n    return -(policy.chosen.sum - policy.rejected.sum)\n"
    )
    (tmp_path / "prompts.txt").write_text("Where is the cat?\n")
    monkeypatch.syspath_prepend(tmp_path)
    changes = (
        {"method": "own_loss:f"}
        if what == "objective"
        else {"set": {"monitor.prompts": str(tmp_path / "prompts.txt"), "monitor.sample_tokens": 4}}
    )
    with stopped_after(monkeypatch, 1), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run", steps=2, **changes)
    file = tmp_path / ("own_loss.py" if what == "objective" else "prompts.txt")
    file.write_text(file.read_text() + ("\n# another\n" if what == "objective" else "Who is it?\n"))
    with pytest.raises(
        Refused, match="the code of the objective" if what == "objective" else "the sample prompts"
    ):
        accord.resume(str(tmp_path / "run"))


# ---------------------------------------------------------------- the same tokens


def without_tokens(state: dict) -> dict:
    """The identity that accord 0.1 wrote into its checkpoints."""
    return {
        name: value
        for name, value in state.items()
        if not name.endswith("_tokens") and name != "sums"
    }


def test_resume_refuses_a_template_file_that_was_altered_in_place(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Every answer stays as it is and every prompt opens otherwise; the tokens say so as well."""
    file = tmp_path / "own.jinja"
    file.write_text((tiny_folder / "chat_template.jinja").read_text())
    with stopped_after(monkeypatch, 1), pytest.raises(Interrupted):
        run(
            tiny_folder,
            pairs_file,
            tmp_path / "run",
            steps=2,
            held_out=pairs_file,
            allow=["shared_prompts"],
            set={"data.template": str(file)},
        )
    edit(file, "helpful", "harmless")
    with pytest.raises(Refused) as refused:
        accord.resume(str(tmp_path / "run"))
    lines = [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:4]]
    assert lines == [
        "the tokenizer or its chat template",
        "the tokens of the training rows",
        "the tokens of the held-out rows",
    ]


def test_resume_refuses_other_tokens_of_the_same_file_and_tokenizer(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """A library that tokenizes otherwise changes no file: only the digest of the ids tells."""
    with monkeypatch.context() as patch, stopped_after(patch, 1), pytest.raises(Interrupted):
        patch.setattr(file_source, "trees_digest", lambda trees: 64 * "0")
        run(tiny_folder, pairs_file, tmp_path / "run", steps=2)
    with pytest.raises(Refused, match="tokens of the training rows, though file.*transformers"):
        accord.resume(str(tmp_path / "run"))


def test_a_checkpoint_without_a_digest_of_tokens_is_continued_with_a_note(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Checkpoints of accord 0.1 have none; all else is still compared."""
    identity = PreparedRun.identity
    with monkeypatch.context() as patch, stopped_after(patch, 1), pytest.raises(Interrupted):
        patch.setattr(PreparedRun, "identity", lambda run: without_tokens(identity(run)))
        run(tiny_folder, pairs_file, tmp_path / "run", steps=2)
    old = checkpoint.load(tmp_path / "run/checkpoints").state["identity"]
    assert "train_data" in old and "train_tokens" not in old
    with pytest.warns(AccordWarning) as warned:
        assert accord.resume(str(tmp_path / "run")).steps == 2
    said = "\n".join(str(warning.message) for warning in warned)
    assert "before checkpoints recorded a digest of the tokens" in said
    assert "added log-probs in float32; this one adds them in float64" in said
    new = checkpoint.load(tmp_path / "run/checkpoints").state["identity"]
    assert len(new["train_tokens"]) == 64 and new["held_out_tokens"] is None
    recorded = json.loads((tmp_path / "run/data.json").read_text())["train"]["tokens"]["sha256"]
    assert recorded == new["train_tokens"]


def test_a_finished_run_on_another_base_is_not_opened(tiny_folder, tmp_path):
    """Its adapter would be read on weights that it was not trained on."""
    shutil.copytree(tiny_folder, tmp_path / "model")
    run(
        tmp_path / "model",
        write_rows(tmp_path / "data.jsonl", pair_rows(8)),
        tmp_path / "run",
        steps=1,
    )
    # what the machine computes in need not be what the run was trained in
    for dtype in (None, "bfloat16", "float32"):
        open_model(str(tmp_path / "run"), dtype=dtype)
    other_model(tmp_path)
    for dtype in (None, "bfloat16"):
        with pytest.raises(Refused, match="other weights than when"):
            open_model(str(tmp_path / "run"), dtype=dtype)


def test_resume_follows_moved_files(stopped):
    """Another place with the same content is no change; neither is how often checkpoints are
    written.
    """
    (stopped / "data.jsonl").rename(stopped / "moved.jsonl")
    (stopped / "run").rename(stopped / "other")
    with pytest.raises(
        CheckpointError, match="(?s)data.jsonl: no such file.*checkpoints are intact.*data.train"
    ) as error:
        accord.resume(str(stopped / "other"))
    assert error.value.code == 6
    edit(stopped / "other/config.yaml", "data.jsonl", "moved.jsonl")
    edit(stopped / "other/config.yaml", "keep: 2", "keep: 5")
    result = accord.resume(str(stopped / "other"))
    assert result.saved == stopped / "other/adapter" and not (stopped / "run").exists()


# ---------------------------------------------------------------- a real signal


def test_sigterm(tiny_folder, pairs_file, tmp_path):
    """A process asked to stop exits with 75 between two steps; what it saved goes on to the same
    bytes.
    """
    flags = [
        "--model",
        str(tiny_folder),
        "--data",
        pairs_file,
        "--method",
        "simpo",
        "--steps",
        "20",
        "--batch-size",
        "4",
        "--learning-rate",
        "0.001",
        "--set",
        "model.dtype=float32",
        *(word for item in LITTLE_BESIDE.items() for word in ("--set", "{}={}".format(*item))),
        "--output",
        str(tmp_path / "stopped"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "accord", "train", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("step     3/20"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 75, "".join(said)
    assert "stopped by SIGTERM. Saved" in said[-1] and "Traceback" not in "".join(said)
    assert 3 <= checkpoint.load(tmp_path / "stopped/checkpoints").step < 20
    run(tiny_folder, pairs_file, tmp_path / "straight", steps=20, method="simpo")
    accord.resume(str(tmp_path / "stopped"))
    same(tmp_path / "straight", tmp_path / "stopped")


def test_signal_before_the_first_step(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """Nothing to save yet: the folder says why and can be used again."""
    from accord.training.setup import offline

    def stopping(*args, right=offline.make_trainable):
        os.kill(os.getpid(), signal.SIGTERM)
        return right(*args)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(offline, "make_trainable", stopping)
        run(tiny_folder, pairs_file, tmp_path / "run")
    assert "SIGTERM" in (tmp_path / "run/refused.txt").read_text()
    assert run(tiny_folder, pairs_file, tmp_path / "run", steps=1).steps == 1


def test_a_run_keeps_the_reference_that_it_began_with(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Another run fills the shared cache with values that round otherwise: the stopped run takes
    its own.
    """
    from accord.forward import reference

    monkeypatch.setattr(reference, "cache_root", lambda: tmp_path / "cache")
    run(tiny_folder, pairs_file, tmp_path / "straight", reference="cached")
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "stopped", reference="cached")
    (shard,) = (tmp_path / "cache").rglob("*.safetensors")
    name = shard.parent.name
    moved = reference._read_shard(shard, name)
    moved["sums"] = moved["sums"] + 1e-5
    reference._write_shard(shard, shard.with_suffix(".new"), moved, name)
    accord.resume(str(tmp_path / "stopped"))
    same(tmp_path / "straight", tmp_path / "stopped")


def test_a_run_without_a_checkpoint_begins_again(straight, tiny_folder, pairs_file, tmp_path):
    killed = run(tiny_folder, pairs_file, tmp_path / "killed").folder
    shutil.rmtree(killed / "checkpoints")
    accord.resume(str(killed))
    same(straight(), killed)


def test_a_run_of_the_former_version_goes_on(
    straight, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Its config and its checkpoints have the former names of a few keys."""
    folder = tmp_path / "run"
    with stopped_after(monkeypatch, 3), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, folder)
    config = folder / "config.yaml"
    assert "max_grad_norm" in config.read_text()
    config.write_text(config.read_text().replace("max_grad_norm", "clip"))
    for state in folder.glob("checkpoints/*/state.json"):
        text = state.read_text()
        assert "train.max_grad_norm" in text
        state.write_text(text.replace("train.max_grad_norm", "train.clip"))
        manifest = state.with_name("MANIFEST.json")
        written = json.loads(manifest.read_text())
        entry = {"bytes": state.stat().st_size, "sha256": file_digest(state)}
        files = written["files"] | {"state.json": entry}
        manifest.write_text(checkpoint._sealed(written["step"], files))
    accord.resume(str(folder))
    same(straight(), folder)

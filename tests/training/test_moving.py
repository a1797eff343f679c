"""A reference that follows the policy: against the recursion worked out by hand, and what makes no
sense is refused.
"""

import json

import pytest
import torch
from training.helpers import metrics, ready_for, run

import accord
from accord.pages.run import write_report
from accord.runs import checkpoint
from accord.runs.display import SilentDisplay
from accord.runs.folder import RunFolder
from accord.runs.signals import Stop
from accord.training import loop
from accord.training.state import Run
from accord.types import UsageError

MOVING = ["reference=moving", "moving.every=2", "moving.mix=0.25"]
KINDS = {
    "lora": {},
    "dora": {"assignments": [*MOVING, "model.lora.dora=true"]},
    "all-weights": {"lora": False},
    "bfloat16": {"dtype": "bfloat16"},
}


def stepped(ready, tmp_path, steps):
    """The run's loop by hand; yields after each update."""
    (tmp_path / "by-hand").mkdir()
    trained = Run(ready, RunFolder(tmp_path / "by-hand"), SilentDisplay(), Stop())
    for _ in range(steps):
        loop.make_update(trained)
        yield trained.progress.step


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_it_follows_by_the_formula(changes, tiny_folder, pairs_file, tmp_path):
    """After each second update a quarter of the way to the policy's float32 masters; in between it
    stays.
    """
    ready = ready_for(tiny_folder, pairs_file, **{"assignments": MOVING, "steps": 5} | changes)
    reference, masters = ready.learner.reference, ready.optimizer.masters.masters
    expected = {name: master.detach().clone() for name, master in masters.items()}
    assert expected.keys() == reference.copy.masters.keys()
    for step in stepped(ready, tmp_path, 4):
        if step % 2 == 0:
            expected = {
                name: 0.75 * value + 0.25 * masters[name] for name, value in expected.items()
            }
        for name, value in expected.items():
            torch.testing.assert_close(
                reference.copy.masters[name].detach(), value, rtol=1e-6, atol=1e-9
            )
            assert torch.equal(
                reference.copy.working[name], reference.copy.masters[name].to(ready.model.dtype)
            ), name
    assert not any(p.requires_grad for p in reference.copy.working.values())


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "all-weights"])
def test_a_whole_step_makes_it_the_policy(lora, tiny_folder, pairs_file, tmp_path):
    """mix=1: right after a synchronisation the log-ratios are exactly 0 again,
    and were not before.
    """
    changed = ["reference=moving", "moving.every=2", "moving.mix=1.0"]
    ready = ready_for(tiny_folder, pairs_file, lora=lora, assignments=changed, steps=3)
    trees = ready.batch_trees(0)
    apart = []
    for _ in stepped(ready, tmp_path, 2):
        with torch.no_grad():
            apart.append(
                (
                    ready.learner.forward(trees).reduce().sum
                    - ready.learner.reference.logps(trees).sum
                )
                .abs()
                .max()
                .item()
            )
    assert apart[0] > 0 and apart[1] == 0


def test_what_a_moving_reference_is_held_against_is_said(
    tiny_folder, pairs_file, held_out_file, tmp_path
):
    """KL to a copy that follows is no distance from where it began."""
    for reference, words in (
        ("auto", "what training started from"),
        ("moving", "the reference, which follows it"),
    ):
        fields = {"moving.every": 1} if reference == "moving" else {}
        done = run(
            tiny_folder,
            pairs_file,
            tmp_path / reference,
            reference=reference,
            held_out=held_out_file,
            learning_rate=1e-2,
            set=fields,
        )
        assert json.loads((done.folder / "pairs.json").read_text())["against"] == words
        assert f"nats an answer away from {words}" in write_report([str(done.folder)]).read_text()


def test_the_frozen_prefix_is_the_frozen_run(tiny_folder, pairs_file, tmp_path):
    """Until its first synchronisation it is a frozen reference; after it the margins differ."""
    frozen = run(tiny_folder, pairs_file, tmp_path / "frozen", reference="frozen", steps=6)
    moving = run(
        tiny_folder,
        pairs_file,
        tmp_path / "moving",
        reference="moving",
        set={"moving.every": 3},
        steps=6,
    )
    margins = [[line["rewards/margins"] for line in metrics(result)] for result in (frozen, moving)]
    assert margins[0][:3] == margins[1][:3] and margins[0][3:] != margins[1][3:]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_held_out_rows_are_measured_against_where_it_is_now(
    method, tiny_folder, pairs_file, held_out_file, tmp_path
):
    """Copied whole after the third of four updates, nothing kept from the evaluations before."""
    result = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        reference="moving",
        held_out=held_out_file,
        method=method,
        set={"moving.every": 3, "moving.mix": 1.0, "evaluate.every": 1},
    )
    margins = [
        line["eval_rewards/margins"]
        for line in RunFolder(result.folder).metrics()
        if "eval_rewards/margins" in line
    ]
    assert margins[0] == 0 and margins[1] != 0 and margins[2] != 0
    assert margins[3] == 0, "evaluated right after the copy"
    assert margins[4] != 0


def test_it_goes_into_the_checkpoint(tiny_folder, pairs_file, tmp_path):
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", reference="moving", set={"moving.every": 2}
    ).folder
    saved = checkpoint.load(folder / "checkpoints").tensors
    pairs = [
        (saved[f"reference/{name}"], saved[f"master/{name}"])
        for name in (key.partition("/")[2] for key in saved if key.startswith("master/"))
    ]
    assert pairs and all(
        ours.dtype == torch.float32 and not torch.equal(ours, theirs) for ours, theirs in pairs
    )
    assert "moving" in (folder / "README.md").read_text()
    exported = folder / "adapter"
    assert {f.name for f in exported.iterdir() if f.is_dir()} == set(), (
        "the second adapter is no part of the model"
    )


NONSENSE = {
    "options without it": (["moving.every=2"], "moving says how a moving reference follows"),
    "options of another": (["reference=frozen", "moving.mix=0.5"], "reference is frozen"),
    "never moves": (
        ["reference=moving", "moving.every=4"],
        "moving.every = 4, and the run makes 4 updates",
    ),
    "default too rare": (["reference=moving"], "moving.every = 512"),
    "no mix": (["reference=moving", "moving.mix=0.0"], "moving.mix"),
    "more than all": (["reference=moving", "moving.mix=1.5"], "moving.mix"),
    "no reference at all": (["reference=moving", "moving.every=2"], "simpo uses none"),
    "misspelt": (["reference=moving", "moving.evry=2"], "did you mean every"),
}


@pytest.mark.parametrize("assignments, words", NONSENSE.values(), ids=NONSENSE)
def test_what_makes_no_sense_is_refused(assignments, words, tiny_folder, pairs_file):
    changes = {"method": "simpo"} if words.startswith("simpo") else {}
    with pytest.raises(UsageError, match=words):
        ready_for(tiny_folder, pairs_file, assignments=assignments, **changes)


def test_the_defaults_are_written_down(tiny_folder, pairs_file, tmp_path):
    """A checkpoint is compared with the numbers, not with their absence."""
    result = run(
        tiny_folder, pairs_file, tmp_path / "run", reference="moving", set={"moving.every": 2}
    )
    assert RunFolder(result.folder).config().moving.mix == 0.6
    config = result.folder / "config.yaml"
    config.write_text(config.read_text().replace("mix: 0.6", "mix: 0.5"))
    with pytest.raises(accord.types.Refused, match="moving.mix: then 0.6, now 0.5"):
        accord.resume(str(result.folder))

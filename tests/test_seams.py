"""The four seams: a new objective, attention backend, optimizer or check is a row. One of each is
added here, and passes what the shipped ones pass.

CONTRIBUTING.md names the files that each of them touches.
"""

import inspect
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from forward import test_every_path
from forward.tiny import some_trees, tiny
from objectives import rows, test_battery
from oracles.objectives import EXPECTED, Expected, h
from training.helpers import metrics, ready_for, run
from training.test_optim import check_written_update

from accord.engine.optimizer_row import OptimizerRow, restore_tensors
from accord.engine.optimizers import OPTIMIZERS
from accord.forward import logps, scores
from accord.forward.backends import TREE_ATTENTION, Backend
from accord.objectives import OBJECTIVES, resolve
from accord.objectives.objective import Objective
from accord.objectives.options import Number, bounded
from accord.objectives.pairs import _margin, beta_log_ratio
from accord.runs import checkpoint
from accord.types import Finding, LossOutput, Refused
from accord.verify import step0
from accord.verify.certificate import certify
from accord.verify.checks import ALL, ROLLOUTS, WHEN, Check, run_table
from accord.verify.running import AFTER_UPDATE, BEFORE_UPDATE
from accord.verify.table import every_check

# ---------------------------------------------------------------- an objective of pairs


@bounded(beta=Number(above=0))
def least_squares(policy, reference, *, beta: float = 0.2) -> LossOutput:
    """A squared distance of the margin from 1.

        L = (1 - βh)²

    Source: this test, arXiv:0000.00000.
    """
    return LossOutput((1 - beta * _margin(policy, reference)).square())


def least_squares_by_hand(row, options, z0):
    chosen, rejected = row.answers
    off = 1 - options["beta"] * (chosen.ratio - rejected.ratio)
    return off * off, (-2 * options["beta"] * off, 2 * options["beta"] * off)


LEAST_SQUARES = Objective(
    "least_squares",
    least_squares,
    rows="pairs",
    reference=True,
    reward=beta_log_ratio,
    convention=lambda options: f"log-ratios are sums, beta = {options['beta']:g} per nat",
    learning_rate=2e-4,
    source="this test",
    at_reference=lambda options: 1.0,
    closed_form=least_squares_by_hand,
    also_called=("squared_margin",),
)


@pytest.fixture
def objective(monkeypatch):
    """The rows that a new objective of pairs adds: one here, one among the tests."""
    known = Expected(
        lambda xp, chosen, rejected, beta: (1 - beta * h(chosen, rejected)) ** 2,
        {"beta": 0.2},
        ({"beta": 0.05},),
    )
    monkeypatch.setitem(OBJECTIVES, "least_squares", LEAST_SQUARES)
    monkeypatch.setitem(EXPECTED, "least_squares", known)
    return LEAST_SQUARES


def battery(parameter: str) -> dict:
    """The tests that every objective must pass, by name."""
    return {
        name: test
        for name, test in vars(test_battery).items()
        if name.startswith("test_") and set(inspect.signature(test).parameters) == {parameter}
    }


@pytest.mark.parametrize("test", battery("variant"))
def test_a_new_objective_passes_the_battery(test, objective):
    for options in ({}, *EXPECTED["least_squares"].moved):
        battery("variant")[test](("least_squares", options))


@pytest.mark.parametrize("test", battery("name"))
def test_a_new_objective_passes_what_every_name_must(test, objective):
    battery("name")[test]("least_squares")


def test_a_new_objective_is_certified_by_its_closed_form(objective):
    bound = resolve("least_squares")
    finding = certify(bound, lambda p, r, c: bound.losses(p, r, **c).losses)
    assert finding.verdict == "ok" and finding.evidence["against"] == "closed form"
    assert bound.options == EXPECTED["least_squares"].defaults
    assert rows.Case("least_squares").losses().shape == (6,)


def test_a_new_objective_trains(objective, tiny_folder, pairs_file, tmp_path):
    """The proofs of step 0, the gradient by definition among them, and the checks of updates."""
    ready = ready_for(tiny_folder, pairs_file, method="least_squares")
    found = {f.check: f for f in ready.findings if f.check.startswith("step0.")}
    assert "closed form" in found["step0.gradient"].says
    assert not any(f.refused for f in found.values())
    assert metrics(run(tiny_folder, pairs_file, tmp_path / "run", method="least_squares"))


# ---------------------------------------------------------------- an attention backend


def dense(query, key, value, tree, scale, window, softcap):
    """Every token against every other, and a mask: the readable way, and the slowest."""
    tokens = query.shape[2]
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for segment in tree.segments:
        for start, stop in segment.ancestors:
            seen[segment.start : segment.stop, start:stop] = True
        own = slice(segment.start, segment.stop)
        seen[own, own] = torch.ones(len(segment), len(segment), dtype=torch.bool).tril()
    if window is not None:
        apart = tree.positions[:, None] - tree.positions[None, :]
        seen &= apart.cpu() < window
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    weights = query @ key.mT * scale
    weights = softcap * torch.tanh(weights / softcap) if softcap is not None else weights
    return torch.softmax(weights.masked_fill(~seen, float("-inf")), -1) @ value


@pytest.fixture
def backend(monkeypatch):
    row = Backend("dense", "tree path by dense masks", dense, lambda device: None)
    monkeypatch.setitem(TREE_ATTENTION, "dense", row)
    # what a row in the file itself does while it is imported
    monkeypatch.setitem(logps.PATHS, "dense", partial(logps.tree_logps, attention="dense"))
    monkeypatch.setitem(scores.SCORE_PATHS, "dense", partial(scores.tree_scores, attention="dense"))


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
def test_a_new_backend_equals_the_oracle(family, backend):
    """Log-probs, entropies and every gradient; windows and soft caps too."""
    test_every_path.assert_same(tiny(family), some_trees(), torch.float32, paths=("dense",))


def test_every_backend_is_a_path_of_both_kinds_of_model():
    assert set(TREE_ATTENTION) < set(logps.PATHS) and set(TREE_ATTENTION) < set(scores.SCORE_PATHS)


# ---------------------------------------------------------------- an optimizer


def momentum_update(value, state, gradient, moment):
    """Sutskever et al. 2013, as torch writes it: decay is part of the gradient."""
    gradient = gradient + moment.decay * value
    buffer = moment.config.betas[0] * state["momentum_buffer"] + gradient
    return value - moment.rate * buffer, {"momentum_buffer": buffer}


MOMENTUM = OptimizerRow(
    "momentum",
    "SGD with momentum",
    lambda groups, peak, config: torch.optim.SGD(groups, lr=peak, momentum=config.betas[0]),
    ("momentum_buffer",),
    momentum_update,
    restore=restore_tensors,
)


def test_a_new_optimizer_is_its_written_update():
    check_written_update(MOMENTUM)
    assert MOMENTUM.saved_bytes_of((2, 3)) == 8 * 6 and MOMENTUM.training_bytes == 12


def test_a_run_follows_the_written_update_of_its_optimizer(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Twelve updates with momentum in AdamW's place, whose checkpoints hold its own tensors; a
    formula that is another one refuses.
    """
    monkeypatch.setitem(OPTIMIZERS, "adamw", MOMENTUM)
    kept = {"set": {"checkpoint.every": 4}, "steps": 12}
    done = run(tiny_folder, pairs_file, tmp_path / "run", **kept)
    assert len(metrics(done)) == 12
    names = checkpoint.load(done.folder / "checkpoints").tensors
    assert {name.partition("/")[0] for name in names} == {"master", "momentum_buffer"}

    def heavier(value, state, gradient, moment):
        return momentum_update(value, state, 1.5 * gradient, moment)

    monkeypatch.setitem(OPTIMIZERS, "adamw", replace(MOMENTUM, written=heavier))
    with pytest.raises(Refused, match="did not go where SGD with momentum takes it"):
        run(tiny_folder, pairs_file, tmp_path / "wrong", **kept)


# ---------------------------------------------------------------- a check


def finding(name, verdict="ok"):
    return Finding(f"step0.{name}", verdict, name)


def test_rows_are_made_in_order_where_their_needs_are_met():
    def row(name, verdict="ok", **more):
        return Check(name, "step 0", "", lambda about: finding(name, verdict), **more)

    table = (
        row("first"),
        row("of rollouts", needs=frozenset({ROLLOUTS})),
        row("bad", "refused"),
        row("builds on bad", after=("bad",)),
        row("builds on first", after=("first",)),
        row("last", after=ALL),
    )
    names = [f.says for f in run_table(table, None, frozenset())]
    assert names == ["first", "bad", "builds on first"]
    assert "of rollouts" in [f.says for f in run_table(table, None, frozenset({ROLLOUTS}))]


def test_a_new_check_is_made_by_the_set_up(tiny_folder, pairs_file, monkeypatch):
    mine = Check(
        "mine", "step 0", "a row of ours", lambda about: finding("mine", "ok"), after=("mask",)
    )
    monkeypatch.setattr(step0, "STEP0", (*step0.STEP0, mine))
    ready = ready_for(tiny_folder, pairs_file)
    assert [f.check for f in ready.findings if f.check == "step0.mine"] == ["step0.mine"]


def test_every_check_says_what_it_shows():
    assert {check.when for check in every_check()} == set(WHEN)
    for check in every_check():
        assert check.shows and not check.shows.endswith("."), check.name


def test_without_weights_figures_alone_are_checked():
    """`RecordChecks` has nothing that the other checks could compare with."""
    assert all(check.needs for check in BEFORE_UPDATE)
    assert [check.name for check in AFTER_UPDATE if not check.needs] == ["metrics"]


# ---------------------------------------------------------------- what they cost

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
MOST = {"an objective": 5, "an attention backend": 2, "an optimizer": 3, "a check": 2}


@pytest.mark.parametrize("seam", MOST)
def test_the_files_that_a_new_one_touches(seam):
    """As CONTRIBUTING.md lists them: no more than so many."""
    _, _, section = CONTRIBUTING.read_text().partition(f"## Add {seam}\n")
    section = section.partition("\n## ")[0]
    files = re.findall(r"^\| `([^`]+)`", section, re.M)
    assert 1 <= len(files) <= MOST[seam]
    assert all(list(CONTRIBUTING.parent.glob(file)) for file in files)

"""What of a gradient arrives, what follows the policy, what comes back from a file: runs in which
one of them goes wrong.
"""

from dataclasses import replace

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import labelled_rows, ready_for, run, stopped_after
from training.test_invariants import after, records, refused, trees

import accord
from accord.data.order import Order
from accord.engine import moving_reference, optimizer, step
from accord.evaluate import held_out
from accord.objectives import resolve
from accord.rollouts import sample_prompts
from accord.sampling.local import LocalSampler
from accord.types import Interrupted, Refused
from accord.verify.preflight import _untied
from accord.verify.row_checks import slopes_as_closed

# ---------------------------------------------------------------- gradients


def test_slopes_by_hand():
    """h = 1.5, β = 0.1, four rows: ∓0.1 σ(-0.15) / 4 along the chosen and the rejected answer."""
    dpo, slope = resolve("dpo", {"beta": 0.1}), 0.1 / (1 + torch.tensor(0.15).exp().item())

    def along(good, bad):
        table = records(trees())
        table.beside(
            trees(),
            **{"slope/chosen": torch.full((4,), good), "slope/rejected": torch.full((4,), bad)},
        )
        return slopes_as_closed(dpo, trees(), table)

    assert along(-slope / 4, slope / 4) == []
    assert slopes_as_closed(dpo, trees(), records(trees())) == []  # nothing was recorded
    assert "chosen answer of row 0" in along(-slope / 5, slope / 4)[0].says
    assert "rejected answer of row 0" in along(-slope / 4, -slope / 4)[0].says


def one_row_more(running, monkeypatch):
    right = step.denominator
    monkeypatch.setattr(step, "denominator", lambda *given: right(*given) + 1)


def added_twice(running, monkeypatch):
    right = optimizer.Masters.all_reduce

    def twice(self, world):
        right(self, world)
        for grad in self.gradients().values():
            grad.mul_(2)

    monkeypatch.setattr(optimizer.Masters, "all_reduce", twice)


def left_over(running, monkeypatch):
    right = optimizer.Optimizer.update

    def update(self, number, norm):
        kept = {name: grad.clone() for name, grad in self.masters.gradients().items()}
        rate = right(self, number, norm)
        for name, grad in kept.items():
            self.masters.masters[name].grad = grad
        return rate

    monkeypatch.setattr(optimizer.Optimizer, "update", update)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # its own master, and one beside it
@pytest.mark.parametrize(
    ("act", "says"),
    [
        (one_row_more, "a wrong denominator"),
        (added_twice, "2 times that along the same way"),
        (left_over, "another gradient than its backward"),
    ],
)
def test_a_gradient_that_goes_wrong_after_the_first_update(
    act, says, dtype, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    after(monkeypatch, 1, lambda running: act(running, monkeypatch))
    said = refused(tiny_folder, pairs_file, tmp_path / "run", dtype=dtype)
    assert "running.gradient" in said and says in said


def test_a_baseline_of_the_batch_before(tiny_folder, tmp_path, monkeypatch):
    right, kept = step.whole_batch_context, []

    def context(learner, batch, *poll):
        kept.append(right(learner, batch, *poll))
        return kept[-2] if batch.index else kept[-1]

    monkeypatch.setattr(step, "whole_batch_context", context)
    data = write_rows(tmp_path / "rows.jsonl", labelled_rows(pair_rows(24)))
    said = refused(
        tiny_folder, data, tmp_path / "run", method="kto", batch_size=8, learning_rate=0.05
    )
    assert "the baseline of update 1" in said


# ---------------------------------------------------------------- what follows, and what is said


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda right, self, number, policy: None,
            "update 2 the moving reference should be 0.5 parts policy",
        ),
        (
            lambda right, self, number, policy: right(self, 2, policy),
            "update 1 the moving reference should stay",
        ),
    ],
)
def test_a_reference_that_moves_otherwise(
    change, says, lora, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    right = moving_reference.Moving.follow
    monkeypatch.setattr(
        moving_reference.Moving,
        "follow",
        lambda self, number, policy: change(right, self, number, policy),
    )
    settings = {"moving.every": 2, "moving.mix": 0.5}
    assert says in refused(
        tiny_folder, pairs_file, tmp_path / "run", reference="moving", lora=lora, set=settings
    )


def test_samples_of_the_base(tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch):
    right, taking, models = LocalSampler.sample, sample_prompts.draw_samples, []

    def sample(*arguments, **options):
        with models[-1].as_reference():
            return right(*arguments, **options)

    monkeypatch.setattr(LocalSampler, "sample", sample)
    monkeypatch.setattr(
        sample_prompts,
        "draw_samples",
        lambda model, *rest: models.append(model) or taking(model, *rest),
    )
    changes = {
        "learning_rate": 0.02,
        "held_out": held_out_file,
        "set": {"monitor.samples": 2, "monitor.sample_tokens": 6},
    }
    said = refused(tiny_folder, pairs_file, tmp_path / "run", **changes)
    assert "running.samples" in said and "skips what was trained" in said


def test_held_out_figures_that_are_not_those_of_the_rows(
    tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    right = held_out.summarise
    monkeypatch.setattr(
        held_out,
        "summarise",
        lambda rows, *rest: right(rows, *rest) | {"loss": rows["loss"][:-1].mean().item() + 1e-4},
    )
    assert "loss is reported as" in refused(
        tiny_folder, pairs_file, tmp_path / "run", held_out=held_out_file
    )


def test_tied_weights_that_are_two(tiny_folder, pairs_file):
    model = ready_for(tiny_folder, pairs_file, lora=False).model
    assert _untied(model) == ""
    model.network.config.tie_word_embeddings = True
    model.network.lm_head.weight = model.network.get_input_embeddings().weight
    assert _untied(model) == ""
    model.network.lm_head.weight = torch.nn.Parameter(model.network.lm_head.weight.detach().clone())
    assert "two tensors in training" in _untied(model)


# ---------------------------------------------------------------- what comes back


def test_a_resumed_run_whose_state_is_mixed_up(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """Moments under another weight of the same shape: AdamW would go on with them, and so would all
    that is computed from it.
    """
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run")
    right = optimizer.Optimizer.load_state

    def load_state(self, tensors, updates):
        first, other = [
            name for name in self.masters.masters if name.endswith("q_proj.lora_A.default.weight")
        ][:2]
        held = {key: tensors[key] for key in self.shapes()}
        right(self, held | {f"exp_avg/{first}": held[f"exp_avg/{other}"]}, updates)

    monkeypatch.setattr(optimizer.Optimizer, "load_state", load_state)
    with pytest.raises(
        Refused, match=r"1 tensors are not what .*step-000002 has, such as exp_avg/"
    ):
        accord.resume(str(tmp_path / "run"))


def test_a_resumed_run_whose_rows_are_shuffled_otherwise(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run")
    right = Order.batch
    monkeypatch.setattr(
        Order, "batch", lambda self, index: right(replace(self, seed=self.seed + 1), index)
    )
    with pytest.raises(Refused, match="the order of the rows"):
        accord.resume(str(tmp_path / "run"))

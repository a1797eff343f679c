"""Step-0 proofs: silent on a clean run, and each refuses its own sabotage with the cause in
words.
"""

from dataclasses import replace

import pytest
import torch
from training.helpers import ready_for, run

from accord.engine import gradients, step
from accord.forward.choose import choose
from accord.forward.layout import pack
from accord.forward.reference import Frozen
from accord.models.trainable import make_trainable
from accord.objectives import resolve
from accord.training.setup import common, offline
from accord.types import LossOutput, Refused
from accord.verify import preflight, step0

CHECKS = {
    "step0.objective",
    "step0.forward",
    "step0.trainable",
    "step0.mask",
    "step0.deterministic",
    "step0.reference",
    "step0.split_losses",
    "step0.micro_batches",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "dpo"},
        {"method": "kto"},
        {"method": "bco"},
        {"method": "sft"},
        {"method": "dpo", "lora": False},
        {"method": "ipo", "dtype": "bfloat16", "reference": "frozen"},
        {"method": "dpo", "assignments": ["model.lora.dora=true"]},
    ],
    ids=["dpo", "kto", "bco", "sft", "all-weights", "bfloat16-frozen", "dora"],
)
def test_a_clean_run_proves_everything(changes, tiny_folder, pairs_file):
    found = {
        f.check: f
        for f in ready_for(tiny_folder, pairs_file, **changes).findings
        if f.check.startswith("step0")
    }
    expected = CHECKS - ({"step0.reference"} if changes["method"] == "sft" else set())
    assert expected <= found.keys()
    assert all(f.verdict == "ok" for f in found.values()), found


def test_proofs_leave_the_run_as_it_was(tiny_folder, pairs_file, monkeypatch):
    """Weights, moments and gradients are untouched by them."""
    before = {}

    def remember(learner, optimizer, trees, *, prove=step0.prove, **options):
        before.update({name: tensor.clone() for name, tensor in optimizer.state().items()})
        return prove(learner, optimizer, trees, **options)

    monkeypatch.setattr(common, "prove", remember)
    ready = ready_for(tiny_folder, pairs_file)
    after = ready.optimizer.state()
    assert before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )
    assert ready.optimizer.masters.gradients() == {}
    assert not any(module.training for module in ready.model.network.modules())


# ------------------------------------------------------- sabotage, each by the bug that it imitates


def other_objective(patch):
    """`ipo` is configured and `dpo` runs, as in three tools."""
    dpo = resolve("dpo")
    lose = lambda objective, policy, reference, context: dpo.losses(policy, reference)  # noqa: E731
    patch.setattr(step, "row_losses", lose), patch.setattr(preflight, "row_losses", lose)


def flipped_sign(patch):
    def lose(objective, policy, reference, context, right=step.row_losses):
        output = right(objective, policy, reference, context)
        return LossOutput(-output.losses)

    patch.setattr(step, "row_losses", lose), patch.setattr(preflight, "row_losses", lose)


def other_weights(patch):
    """The frozen copy is not of the model that training starts from."""

    def copy_of(policy, right=Frozen.copy_of):
        frozen = right(policy)
        with torch.no_grad():
            frozen.forward.model.network.model.layers[0].mlp.up_proj.weight.mul_(1.01)
        return frozen

    patch.setattr(Frozen, "copy_of", staticmethod(copy_of))


def after_choice(patch, change):
    """Does `change` once the forward path is chosen: before, the choice itself refuses."""

    def choosing(model, probe, wanted):
        chosen = choose(model, probe, wanted)
        change(model)
        return chosen

    patch.setattr(offline, "choose", choosing)


def dropout_in_the_network(patch):
    def drop(model):
        model.trunk.layers[0].register_forward_hook(
            lambda module, args, output: (
                torch.nn.functional.dropout(output, 0.1)
                if torch.is_tensor(output)
                else (torch.nn.functional.dropout(output[0], 0.1), *output[1:])
            )
        )

    after_choice(patch, drop)


def mean_per_micro_batch(patch):
    """Each micro-batch divided by its own rows (TRL #2617)."""

    def accumulate(learner, batch, masters, *, dropout=True):
        records = step.accumulate(learner, batch, masters, dropout=dropout)
        masters.zero_grad()
        for tree in step.shares(batch.trees, learner.micro_tokens, learner.world)[0]:
            step.accumulate(learner, replace(batch, trees=tree), masters, dropout=dropout)
        return records

    patch.setattr(gradients, "accumulate", accumulate)


def batch_in_the_loss(patch):
    """Rows are whitened by the rows that they happen to be computed with."""

    def lose(objective, policy, reference, context, right=step.row_losses):
        output = right(objective, policy, reference, context)
        rows = len(output.losses)
        # 12: the certificate's points pass
        return output if rows == 12 else LossOutput(output.losses / rows)

    patch.setattr(step, "row_losses", lose), patch.setattr(preflight, "row_losses", lose)


def off_by_one(patch):
    """Each answer token is predicted from itself."""

    def shifted(trees, *device):
        layout = pack(trees, *device)
        return replace(layout, source=(layout.source + 1).clamp(max=len(layout.ids) - 1))

    patch.setattr(preflight, "pack", shifted)


def prompt_scored(patch):
    def more(trees, *device):
        layout = pack(trees, *device)
        first = trees[0].prompt[-1]
        return replace(layout, targets=torch.cat([torch.tensor([first]), layout.targets]))

    patch.setattr(preflight, "pack", more)


def nothing_trainable(patch):
    def freeze(config, model):
        weights = make_trainable(config, model)
        model.root.requires_grad_(False)
        return weights

    patch.setattr(offline, "make_trainable", freeze)


def stray_norm(patch):
    """A norm trains beside the adapters: with them off, the reference moves (unsloth-zoo #830)."""

    def also(config, model):
        weights = make_trainable(config, model)
        model.network.model.norm.weight.requires_grad_(True)
        return weights

    patch.setattr(offline, "make_trainable", also)


SABOTAGE = {
    other_objective: ("ipo", None, ["step0.objective", "dpo"]),
    flipped_sign: ("dpo", None, ["step0.objective"]),
    other_weights: (
        "dpo",
        "frozen",
        ["step0.reference", "before the first update", "other weights"],
    ),
    dropout_in_the_network: ("dpo", None, ["step0.deterministic", "dropout"]),
    mean_per_micro_batch: ("dpo", None, ["step0.micro_batches", "wrong denominator"]),
    batch_in_the_loss: ("simpo", None, ["step0.split_losses", "depends on the rows"]),
    off_by_one: ("dpo", None, ["step0.mask"]),
    prompt_scored: ("dpo", None, ["step0.mask"]),
    nothing_trainable: ("dpo", None, ["step0.trainable", "nothing is trainable"]),
    stray_norm: ("dpo", "adapter_off", ["step0.trainable", "norm.weight", "reference would move"]),
}


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda f: f.__name__)
def test_sabotage_is_refused(sabotage, tiny_folder, pairs_file, tmp_path, monkeypatch):
    """Exit code 4, the cause in words, and a folder that says so and holds no weights."""
    method, reference, words = SABOTAGE[sabotage]
    sabotage(monkeypatch)
    with pytest.raises(Refused) as refused:
        run(tiny_folder, pairs_file, tmp_path / "run", method=method, reference=reference)
    assert refused.value.code == 4
    assert all(word in str(refused.value) for word in words), refused.value
    assert words[0] in (tmp_path / "run/refused.txt").read_text()
    assert not (tmp_path / "run/checkpoints").exists()


def test_probe_has_both_labels_and_several_prompts(tiny_folder, pairs_file):
    trees = ready_for(tiny_folder, pairs_file, method="kto").source.rows.trees
    chosen = preflight.probe(trees)
    assert len(chosen) == preflight.PROBE and {t.desirable for t in chosen} == {True, False}
    assert len({t.prompt for t in chosen}) >= 2
    assert preflight.probe(trees[:1]) == trees[:1]

"""The losses that TRL has too, in float32, from the same log-probs: TRL's own code is run on them.

The trainer is replaced by the few attributes that its method reads. Where the two differ a test
says how, and PAPERS.md why.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from objectives.rows import pairs

from accord.objectives import resolve

pytest.importorskip("trl", minversion="1.16", reason="its losses are those of 1.16")

# (S_w, S_l, S_ref_w, S_ref_l, n_w, n_l) of rows, in nats and tokens
ROWS = (
    (-12.0, -11.0, -12.5, -10.0, 4, 5),
    (-7.5, -9.0, -7.0, -9.5, 2, 3),
    (-20.0, -26.0, -22.0, -25.0, 7, 6),
    (-95.0, -60.0, -70.0, -80.0, 30, 21),
)
# TRL's settings -> ours
SAME = {
    "sigmoid": ({"loss_types": ["sigmoid"]}, ("dpo", {})),
    "ipo": ({"loss_types": ["ipo"]}, ("ipo", {})),
    "robust": (
        {"loss_types": ["robust"], "label_smoothing": 0.2},
        ("robust", {"label_smoothing": 0.2}),
    ),
    "exo": ({"loss_types": ["exo_pair"], "label_smoothing": 1e-3}, ("exo", {})),
    "nca": ({"loss_types": ["nca_pair"]}, ("nca", {})),
    "sppo_hard": ({"loss_types": ["sppo_hard"]}, ("sppo_hard", {})),
    "apo_zero": ({"loss_types": ["apo_zero"]}, ("apo_zero", {})),
    "apo_down": ({"loss_types": ["apo_down"]}, ("apo_down", {})),
    "sigmoid_norm": ({"loss_types": ["sigmoid_norm"], "beta": 5.0}, ("dpo_norm", {"beta": 5.0})),
    "forward_kl": ({"f_divergence_type": "forward_kl"}, ("f_dpo", {"divergence": "forward_kl"})),
    "js": ({"f_divergence_type": "js_divergence"}, ("f_dpo", {"divergence": "js"})),
    "alpha": (
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        ("f_dpo", {"divergence": "alpha", "alpha": 0.3}),
    ),
    "with an NLL term": (
        {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        ("rpo", {"alpha": 0.5}),
    ),
}


def by_trl(settings, rows):
    """TRL's loss of a micro-batch, and its gradient for the sums of its answers, chosen first."""
    from trl.trainer.dpo_trainer import DPOTrainer

    counts = torch.tensor([row[4] for row in rows] + [row[5] for row in rows])
    at = torch.tensor([row[0] for row in rows] + [row[1] for row in rows], requires_grad=True)
    inside = torch.arange(int(counts.max())) < counts[:, None]  # [2B, L - 1]
    mask = torch.cat([torch.zeros(len(at), 1, dtype=torch.long), inside.long()], 1)
    nothing = torch.zeros_like(inside, dtype=torch.float32)
    outputs = SimpleNamespace(
        log_probs=(at / counts)[:, None] * inside,
        entropy=nothing,
        mean_logits=nothing,
        is_top1=nothing.bool(),
    )
    fields = {
        "beta": 0.1,
        "loss_types": ["sigmoid"],
        "loss_weights": [1.0],
        "label_smoothing": 0.0,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
    } | settings
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            device="cpu", gather=lambda value: value, gather_for_metrics=lambda value: value
        ),
        precompute_ref_logps=True,
        ld_alpha=None,
        use_weighting=False,
        aux_loss_enabled=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **fields,
    )
    inputs = {
        "input_ids": mask,
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": torch.tensor([row[2] for row in rows]),
        "ref_rejected_logps": torch.tensor([row[3] for row in rows]),
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return loss.item(), torch.autograd.grad(loss, at)[0].tolist()


def by_accord(name, options, rows):
    columns = list(zip(*rows, strict=True))
    at = [torch.tensor(side, requires_grad=True) for side in columns[:2]]
    bound = resolve(name, options)
    reference = pairs(*columns[2:], dtype=torch.float32) if bound.reference else None
    loss = bound.losses(pairs(*at, *columns[4:]), reference).losses.mean()
    return loss.item(), torch.cat(torch.autograd.grad(loss, at)).tolist()


@pytest.mark.parametrize("setting", SAME)
def test_the_same_loss_and_gradient(setting):
    settings, ours = SAME[setting]
    for row in ROWS:
        loss, slopes = by_trl(settings, [row])
        expected, wanted = by_accord(*ours, [row])
        assert loss == pytest.approx(expected, rel=2e-5, abs=2e-6)
        assert slopes == pytest.approx(wanted, rel=2e-5, abs=2e-6)


def test_the_nll_term_of_a_micro_batch_depends_on_its_split():
    """TRL takes the mean over all chosen tokens of the micro-batch, so its loss of two rows is not
    the mean of their losses; ours is.
    """
    settings, ours = SAME["with an NLL term"]
    apart, together = (
        [by_trl(settings, [row])[0] for row in ROWS[:3:2]],
        by_trl(settings, ROWS[:3:2]),
    )
    assert abs(together[0] - sum(apart) / 2) > 0.005
    mine = [by_accord(*ours, [row])[0] for row in ROWS[:3:2]]
    assert by_accord(*ours, ROWS[:3:2])[0] == pytest.approx(sum(mine) / 2, rel=1e-6)


def test_an_answer_that_fell_far_has_no_gradient_there():
    """200 nats under the reference with α = .7 of ours: TRL cuts the exponent at 80 and pulls the
    answer with exactly 0; ours pulls it, by the tangent at 30.
    """
    settings = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3}
    row = (-300.0, -11.0, -100.0, -10.0, 40, 5)
    assert by_trl(settings, [row])[1][0] == 0
    assert by_accord("f_dpo", {"divergence": "alpha", "alpha": 0.7}, [row])[1][0] < -1e10


def test_alphapo_is_what_the_cpo_trainer_calls_alpha():
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    trainer = SimpleNamespace(
        alpha=0.25,
        beta=2.5,
        loss_type="simpo",
        simpo_gamma=0.25,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    for row in ROWS:
        means = [torch.tensor([row[side] / row[4 + side]]) for side in (0, 1)]
        losses, chosen, _ = CPOTrainer.cpo_loss(trainer, *means)
        assert losses.item() == pytest.approx(by_accord("alphapo", {}, [row])[0], rel=2e-5)
        mine = resolve("alphapo").reward(pairs([row[0]], [0.0], [row[4]], [1]).chosen)
        assert chosen.item() == pytest.approx(mine.item(), rel=2e-5)

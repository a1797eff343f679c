"""TRL's own loss code, run on log-probs that a test gives: its trainers' methods, with the few
attributes that each reads in place of a trainer.

A row is (S_w, S_l, S_ref_w, S_ref_l, n_w, n_l), in nats and tokens. Each function returns the loss
of a micro-batch and its gradient for the sums of the answers, chosen answers first.
"""

from collections import defaultdict
from types import SimpleNamespace

import torch

PROMPT = 3  # tokens; the last two of them are predicted
PROMPT_NATS = -1.5  # of each of those
COLLISION = 0.25  # nats, -log Σ p² of each prediction


def accelerator():
    return SimpleNamespace(
        device="cpu", gather=lambda value: value, gather_for_metrics=lambda value: value
    )


def sums_and_counts(rows):
    """Sums [2B], a leaf in float32, and counts [2B], chosen answers first."""
    sums = torch.tensor([row[0] for row in rows] + [row[1] for row in rows], requires_grad=True)
    return sums, torch.tensor([row[4] for row in rows] + [row[5] for row in rows])


def by_tokens(sums, counts):
    """Log-probs by token [N, L] of which each answer's are alike, and which of them count."""
    inside = torch.arange(int(counts.max())) < counts[:, None]
    return (sums / counts)[:, None] * inside, inside


def model_outputs(log_probs):
    nothing = torch.zeros_like(log_probs.detach())
    return SimpleNamespace(
        log_probs=log_probs,
        entropy=nothing,
        mean_logits=nothing,
        is_top1=nothing.bool(),
        log_sum_sq_probs=nothing - COLLISION,
    )


def with_first(inside):
    """Mask [N, L + 1] of the tokens themselves: one of the prompt comes first."""
    return torch.cat([torch.zeros(len(inside), 1, dtype=torch.long), inside.long()], 1)


def common(settings):
    return settings | {
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator(),
        "precompute_ref_logps": True,
        "aux_loss_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }


def dpo_trainer(settings, rows):
    """Run DPOTrainer's loss."""
    from trl.trainer.dpo_trainer import DPOTrainer

    sums, counts = sums_and_counts(rows)
    log_probs, inside = by_tokens(sums, counts)
    mask = with_first(inside)
    fields = {
        "beta": 0.1,
        "loss_types": ["sigmoid"],
        "loss_weights": [1.0],
        "label_smoothing": 0.0,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "ld_alpha": None,
        "use_weighting": False,
    }
    trainer = SimpleNamespace(**common(fields | settings))
    chosen, rejected = (
        [row[2 + side] * kept(row, side, trainer.ld_alpha) for row in rows] for side in (0, 1)
    )
    inputs = {
        "input_ids": mask,
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": torch.tensor(chosen),
        "ref_rejected_logps": torch.tensor(rejected),
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: model_outputs(log_probs), inputs, False)
    return loss.item(), torch.autograd.grad(loss, sums)[0].tolist()


def kept(row, side, alpha):
    """The share of a sum that counts where tokens past the shorter length weigh α."""
    count, shared = row[4 + side], min(row[4:])
    return 1.0 if alpha is None else (shared + alpha * (count - shared)) / count


def kto_trainer(settings, rows, drift):
    """Run KTOTrainer's loss on both answers of each row; what its answers to other prompts gained
    on the reference is `drift` [2B].
    """
    from trl.trainer.kto_trainer import KTOTrainer

    sums, counts = sums_and_counts(rows)
    log_probs, inside = by_tokens(sums, counts)
    mask = with_first(inside)
    fields = {
        "beta": 0.1,
        "loss_type": "kto",
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    } | settings
    trainer = SimpleNamespace(
        **common(fields),
        calculate_KL=fields["loss_type"] == "kto",
        _compute_kl_logps=lambda model, batch: torch.tensor(drift),
    )
    inputs = {
        "input_ids": mask,
        "attention_mask": mask,
        "completion_mask": mask,
        "label": torch.tensor([True] * len(rows) + [False] * len(rows)),
        "ref_logps": torch.tensor([row[2] for row in rows] + [row[3] for row in rows]),
        "ref_KL_logps": torch.zeros(len(drift)),
    }
    loss = KTOTrainer._compute_loss(trainer, lambda **_: model_outputs(log_probs), inputs, False)
    return loss.item(), torch.autograd.grad(loss, sums)[0].tolist()


def reward_trainer(scores, margins, centering):
    """Run RewardTrainer's loss on scores [2B], chosen answers first; the gradient is for them."""
    from trl.trainer.reward_trainer import RewardTrainer

    scores = torch.tensor(scores, requires_grad=True)
    trainer = SimpleNamespace(
        **common({"args": SimpleNamespace(center_rewards_coefficient=centering)})
    )
    inputs = {"attention_mask": torch.ones(1)}
    if margins is not None:
        inputs["margin"] = torch.tensor(margins)
    outputs = SimpleNamespace(logits=scores[:, None])
    loss = RewardTrainer.compute_loss(trainer, lambda **_: outputs, inputs)
    return loss.item(), torch.autograd.grad(loss, scores)[0].tolist()


def cpo_trainer(settings, rows):
    """Run CPOTrainer's loss from the logits on."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    fields = {
        "beta": 0.1,
        "alpha": 0.0,
        "cpo_alpha": 1.0,
        "loss_type": "sigmoid",
        "simpo_gamma": 0.5,
        "label_smoothing": 0.0,
    }
    return _from_logits(CPOTrainer, fields | settings, rows)


def orpo_trainer(settings, rows, prompt=PROMPT):
    """Run ORPOTrainer's loss from the logits on, with a prompt of so many tokens."""
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    return _from_logits(ORPOTrainer, {"beta": 0.1} | settings, rows, prompt)


def _from_logits(kind, fields, rows, prompt=PROMPT):
    """Give the trainer's model logits of two tokens, of which the second is every text's."""
    sums, counts = sums_and_counts(rows)
    answers, inside = by_tokens(sums, counts)
    before = torch.full((len(counts), prompt - 1), PROMPT_NATS)
    wanted = torch.cat([before, torch.where(inside, answers, -1.0)], 1)
    logits = torch.stack([torch.log(-torch.expm1(wanted)), wanted], -1)
    logits = torch.cat([logits, torch.zeros(len(counts), 1, 2)], 1)  # the last predicts nothing
    attended = torch.cat([torch.ones(len(counts), prompt, dtype=torch.long), inside.long()], 1)
    answer = attended.bool() & (torch.arange(attended.shape[1]) >= prompt)
    batch = {}
    for side, at in (("chosen", slice(0, len(rows))), ("rejected", slice(len(rows), None))):
        batch[f"{side}_input_ids"] = attended[at]
        batch[f"{side}_attention_mask"] = attended[at]
        batch[f"{side}_labels"] = torch.where(answer, 1, -100)[at]
    trainer = object.__new__(kind)
    vars(trainer).update(common(fields), is_encoder_decoder=False, pad_token_id=0, padding_value=0)
    loss, _ = trainer.get_batch_loss_metrics(lambda *_, **__: SimpleNamespace(logits=logits), batch)
    return loss.item(), torch.autograd.grad(loss, sums)[0].tolist()

"""Words that pages use for figures and verdicts, each in one place."""

from __future__ import annotations

from accord.runs.display import MARKS

__all__ = ["MARKS", "MEANINGS", "SEVERITY", "short"]

SEVERITY = {"refused": "makes it unfit", "warning": "take care", "note": "to know", "ok": "well"}

MEANINGS = {
    "eval_reward": "reward of the policy's answers",
    "eval_gold": "the gold judgement of the same answers",
    "eval_kl": "KL to the reference, nats an answer",
    "kto's eval_kl": "KTO's baseline z0: KL estimated from answers to other prompts, nats",
    "eval_tokens": "tokens an answer",
    "eval_loss": "loss",
    "eval_rewards/accuracies": "accuracy: chosen has the higher reward",
    "eval_rewards/margins": "margin: reward of chosen over rejected",
    "eval_rewards/chosen": "reward of chosen",
    "eval_rewards/rejected": "reward of rejected",
    "eval_logps/chosen": "log-prob of chosen, nats an answer",
    "eval_logps/rejected": "log-prob of rejected, nats an answer",
    "diag/eval_auc": "AUC: a desirable answer has the higher reward",
    "diag/eval_calibration_error": "calibration error of σ(score of chosen − score of rejected)",
    "diag/eval_brier": "Brier score of the same",
    "diag/eval_score_length": "correlation of score and length",
    "diag/eval_accuracy_shorter": "accuracy where chosen is the shorter",
    "diag/eval_accuracy_longer": "accuracy where chosen is the longer",
}


def short(check: str) -> str:
    """Shorten a check's name: flag.memorised → memorised."""
    return check.removeprefix("flag.")

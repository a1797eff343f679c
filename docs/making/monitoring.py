"""Red flags and metrics in words. The flags are the rules that run; the metrics' meanings stand
here.
"""

from __future__ import annotations

import re

from accord.monitor.watch import RULES
from accord.verify.table import every_check
from making.text import literal, plain, table

KINDS = {"warning": "red flag", "note": "note: looks alarming and is not, or concerns the machine"}
NUMBER = re.compile(r"\{(\w+)[^}]*\}")  # where a rule's text has a figure of the run

# name -> (what it is, what is normal, what is not)
# held-out figures of answers that are described with those of training
OWN = ("reward", "kl", "tokens", "ended", "missing")
METRICS = {
    "loss": (
        "the objective's own loss, mean over the rows of the batch",
        (
            "falls, then flattens. At the first line it has a known value wherever there is a"
            " reference (ln 2 for dpo)"
        ),
        "rises above where it began: the learning rate is too high",
    ),
    "rewards/chosen": (
        (
            "β × log-ratio of chosen answers to the reference (simpo, orpo, cpo: what their loss"
            " compares)"
        ),
        "either sign: a little below 0 with a growing margin is what most healthy runs look like",
        "far below 0: see diag/log_ratio_token/chosen",
    ),
    "rewards/rejected": (
        "the same of rejected answers",
        "falls",
        "rises as fast as that of the chosen answers",
    ),
    "rewards/margins": (
        "reward of the chosen answer less that of the rejected one, mean over pairs",
        "grows, ever slower",
        "flat after half of the run; or growing while the held-out one shrinks",
    ),
    "rewards/accuracies": (
        "share of pairs whose chosen answer has the higher reward; a tie counts half",
        ".5 at the start with a reference, then rising; held out it stays below training",
        "still .5 late in the run; or 1.0 on training rows only",
    ),
    "logps/chosen": (
        "log-prob of chosen answers under the policy, nats an answer",
        "falls a little in DPO and its kin",
        "collapses: the model forgets the answers that it should give",
    ),
    "logps/rejected": ("the same of rejected answers", "falls", "rises while chosen ones fall"),
    "entropy": (
        "mean entropy of the policy's next token over answers, nats a token",
        "drifts down slowly",
        "falls towards 0: one answer is left",
    ),
    "grad_norm": (
        "length of the gradient before clipping",
        "settles after the warm-up",
        "ten times its usual value",
    ),
    "learning_rate": ("of this update", "rises over the warm-up, then falls to 0", "–"),
    "epoch": ("passes over the rows so far", "–", "many passes over few rows"),
    "num_tokens": ("tokens seen so far", "–", "–"),
    "kl": (
        (
            "KTO's baseline z0: KL to the reference, estimated from answers to other prompts, at"
            " least 0"
        ),
        "0 at the start, then small and above 0",
        "0 on nearly every update: all answers are becoming less likely",
    ),
    "delta": (
        "BCO's reward shift: half way between the labels' mean rewards, over the updates before",
        "0 at the first update, then between the rewards of good and of bad answers, behind both",
        "outside of both rewards: they moved together, and the classifier follows late",
    ),
    "nll_loss": (
        "NLL of the chosen answer, the part of orpo and cpo that imitates",
        "falls",
        "rises",
    ),
    "part/sft": (
        "of a mixture such as dpo+0.1*sft, a part's own loss without its weight",
        "falls",
        "one part rises while the others fall: its weight is too small",
    ),
    "log_odds_ratio": (
        "orpo: log σ of the log-odds ratio, 0 where chosen answers have all the odds",
        "rises towards 0",
        "at 0: the preference term is spent",
    ),
    "log_odds_chosen": ("orpo: log-odds of chosen over rejected", "rises", "falls"),
    "diag/file_1/loss": (
        (
            "of several training files, the loss of the first one's rows in the batch; file_2 is"
            " the second, as the config lists them"
        ),
        "falls; files may differ in how low it begins",
        "that of one file stays where it began while the others fall: it teaches something else",
    ),
    "diag/file_1/margins": ("the reward margin of those rows", "grows", "shrinks below 0"),
    "diag/file_1/accuracies": ("their reward accuracy", "rises", "falls below .5"),
    "diag/file_1/rows": (
        "how many rows of the file are in the batch",
        "its share of an epoch (data.mix)",
        "–",
    ),
    "diag/file_1/answer_tokens": ("tokens of their answers", "–", "–"),
    "rollouts/reward": (
        (
            "mean reward of a batch of the policy's own answers; its parts stand under"
            " rollouts/reward/NAME, held out it is eval_reward"
        ),
        "rises, ever slower",
        "rises while the gold judgement falls",
    ),
    "rollouts/reward_std": (
        "spread of those rewards",
        "falls slowly",
        "0: there is nothing to compare",
    ),
    "rollouts/missing": ("share of answers that have no reward", "0", "over a fifth"),
    "rollouts/flat_groups": (
        "share of prompts whose answers all have one reward",
        "under a half",
        "over .7: hardly anything is learned from",
    ),
    "rollouts/redrawn": (
        "dynamic_sampling: further prompts drawn, of each prompt of the batch",
        "falls at first, rises once prompts are solved",
        "stays at the number of rounds: nothing is left to compare",
    ),
    "rollouts/masked": (
        "overlong: mask: share of the answers that were cut, and are not trained on",
        "falls",
        "over a half: the limit is too low",
    ),
    "rollouts/length_penalty": (
        "overlong: soft: mean penalty that was taken off the rewards",
        "falls",
        "near 1: nearly all answers run into the limit",
    ),
    "rollouts/pairs": ("pairs that were made of a batch", "one a prompt, with best_worst", "few"),
    "rollouts/paired_prompts": ("share of prompts of which a pair was made", "near 1", "under .3"),
    "rollouts/kl": (
        (
            "mean log-ratio of the answers to the reference, nats an answer: KL, on the policy's"
            " own answers; held out eval_kl"
        ),
        "grows slowly from 0",
        "over 30",
    ),
    "rollouts/tokens": (
        "mean length of the answers",
        "changes little",
        "grows without end: see the length penalty",
    ),
    "rollouts/ended": (
        "share of answers that end by themselves",
        "as at the start",
        "falls to none",
    ),
    "rollouts/sampler_gap": (
        "how far the sampler's log-probs are from those of the path that trains, nats a token",
        "rounding: .01 in bfloat16",
        "a tenth and more: what is learned from is another policy",
    ),
    "rollouts/sampler_gap_token": (
        "mean difference of the two for a token, nats; the bound is rollouts.max_gap",
        "as rollouts/sampler_gap",
        "grows: older weights, or an adapter that is not applied",
    ),
    "rollouts/sampler_gap_worst": (
        "the largest difference of one token, nats",
        "under 1",
        "a few nats: look at rollouts.correction",
    ),
    "rollouts/sampler_gap_over": (
        "share of tokens that differ by more than rollouts.max_gap",
        "near 0",
        "grows",
    ),
    "rollouts/correction_weight": (
        "with rollouts.correction: mean importance weight of a token",
        "near 1",
        "far from 1: the answers are another policy's",
    ),
    "rollouts/correction_cut": (
        "share of tokens whose weight the correction's bound held, or that it left out",
        "near 0",
        "over a tenth: little is learned from, or by biased weights",
    ),
    "rollouts/staleness": (
        "updates between the weights that drew the answers and those that learn from them",
        "from 0 to num_iterations - 1; with rollouts.ahead more",
        "–",
    ),
    "rollouts/value_explained": (
        (
            "ppo: share of the returns' variance that the value head foresees, 1 − mean (R − V)² /"
            " var R: R², which a bias lowers as well"
        ),
        "rises from 0 or below",
        "stays below 0",
    ),
    "rollouts/beta": (
        "ppo with kl_target: the KL weight for the next batch",
        "settles",
        "grows without end",
    ),
    "policy/clip_ratio": (
        (
            "clip fraction: share of all tokens whose clip binds, on the side that their advantage"
            " asks for, so that they have no gradient (TRL's clip_ratio/region_mean, PPO's"
            " clipfrac)"
        ),
        "0 in a batch's first pass, a few hundredths later",
        "over .4",
    ),
    "policy/approx_kl": (
        (
            "KL of the policy that drew the answers to this one, mean over all tokens of"
            " (ratio − 1) − log ratio (Schulman's k3; TRL's PPO reports ½ (log ratio)²)"
        ),
        "0 in the first pass",
        "over .1",
    ),
    "policy/kl": (
        "where the KL term is in the loss: the term before β, mean over all tokens, nats",
        "grows slowly",
        "over 1",
    ),
    "policy/value_loss": (
        (
            "ppo: loss of the value head, ½ (V − R)² clipped, mean over all tokens, before"
            " value_weight"
        ),
        "falls",
        "rises",
    ),
    "policy/ratio_gap": (
        (
            "mean over all tokens of the size of the log-ratio to the policy that drew the answers,"
            " nats"
        ),
        "0 in the first pass",
        "–",
    ),
    "diag/reward_low": (
        (
            "ends of the 95 % interval of the held-out reward, clustered by prompt; also"
            " reward_high, kl_…, gold_…"
        ),
        "as for accuracy",
        "it does not rise on the same prompts: the report compares them one by one",
    ),
    "repeated": (
        "held out: share of 4-grams in the policy's answers that are repetitions",
        "near 0",
        "a third",
    ),
    "gold": (
        "held out: a second judgement of the same answers, never trained on",
        "rises with the reward",
        "falls while the reward rises",
    ),
    "diag/log_ratio/chosen": (
        "change of an answer's log-prob against the reference, nats an answer; also /rejected",
        "small against the answer's length",
        "see the next",
    ),
    "diag/log_ratio_token/chosen": (
        "the same, nats a token; also /rejected",
        "within a few tenths of 0",
        "chosen answers lose much on most rows: likelihood displacement",
    ),
    "diag/chosen_down": (
        "share of rows whose chosen answer became less likely than under the reference",
        "anything, while the fall is small",
        "nearly all rows, with a large fall",
    ),
    "diag/drift": (
        "mean size of the change, both sides, nats a token: how far the policy has gone",
        "grows with the run",
        "several nats: answers are all but forgotten",
    ),
    "diag/ties": (
        "share of pairs whose margin is no larger than the machine's rounding",
        "1 before the first update, then 0",
        "over half, later: the weights hardly move",
    ),
    "diag/saturated": (
        "share of rows with under a hundredth of their first loss left",
        "rises late",
        "nearly 1: the run is done",
    ),
    "diag/accuracy_low": (
        "ends of the 95 % interval of held-out accuracy, clustered by prompt; also accuracy_high",
        "narrow enough for what you want to conclude",
        "holds .5: no better than chance; wholly under it: sides exchanged or labels inverted",
    ),
    "diag/length_correlation": (
        "rank correlation of held-out margins with how much longer the chosen answer is",
        "near 0",
        "near 1 or −1: length is what was learned",
    ),
    "diag/auc": (
        "labelled rows: chance that a desirable answer has a higher reward than an undesirable one",
        ".5 at the start, then rising",
        "stays at .5",
    ),
    "diag/auc_low": (
        "ends of the 95 % interval of the held-out AUC, clustered by prompt; also auc_high",
        "as for accuracy",
        "holds .5: no better than chance; wholly under it: labels inverted",
    ),
    "diag/samples_tokens": (
        "mean length of the sampled answers",
        "changes little",
        "half as long again, or two thirds",
    ),
    "diag/samples_repeated": (
        "share of 4-grams in samples that are repetitions",
        "near 0",
        "a third",
    ),
    "diag/samples_ended": (
        "share of samples that end by themselves",
        "as before training",
        "falls to nearly none",
    ),
    "diag/samples_empty": ("share of empty samples", "0", "half"),
    "diag/samples_longer": (
        "share of samples longer than at the start",
        "about half",
        "nine in ten",
    ),
    "diag/samples_entropy": (
        "entropy over the sampled answers, nats a token",
        "a little lower than before",
        "a quarter of what it was",
    ),
    "diag/samples_top1": (
        "mean probability of the likeliest token",
        "a little higher than before",
        "near 1",
    ),
    "diag/samples_kl": (
        "KL to the reference on the samples, nats an answer: the price of the reward",
        "grows with training",
        "grows while held-out accuracy does not",
    ),
}


def described(name: str) -> str:
    """The key of METRICS that describes a recorded name: held-out names and the other side share a
    line.
    """
    if (own := name.removeprefix("eval_")) in OWN and own != name:
        return f"rollouts/{own}"
    name = (
        name.replace("diag/eval_", "diag/")
        .removeprefix("eval_")
        .replace("accuracy_high", "accuracy_low")
    )
    name = re.sub(r"^diag/(kl|gold|reward)_(low|high)$", "diag/reward_low", name)
    name = re.sub(r"^diag/auc_(low|high)$", "diag/auc_low", name)
    name = re.sub(r"^diag/file_\d+/", "diag/file_1/", name)
    return name.replace("/rejected", "/chosen") if name.startswith("diag/") else name


def metrics() -> str:
    """A table: name, what it is, normal, alarming."""
    return table(
        ("name", "what it is", "normal", "alarming"),
        [(literal(name), *map(plain, words)) for name, words in METRICS.items()],
    )


def rules() -> str:
    """Every rule of the monitor: condition in its own words, meaning, remedy, source, and what
    silences it.
    """
    return "\n\n".join(map(_rule, RULES))


def _rule(rule) -> str:
    silenced = (
        f"\n- **not said after** {', '.join(map(literal, rule.unless))}" if rule.unless else ""
    )
    acts = {
        "best": "the run ends with its best held-out weights",
        "slower": "the learning rate is halved",
    }
    adapt = f"\n- **`--on-flag adapt`** {acts[rule.adapt]}" if rule.adapt else ""
    return (
        f"### {rule.name}\n\n*{KINDS[rule.verdict]}.* {_shown(rule.says)}\n\n- **means**"
        f" {_shown(rule.means)}\n- **what to do** {_shown(rule.shown or rule.remedy)}\n- **source**"
        f" {plain(rule.source)}{adapt}{silenced}"
    )


def _shown(text: str) -> str:
    """A rule's text with the names of its figures in their places."""
    return NUMBER.sub(r"‹\1›", plain(text).replace("\\_", "_"))


def checks() -> str:
    """List the checks by the moment at which they are made; examinations of several models once."""
    rows: dict[tuple[str, str], tuple[list[str], str]] = {}
    for check in every_check():
        names, _ = rows.setdefault(
            (check.when, check.shows), ([], ", ".join(sorted(check.needs)) or "–")
        )
        names.append(check.name)
    return table(
        ("when", "check", "what it shows", "needs"),
        [
            (when, "; ".join(map(plain, names)), plain(shows), needs)
            for (when, shows), (names, needs) in rows.items()
        ],
    )

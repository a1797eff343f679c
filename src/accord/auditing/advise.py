"""`accord advise`: turn measured figures into a method, its settings and a recipe that runs, or
into "not yet" with the reason.

    audit + model + machine ──▶ method, why, why not the others
        ──▶ settings, each with its reason ──▶ YAML

The rules are tried in the order of CHOICES; the first that holds names the method. Sources are the
papers that `PAPERS.md` lists under each method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from accord.auditing.evidence import length_rule, near_identical, noise_low, noise_value
from accord.auditing.findings import AuditFinding, percent
from accord.auditing.holding import why_not_held
from accord.auditing.lines import first_sentence, full_command
from accord.auditing.machine import Machine
from accord.auditing.run import Audit
from accord.auditing.thresholds import limit
from accord.config.schema import DEFAULT_OBJECTIVE, TrainConfig
from accord.engine.optimizers import OPTIMIZERS
from accord.errors import plural
from accord.models.packing import NF4_BITS
from accord.objectives import OBJECTIVES, BoundObjective, resolve

LIMITS = (512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Reason:
    """A reason: a measured figure, and the source of the conclusion."""

    figure: str
    source: str

    def __str__(self) -> str:
        return f"{self.figure} ({self.source})"


@dataclass(frozen=True)
class Setting:
    """One line of the recipe."""

    path: str  # "objective.beta"
    value: object
    reason: Reason


@dataclass
class Advice:
    """The advice for this data, this model and this machine."""

    ready: bool  # False if the file is unfit
    headline: str = ""  # the audit's verdict, in its words
    # faults to mend before training, the worst first, each with its command if there is one
    first: list[str] = field(default_factory=list)
    size: str = ""  # said of the amount, if it is small: no reason not to train
    method: str = ""
    why: Reason | None = None
    others: dict[str, str] = field(default_factory=dict)  # method -> why not
    settings: list[Setting] = field(default_factory=list)
    estimate: dict = field(default_factory=dict)

    def as_dict(self) -> dict:
        return {
            "ready": self.ready,
            "verdict": self.headline,
            "size": self.size,
            "first": self.first,
            "method": self.method,
            "why": str(self.why or ""),
            "others": self.others,
            "settings": [
                {"path": s.path, "value": s.value, "reason": str(s.reason)} for s in self.settings
            ],
            "estimate": self.estimate,
        }


# ---------------------------------------------------------------- which method


@dataclass(frozen=True)
class Choice:
    """A method, the condition for it, and the figure that supports it."""

    method: str
    when: Callable[[Audit], bool]
    figure: Callable[[Audit], str]
    source: str
    why_not: Callable[[Audit], str | None]  # None: not worth mentioning
    # the recipe's settings of the objective's keywords
    settings: Callable[[Audit], list[Setting]]


# ---------------------------------------------------------------- a method's own settings


def _no_settings(audit: Audit) -> list[Setting]:
    return []


def _beta(audit: Audit) -> list[Setting]:
    """Set β per nat of log-ratio; it is larger if labels are noisy."""
    noisy = noise_low(audit) > limit("noise")
    figure = (
        f"noise at least {percent(noise_low(audit))}: stay near the reference"
        if noisy
        else f"noise at least {percent(noise_low(audit))}"
    )
    return [
        Setting(
            "objective.beta",
            0.3 if noisy else 0.1,
            Reason(figure, "Rafailov et al. 2023: .1 to start; larger stays nearer the reference"),
        )
    ]


def _beta_and_flips(audit: Audit) -> list[Setting]:
    share = round(min(0.4, max(0.01, noise_value(audit))), 2)
    return [
        *_beta(audit),
        Setting(
            "objective.label_smoothing",
            share,
            Reason(
                f"estimated flips {percent(noise_value(audit))}",
                "Mitchell 2023: ε is the share of flips",
            ),
        ),
    ]


def _beta_and_weights(audit: Audit) -> list[Setting]:
    balance = audit.find("kto.balance")
    if not balance or not balance.evidence.get("weight_of"):
        return _beta(audit)
    side, weights = balance.evidence["weight_of"], balance.evidence["weights"]
    return [
        *_beta(audit),
        Setting(
            f"objective.{side}_weight",
            weights[0],
            Reason(
                f"ratio {balance.evidence['ratio']:.2f}",
                f"Ethayarajh et al. 2024, §4.2: {limit('kto_low'):g} to {limit('kto_high'):g}",
            ),
        ),
    ]


def _of_means(audit: Audit) -> list[Setting]:
    return [
        Setting(
            "objective.beta",
            2.0,
            Reason(
                "log-probs are means a token",
                "Meng et al. 2024, arXiv:2405.14734: 2 for Llama-3 base",
            ),
        ),
        Setting(
            "objective.gamma_beta_ratio",
            0.5,
            Reason(
                "log-probs are means a token",
                "Meng et al. 2024, arXiv:2405.14734: γ/β .3 to .8 for base models",
            ),
        ),
    ]


# ---------------------------------------------------------------- which method, and why


CHOICES = (
    Choice(
        "sft",
        lambda a: a.scan.kind == "demonstrations",
        lambda a: f"{plural(len(a.scan), 'answer')} without a comparison or a label",
        "Ouyang et al. 2022, arXiv:2203.02155",
        lambda a: "the rows are preferences; sft would throw the rejected side away",
        settings=_no_settings,
    ),
    Choice(
        "kto",
        lambda a: a.scan.kind == "labelled",
        lambda a: f"{plural(len(a.scan), 'answer')} labelled one by one, none paired",
        "Ethayarajh et al. 2024, arXiv:2402.01306",
        lambda a: "the rows are pairs, and a pair says more than two labels",
        settings=_beta_and_weights,
    ),
    Choice(
        "cdpo",
        lambda a: noise_low(a) > limit("noise"),
        lambda a: (
            f"flipped labels: at least {percent(noise_low(a))}, most likely"
            f" {percent(noise_value(a))}"
        ),
        "Mitchell 2023, ericmitchell.ai/cdpo.pdf",
        lambda a: (
            f"label noise is shown for {percent(noise_low(a))} of rows at least; smoothing pays"
            f" from {percent(limit('noise'))}"
        ),
        settings=_beta_and_flips,
    ),
    Choice(
        "simpo",
        lambda a: length_rule(a) > limit("shortcut"),
        lambda a: f"length alone predicts the chosen answer in {percent(length_rule(a))}",
        "Meng et al. 2024, arXiv:2405.14734",
        lambda a: (
            f"length alone reaches {length_rule(a):.3f}, under {limit('shortcut'):g}; simpo drifts"
            " further from the start than dpo"
        ),
        settings=_of_means,
    ),
    Choice(
        "ipo",
        lambda a: near_identical(a) > limit("near_identical_pairs"),
        lambda a: (
            f"{percent(near_identical(a))} of pairs have nearly identical answers, where dpo's"
            " margin has no end"
        ),
        "Azar et al. 2023, arXiv:2310.12036",
        lambda a: (
            f"{percent(near_identical(a))} of pairs have nearly identical answers, under"
            f" {percent(limit('near_identical_pairs'))}"
        ),
        settings=_beta,
    ),
    Choice(
        "dpo",
        lambda a: True,
        lambda a: (
            f"{plural(len(a.scan), 'pair')}, length rule {length_rule(a):.3f}, noise at least"
            f" {percent(noise_low(a))}: nothing speaks against the default"
        ),
        "Rafailov et al. 2023, arXiv:2305.18290",
        lambda a: "another method has a measured reason",
        settings=_beta,
    ),
    # after the default, so never chosen
    Choice(
        "orpo",
        lambda a: False,
        lambda a: "",
        "Hong et al. 2024, arXiv:2403.07691",
        lambda a: (
            "it is for a base model without SFT; at 125M parameters it lost to dpo (Hong et al."
            " 2024, arXiv:2403.07691)"
            if a.scan.kind != "demonstrations"
            else None
        ),
        settings=_no_settings,
    ),
)


# always fits, so all others are tried first
DEFAULT = next(choice for choice in CHOICES if choice.method == DEFAULT_OBJECTIVE)


def choose_method(audit: Audit) -> tuple[Choice, dict[str, str]]:
    """Choose the method, and say for each other method why not."""
    chosen = next(choice for choice in CHOICES if choice.when(audit))
    others = {
        choice.method: why
        for choice in CHOICES
        if choice is not chosen and (why := _why_not(choice, chosen, audit))
    }
    return chosen, others | why_not_held(audit.scan.kind)


def _why_not(choice: Choice, chosen: Choice, audit: Audit) -> str | None:
    """Explain why a method was not chosen. Its own reason assumes that its condition is unmet; if
    the condition is met, another method merely came first.
    """
    if choice is not DEFAULT and choice.when(audit):
        return (
            f"it would fit as well ({choice.figure(audit)}), but the reason for {chosen.method}"
            " comes first"
        )
    return choice.why_not(audit)


# ---------------------------------------------------------------- settings


def advise(
    audit: Audit,
    machine: Machine,
    *,
    model: str,
    data: str,
    held_out: str | None,
    all_weights: bool = False,
) -> Advice:
    """Advise on a method and its settings, from an audit and a machine.

    Args:
      machine: the machine, with the measured size and speed of the model.
      model, data, held_out: names for the recipe.
    """
    judged = audit.judged
    chosen, others = choose_method(audit)
    why = Reason(chosen.figure(audit), chosen.source)
    advice = Advice(
        judged.word != "unfit",
        judged.headline,
        [_step(cause.finding, audit) for cause in judged.causes],
        "; ".join(first_sentence(finding.says) for finding in judged.sizes),
        chosen.method,
        why,
        others,
    )
    options = chosen.settings(audit)
    objective = resolve(
        chosen.method, {each.path.removeprefix("objective."): each.value for each in options}
    )
    advice.settings = [
        Setting("model.name", model, Reason("as asked", "the command")),
        Setting(
            "data.train",
            data,
            Reason(f"{plural(len(audit.scan), 'row')}, verdict: {judged.words}", "accord audit"),
        ),
        *(
            [Setting("data.held_out", held_out, Reason("as asked", "the command"))]
            if held_out
            else []
        ),
        *_named_columns(audit),
        _max_tokens(audit),
        Setting("objective.name", chosen.method, why),
        *options,
        *_training(audit, machine, objective, all_weights),
    ]
    advice.estimate = _estimate(audit, machine, advice)
    return advice


def _step(finding: AuditFinding, audit: Audit) -> str:
    """Say what to mend, and the command if there is one. A command that only sets what the recipe
    sets anyway is left to the recipe.
    """
    step = f"{finding.title}: {finding.says}"
    if finding.remedy:
        step += f": {finding.remedy}"
    command = finding.command
    if not command or command.startswith(("--method", "--set")):
        return step
    return f"{step}: {full_command(command, audit.scan.name, audit.scan.naming.options())}"


def _named_columns(audit: Audit) -> list[Setting]:
    naming = audit.scan.naming
    named = {
        "columns": dict(naming.names),
        "ignore_columns": list(naming.ignored),
        "format": "" if naming.format == "auto" else naming.format,
    }
    return [
        Setting(f"data.{key}", value, Reason("as asked", "the command"))
        for key, value in named.items()
        if value
    ]


def _max_tokens(audit: Audit) -> Setting:
    lost = audit.find("tokens.lengths")
    table = (
        {int(most): each["rows"] for most, each in lost.evidence["over_limit"].items()}
        if lost
        else {
            int(most): share
            for most, share in audit.always("lengths.characters").evidence["over_limit"].items()
        }
    )
    most = next(
        (most for most, share in sorted(table.items()) if share <= limit("too_long")), LIMITS[-1]
    )
    how = "tokens counted" if lost else "at 4 characters a token"
    return Setting(
        "data.max_tokens",
        most,
        Reason(
            f"{percent(table.get(most, 0.0))} of rows are longer ({how})",
            f"training refuses over {percent(limit('too_long'))}",
        ),
    )


def _training(
    audit: Audit, machine: Machine, objective: BoundObjective, all_weights: bool
) -> list[Setting]:
    row, rows = objective.objective, len(audit.scan)
    few = rows < limit("few_pairs")
    rate = float(f"{objective.suggested_rate(machine.width, not all_weights):.2g}")
    out = [
        Setting(
            "train.batch_size",
            min(row.batch_size, max(2, rows // 4)),
            Reason(plural(rows, "row"), row.batch_reason),
        ),
        Setting(
            "train.epochs",
            1.0,
            Reason(
                plural(rows, "row") + (", few" if few else ""),
                (
                    "a second pass over few pairs is learnt by heart"
                    if few
                    else "Rafailov et al. 2023: one pass"
                ),
            ),
        ),
        Setting(
            "train.learning_rate",
            rate,
            Reason(
                f"{'all weights' if all_weights else 'LoRA'}, hidden size {machine.width:,}",
                "measured at width 576; Adam's rate goes with one over the width, arXiv:2203.03466;"
                " all weights want a tenth of LoRA's",
            ),
        ),
        Setting(
            "train.micro_tokens",
            machine.micro_tokens,
            Reason(
                f"{machine.memory_gb:.0f} GB of memory, {machine.device}",
                "memory against speed; the gradient does not depend on it",
            ),
        ),
    ]
    if all_weights:
        out.insert(0, Setting("model.lora", None, Reason("as asked", "the command")))
    return out if all_weights else [*_quantised(machine), *out]


def _memory_gb(machine: Machine, *, all_weights: bool, quantised: bool) -> float:
    """Estimate the memory of training, in GB: weights, what trains with them, and 2 GB of
    activations and libraries.
    """
    packed = machine.packable if quantised else 0
    trained = OPTIMIZERS[TrainConfig().optimizer].training_bytes if all_weights else 0
    dense = (machine.parameters - packed) * (machine.bytes_per_parameter * 1.2 + trained)
    return (dense + packed * NF4_BITS / 8 * 1.2) / 2**30 + 2.0


def _quantised(machine: Machine) -> list[Setting]:
    """Quantise the base under adapters where the memory is too small for it as it is."""
    plain, packed = (
        _memory_gb(machine, all_weights=False, quantised=quantised) for quantised in (False, True)
    )
    if not packed < machine.memory_gb < plain:
        return []
    figure = f"{plain:.1f} GB as it is, {packed:.1f} in 4 bits, {machine.memory_gb:.1f} GB there"
    return [
        Setting("model.quantize", "nf4", Reason(figure, "Dettmers et al. 2023, arXiv:2305.14314"))
    ]


def _estimate(audit: Audit, machine: Machine, advice: Advice) -> dict:
    """Estimate time and memory of one epoch from the measured speed of a forward pass."""
    characters = float(
        audit.scan.prompt_characters.mean() + audit.scan.features[:, :, 0].sum(1).mean()
    )
    lengths = audit.find("tokens.lengths")
    per_row = (
        sum(values[2] for values in lengths.evidence["tokens"].values())
        if lengths
        else characters / 4
    )
    tokens = per_row * len(audit.scan)
    # forward 1, backward 2, reference forward 1
    passes = 4 if OBJECTIVES[advice.method].reference else 3
    seconds = passes * tokens / machine.forward_tokens_per_second
    paths = {setting.path for setting in advice.settings}
    memory = _memory_gb(
        machine, all_weights="model.lora" in paths, quantised="model.quantize" in paths
    )
    return {
        "tokens_per_row": round(per_row),
        "tokens": round(tokens),
        "minutes": round(seconds / 60, 1),
        "memory_gb": round(memory, 1),
        "forward_tokens_per_second": round(machine.forward_tokens_per_second),
        "how": (
            f"measured: a forward pass of {machine.probe_tokens} tokens on {machine.device};"
            f" {passes} such passes a row; memory is a rough sum"
        ),
    }

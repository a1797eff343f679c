"""Bounds of settings, in words: the effect of a value far from those of papers and defaults.

A setting that is off by orders trains without an error, and the run's figures then look like noisy
labels or a weak model. An unusual value is reported with its effect. One that leaves nothing to
learn is refused, or permitted by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from accord.config.schema import (
    CheckpointConfig,
    Config,
    EvaluateConfig,
    MonitorConfig,
    TrainConfig,
)
from accord.engine.optimizers import optimizer_of
from accord.errors import plural
from accord.objectives import BoundObjective
from accord.types import Finding

PERMISSION = "unusual_settings"
# times the method's own value: papers' β of 0.01 to 0.5 are within 10 of DPO's 0.1
BETA_UNUSUAL, BETA_ABSURD = 20.0, 1e4
# times the suggested rate; grids of learning rates span three orders at most
RATE_UNUSUAL = 100.0
MOVED = 1e-7  # rate × steps: AdamW and Adafactor move no weight much further than that in all
CLIP_UNUSUAL = 0.01
# alpha / rank: 32 / 512 and 32 / 1 are within what papers tried (Schulman 2025, "LoRA Without
# Regret")
SCALES, SCALES_ABSURD = (0.03, 64.0), (1e-4, 1e4)
DECAY_UNUSUAL = 1.0  # papers take 0 to 0.1
WEIGHT_UNUSUAL = 50.0  # times an option's own value; ORPO's weight is tried from 0.1 to 1
RATIO_UNUSUAL = 10.0  # SimPO's γ / β: its paper tries 0.3 to 1.6
CENTERING_UNUSUAL = 1.0  # of reward models; Llama 2's authors take 0.01
MEMORIES = ((0.0, 0.98), (0.5, 0.99999))  # AdamW's betas; papers take 0.9 and 0.95 to 0.999
DROPOUT_UNUSUAL = 0.5


@dataclass(frozen=True)
class Planned:
    """The figures of a run that its settings are held against."""

    rows: int  # rows, or prompts
    steps: int
    peak: float  # learning rate
    suggested: float  # the method's own, for this model
    trained: int  # weights
    width: int  # of the model's hidden state


Said = tuple[str, str, str, str]  # check, verdict, what is said, remedy


def setting_findings(config: Config, objective: BoundObjective, run: Planned) -> list[Finding]:
    """Report each setting that is far from the usual; one finding says so if none is."""
    said = [
        *_options(objective),
        *_rate(config.train, run),
        *_clip(config.train, run),
        *_decay(config.train, run),
        *_memories(config.train),
        *_warmup(config.train, run),
        *_adapters(config, run),
        *_rows(config, run),
        *_intervals(config, run),
        *_rollouts(config),
    ]
    allowed = PERMISSION in config.allow
    found = []
    for check, verdict, says, remedy in said:
        if verdict == "refused" and allowed:
            verdict, says = "warning", f"{says}; permitted by {PERMISSION}"
        elif verdict == "refused":
            remedy = f"{remedy}; or, if you mean it: --allow {PERMISSION}"
        found.append(Finding(f"settings.{check}", verdict, says, {}, remedy))
    if found:
        return found
    return [Finding("settings", "ok", "no setting is far from the usual")]


def _options(objective: BoundObjective) -> Iterator[Said]:
    """Report options of the objective, or of each of its parts, under their paths."""
    for part in objective.parts:
        path = "objective." if part is objective else f"objective.{part.name}."
        for check, verdict, says, remedy in (*_beta(part), *_weights(part)):
            yield check, verdict, says, remedy.replace("objective.", path)


def _beta(objective: BoundObjective) -> Iterator[Said]:
    beta = objective.options.get("beta")
    usual = objective.objective.schema.get("beta", {}).get("default")
    if not isinstance(beta, float) or ":" in objective.name:
        return  # of a custom objective nothing is known
    name = objective.name
    if not isinstance(usual, (int, float)) or not usual:
        if beta > 1:
            says = f"beta = {beta:g}: the KL term outweighs the rewards; papers use 0 to 0.1"
            yield "beta", "warning", says, "--set objective.beta=0.05"
        return
    times = beta / usual
    if 1 / BETA_UNUSUAL <= times <= BETA_UNUSUAL or beta == 0:
        return
    absurd = not 1 / BETA_ABSURD < times < BETA_ABSURD
    compared = (
        f"{times:,.0f} times {name}'s own {usual:g}"
        if times > 1
        else f"{1 / times:,.0f} times smaller than {name}'s own {usual:g}"
    )
    means = (
        f"log-ratios beyond about {1 / beta:.2g} nats no longer count, so the policy "
        + ("hardly leaves the reference" if times > 1 else "is held near it by next to nothing")
        if objective.reference
        else f"the term that it weighs {'drowns the others' if times > 1 else 'all but vanishes'}"
    )
    says = f"beta = {beta:g} is {compared}: {means}"
    yield "beta", "refused" if absurd else "warning", says, f"--set objective.beta={usual:g}"


def _weights(objective: BoundObjective) -> Iterator[Said]:
    """Report weights of terms that are far from their own values; β has bounds of its own."""
    if ":" in objective.name:
        return
    options = objective.options
    for name, field in objective.objective.schema.items():
        usual, value = field.get("default"), options.get(name)
        if (
            name == "beta"
            or not _is_number(usual)
            or not _is_number(value)
            or not usual
            or not value
            # a share, of which either end is a choice
            or "at most 1" in field["accepts"]
        ):
            continue
        times = value / usual
        if not 1 / WEIGHT_UNUSUAL <= times <= WEIGHT_UNUSUAL:
            compared = f"{max(times, 1 / times):,.0f} times {'larger' if times > 1 else 'smaller'}"
            effect = "drowns the others" if times > 1 else "all but vanishes"
            says = f"{name} = {value:g} is {compared} than {usual:g}: its term {effect}"
            yield name, "warning", says, f"--set objective.{name}={usual:g}"
    beta, gamma = options.get("beta"), options.get("gamma")
    ratio = gamma / beta if gamma and beta else options.get("gamma_beta_ratio") or 0.0
    if ratio > RATIO_UNUSUAL:
        says = (
            f"gamma / beta = {ratio:g} nats a token is the margin that every pair is pushed to;"
            " papers use 0.3 to 1.6, and no pair reaches this one"
        )
        yield "gamma", "warning", says, "--set objective.gamma_beta_ratio=0.5"
    if (centering := options.get("centering") or 0.0) > CENTERING_UNUSUAL:
        says = f"centering = {centering:g}: pulling scores to 0 outweighs ranking (papers: 0.01)"
        yield "centering", "warning", says, "--set objective.centering=0.01"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _memories(train: TrainConfig) -> Iterator[Said]:
    """Report memories of AdamW under which its steps are not those that learning rates are for."""
    if train.betas is None:
        return
    for name, value, (least, most) in zip(("first", "second"), train.betas, MEMORIES, strict=True):
        if not least <= value <= most:
            effect = "remembers next to nothing" if value < least else "hardly ever forgets"
            says = (
                f"betas = {train.betas[0]:g}, {train.betas[1]:g}: AdamW's {name} moment {effect};"
                " papers use 0.9 and 0.95 to 0.999"
            )
            yield "betas", "warning", says, "--set train.betas=[0.9,0.999]"


def _rate(train: TrainConfig, run: Planned) -> Iterator[Said]:
    optimizer = optimizer_of(train)
    if not optimizer.moves_by_rate:
        return  # how far a weight moves depends on its gradients, and no rate is suggested
    remedy = f"--learning-rate {run.suggested:.1g}"
    if run.peak * run.steps < MOVED:
        says = (
            f"learning rate {run.peak:g} over {run.steps:,} steps: {optimizer.title} moves no"
            " weight by more"
            f" than about {run.peak * run.steps:.1g} in all, so nothing is learned"
        )
        yield "learning_rate", "refused", says, remedy
        return
    times = run.peak / run.suggested
    if times > RATE_UNUSUAL:
        says = (
            f"learning rate {run.peak:g} is {times:,.0f} times the {run.suggested:.1g} to start"
            " from: expect the policy to leave the language that it was taught, or to diverge"
        )
        yield "learning_rate", "warning", says, remedy
    elif times < 1 / RATE_UNUSUAL:
        says = (
            f"learning rate {run.peak:g} is {1 / times:,.0f} times smaller than the"
            f" {run.suggested:.1g} to start from: expect figures that hardly move"
        )
        yield "learning_rate", "warning", says, remedy


def _clip(train: TrainConfig, run: Planned) -> Iterator[Said]:
    clip = train.max_grad_norm
    if clip is None or not run.trained:
        return
    each = clip / math.sqrt(run.trained)
    remedy = f"--set train.max_grad_norm={TrainConfig().max_grad_norm:g}"
    epsilon = optimizer_of(train).epsilon
    if epsilon is not None and each < epsilon / 10:
        says = (
            f"max_grad_norm = {clip:g}: every gradient is cut to about {each:.0e} a weight, far"
            f" under AdamW's epsilon of {epsilon:g}, so the updates all but vanish"
        )
        yield "max_grad_norm", "refused", says, remedy
    elif clip < CLIP_UNUSUAL:
        says = (
            f"max_grad_norm = {clip:g}: nearly every gradient is cut, so only its direction"
            " counts; papers use 0.1 to 10"
        )
        yield "max_grad_norm", "warning", says, remedy


def _decay(train: TrainConfig, run: Planned) -> Iterator[Said]:
    decay = train.weight_decay
    shrunk = run.peak * decay
    if shrunk >= 1:
        says = (
            f"weight_decay = {decay:g} at learning rate {run.peak:g}: one update takes away"
            f" {min(shrunk, 9.99):.0%} of every matrix, so no weight survives"
        )
        yield "weight_decay", "refused", says, "--set train.weight_decay=0.01"
    elif decay > DECAY_UNUSUAL:
        lost = -math.expm1(-shrunk * run.steps / 2)
        says = (
            f"weight_decay = {decay:g}: decay alone shrinks what trains by about {lost:.0%} over"
            " this run; papers use 0 to 0.1"
        )
        yield "weight_decay", "warning", says, "--set train.weight_decay=0.01"


def _warmup(train: TrainConfig, run: Planned) -> Iterator[Said]:
    rising = train.warmup if train.warmup >= 1 else 0
    if rising <= 1 or rising < run.steps:
        return
    # the schedule rises over the run's own steps where the warm-up is longer
    says = (
        f"warmup = {rising:g} steps, and the run has {run.steps:,}: the learning rate rises to the"
        f" last step, and the schedule ({train.schedule}) that follows a warm-up never begins"
    )
    yield "warmup", "warning", says, f"--set train.warmup={TrainConfig().warmup:g}"


def _adapters(config: Config, run: Planned) -> Iterator[Said]:
    lora = config.model.lora
    if lora is None or config.model.adapter is not None:
        return  # an adapter that is gone on from brings its own
    scale = lora.alpha / lora.rank
    if not SCALES[0] <= scale <= SCALES[1]:
        absurd = not SCALES_ABSURD[0] <= scale <= SCALES_ABSURD[1]
        effect = "hardly reaches the output" if scale < 1 else "is blown up: expect it to diverge"
        says = (
            f"lora.alpha / rank = {lora.alpha:g} / {lora.rank} = {scale:.2g}: what the adapters"
            f" learn {effect}; papers use 0.06 to 32"
        )
        remedy = f"--set model.lora.alpha={2 * lora.rank}"
        yield "lora", "refused" if absurd else "warning", says, remedy
    if lora.rank > run.width:
        says = (
            f"lora.rank = {lora.rank} is above the model's width of {run.width}: no update has a"
            " higher rank than that, so the rest is memory for nothing"
        )
        yield "lora", "warning", says, f"--set model.lora.rank={min(16, run.width)}"
    if lora.dropout > DROPOUT_UNUSUAL:
        says = f"lora.dropout = {lora.dropout:g}: most of what the adapters read is dropped"
        yield "lora", "warning", says, "--set model.lora.dropout=0.05"


def _rows(config: Config, run: Planned) -> Iterator[Said]:
    asked = config.train.batch_size
    if asked <= run.rows:
        return
    what = "prompts" if config.rollouts is not None else "rows"
    says = (
        f"batch_size = {asked:,}, and there are {run.rows:,} {what}: every batch is all"
        f" {run.rows:,} of them"
    )
    chosen = asked != TrainConfig().batch_size
    remedy = f"--batch-size {max(1, run.rows // 4)} for several updates in one pass"
    yield "batch_size", "warning" if chosen else "note", says, remedy


def _intervals(config: Config, run: Planned) -> Iterator[Said]:
    """Report an interval that was chosen and never comes up."""
    chosen = (
        (
            "evaluate.every",
            config.evaluate.every,
            EvaluateConfig().every,
            "held-out rows are evaluated before the first and after the last one alone",
        ),
        (
            "checkpoint.every",
            config.checkpoint.every,
            CheckpointConfig().every,
            "the only checkpoint is the one after the last: a kill loses the run",
        ),
        (
            "monitor.sample_every",
            config.monitor.sample_every,
            MonitorConfig().sample_every,
            "prompts are answered before the first and after the last one alone",
        ),
    )
    for path, every, usual, effect in chosen:
        if every > run.steps and every != usual:
            says = f"{path} = {every:,}, and the run has {plural(run.steps, 'step')}: {effect}"
            remedy = f"--set {path}={max(1, run.steps // 4)}"
            yield path.replace(".", "_"), "note", says, remedy


def _rollouts(config: Config) -> Iterator[Said]:
    drawn = config.rollouts
    if drawn is None:
        return
    if not 0.3 <= drawn.temperature <= 2:
        effect = "nearly the same answer" if drawn.temperature < 1 else "nearly random tokens"
        says = f"rollouts.temperature = {drawn.temperature:g}: draws give {effect} each time"
        yield "rollouts", "warning", says, "--set rollouts.temperature=1"
    if drawn.max_new_tokens < 4:
        says = (
            f"rollouts.max_new_tokens = {drawn.max_new_tokens}: answers are cut before they say"
            " anything"
        )
        yield "rollouts", "warning", says, "--set rollouts.max_new_tokens=48"
    if (drawn.ahead + 1) * drawn.num_iterations > 16:
        ahead = f" and rollouts.ahead = {drawn.ahead}" if drawn.ahead else ""
        says = (
            f"rollouts.num_iterations = {drawn.num_iterations}{ahead}: updates are made on"
            " answers of a policy that is long gone; papers use 1 to 4"
        )
        remedy = "num_iterations" if drawn.num_iterations > 1 else "ahead"
        yield "rollouts", "warning", says, f"--set rollouts.{remedy}=1"

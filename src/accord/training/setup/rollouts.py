"""The set-up of a run with a section `rollouts`, from its config to a run that is ready: prompts
take the place of rows.

    objective ─▶ model ─▶ prompts ─▶ forward path ─▶ reference ─▶ rewards ─▶ first answers
        ─▶ proofs of step 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from accord.auditing.run_rows import foreign_marks_of_prompts
from accord.config.schema import Config
from accord.data.order import Order
from accord.data.templates import Template, template_of
from accord.data.tokenizer_digest import tokenizer_digest
from accord.distributed.world import ALONE, World
from accord.engine.memory import fit_into_memory
from accord.engine.moving_reference import require_movement
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext
from accord.forward.choose import choose
from accord.models.language import LanguageModel
from accord.models.model_checks import halved, model_findings
from accord.models.trainable import make_trainable
from accord.objectives import BoundObjective
from accord.objectives.configured import resolve_objective
from accord.objectives.corrections import CORRECTIONS
from accord.objectives.policy_table import BoundPolicy
from accord.rollouts.prompts import PromptSet, load_prompts, prompt_findings
from accord.rollouts.sample_prompts import choose_sample_prompts
from accord.rollouts.source import RolloutSource
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.identity import require_one_run
from accord.runs.ranks import share_findings
from accord.runs.signals import Stop
from accord.sampling.local import LocalSampler
from accord.training.prepared import PreparedRun
from accord.training.setup.common import (
    NEIGHBOURS,
    adapter_findings,
    load_model,
    measure_ties,
    micro_budget,
    prove_rows,
    require_accepted,
    settings_of,
    suggested_rate,
)
from accord.training.setup.placing import rewards_of
from accord.training.setup.references import choose_reference, live_reference
from accord.training.setup.sampler import choose_sampler
from accord.types import DataError, Finding, Refused, Tree, UsageError
from accord.verify.row_lengths import growth_finding
from accord.verify.step0 import prove_sampled

# prompts whose answers the forward path is tried on, and tokens of each answer
PROBED, PROBE_TOKENS = 4, 16
NAMED = "learns from the policy's own answers"
# Fields about rows with answers; prompts have none.
OF_ROWS = (
    "data.format",
    "data.long_prompts",
    "data.long_answers",
    "data.max_too_long",
    "train.pair_labels",
)


def prepare_rollouts(
    config: Config,
    display: Display,
    stop: Stop,
    *,
    folder: RunFolder | None = None,
    account_rows: bool = True,
    dry_run: bool = False,
    world: World = ALONE,
) -> PreparedRun:
    """Prepare a run with prompts in place of rows; otherwise like `prepare_offline`. See `prepare`.

    A dry run keeps no batch of answers.
    """
    objective = resolve_objective(config)
    _require(config, objective)
    model = load_model(config, display, stop, world)
    template = template_of(config, model.tokenizer, model.stop_ids)
    prompts, held_out = world.agree(lambda: _prompts(config, template, model, display))
    sides = {"train_data": prompts, "held_out_data": held_out}
    digests = {name: s.dataset.digest if s is not None else None for name, s in sides.items()}
    require_one_run(world, digests)  # before any answer is paid for
    if folder is not None and account_rows:
        folder.write_data(
            {"train": prompts.record()}
            | ({"held_out": held_out.record()} if held_out is not None else {})
        )
    found = prompt_findings(config, prompts, held_out)
    for name, side in {"training prompts": prompts, "held-out prompts": held_out}.items():
        if side is not None:
            allowed = "foreign_marks" in config.allow
            found.append(foreign_marks_of_prompts(side.asked.questions, name, allowed=allowed))
    require_accepted(found, DataError)
    found += _model_findings(config, model, prompts, held_out)
    require_accepted(found, Refused)
    weights = make_trainable(config, model)
    found += adapter_findings(config, model, halved(prompts.trees))
    if isinstance(objective, BoundPolicy) and objective.critic:
        model.add_critic()
    display.phase("forward", "comparing the forward path with the model's own log-probs")
    forward = choose(model, _answered(model, prompts), config.model.forward)
    order, steps = _plan(config, len(prompts))
    kind, why = _reference(config, objective, model)
    require_movement(config.moving, steps, sharded=False)
    found.append(Finding("reference", "ok", why))
    learner = UpdateContext(
        forward,
        objective,
        live_reference(kind, forward, config.moving),
        micro_budget(config, display),
        config.train.seed,
        world,
    )
    peak = config.train.learning_rate or suggested_rate(objective, model)
    found += settings_of(config, objective, model, rows=len(prompts), steps=steps, peak=peak)
    optimizer = Optimizer(model.trainable(), config.train, peak, steps)
    asked = choose_sample_prompts(config, template, held_out, model.positions)
    reward, gold, placed = world.agree(lambda: rewards_of(config, world, model.device))
    found += placed
    place = None if dry_run or folder is None else folder.path
    sampler, said = choose_sampler(
        config, learner.forward, optimizer, prompts, world, display, place
    )
    found += said
    source = RolloutSource(
        config,
        prompts,
        order,
        reward,
        gold,
        learner,
        sampler,
        display,
        stop,
        place,
        held_out,
        -(-steps // config.rollout_settings.num_iterations),
    )
    width, proofs = _prove(config, learner, optimizer, kind, source, display)
    found += share_findings(world, source.batch(0), order.batch_size)
    memory = fit_into_memory(config.train, learner, optimizer, source.largest(steps))
    ready = PreparedRun(
        config,
        model,
        template,
        source,
        steps,
        peak,
        learner,
        optimizer,
        kind,
        weights,
        tokenizer_digest(model.tokenizer),
        (*found, *proofs, memory),
        width,
        tuple(asked),
    )
    require_accepted(ready.findings, Refused)
    require_one_run(world, ready.identity())
    return ready


def _require(config: Config, objective: BoundObjective) -> None:
    """Check the settings that rollouts need.

    Raises:
      UsageError: a setting would do nothing here, or is impossible.
    """
    policy = isinstance(objective, BoundPolicy)
    settings = config.rollout_settings
    wrong = {
        "rollouts.temperature": (
            policy
            and settings.temperature != 1
            and "a policy gradient is one of answers drawn at temperature 1"
        ),
        "rollouts.pairing": (
            policy and settings.pairing != "best_worst" and "a policy gradient makes no pairs"
        ),
        "rollouts.margin": policy and settings.margin != 0 and "a policy gradient makes no pairs",
        "rollouts.num_iterations": (
            isinstance(objective, BoundPolicy)
            and not objective.uses_ratios
            and settings.num_iterations > 1
            and "without ratios a second pass is off-policy"
        ),
        "rollouts.dynamic_sampling": (
            isinstance(objective, BoundPolicy)
            and not objective.compares
            and settings.dynamic_sampling > 0
            and "answers to one prompt are not compared, so equal rewards teach too"
        ),
        "rollouts.overlong": (
            settings.overlong == "value"
            and not (isinstance(objective, BoundPolicy) and objective.critic)
            and "there is no value head to ask behind a cut (ppo has one)"
        ),
        "rollouts.overlong_buffer": (
            settings.overlong_buffer is not None
            and (
                (settings.overlong != "soft" and "it is of rollouts.overlong: soft")
                or (
                    settings.overlong_buffer > settings.max_new_tokens
                    and f"it is longer than rollouts.max_new_tokens = {settings.max_new_tokens}"
                )
            )
        ),
        **_off_policy(config, objective),
        "rollouts.gold": (
            bool(settings.gold)
            and config.data.held_out is None
            and "it judges held-out answers, and data.held_out is not given"
        ),
        "rollouts.num_generations_eval": (
            config.data.held_out is None
            and is_set(config, "rollouts.num_generations_eval")
            and "data.held_out is not given"
        ),
        "rollouts.gold_options": (
            bool(settings.gold_options)
            and not settings.gold
            and "there is no second judgement: rollouts.gold is empty"
        ),
        "train.parallel": (
            config.train.parallel == "sharded"
            and "a token is drawn by a pass, and one through weights in parts takes every process:"
            " none would draw for itself"
        ),
        "reference": (
            config.reference in ("cached", "none")
            and "answers are new each time: nothing can be cached, and KL is always measured"
        ),
        **{
            path: is_set(config, path) and "the file is one of prompts, and it would do nothing"
            for path in OF_ROWS
        },
    }
    if problem := next(((name, why) for name, why in wrong.items() if why), None):
        raise UsageError(f"{problem[0]}: {objective.name} {NAMED}: {problem[1]}. Leave it out.")
    if objective.needs != "logps" or objective.context is not None or objective.margins:
        raise UsageError(f"{objective.name} does not train on rollouts.")


def _off_policy(config: Config, objective: BoundObjective) -> dict[str, str | bool]:
    """Say what is wrong with the settings for answers that are not quite the policy's own."""
    settings = config.rollout_settings
    return {
        "rollouts.ahead": (
            isinstance(objective, BoundPolicy)
            and not objective.uses_ratios
            and settings.ahead > 0
            and "without ratios the answers of an older policy are off-policy"
        ),
        "rollouts.correction": (
            settings.correction != "none"
            and not isinstance(objective, BoundPolicy)
            and "a pair is compared, and a weight of its tokens has no meaning"
        ),
        "rollouts.correction_clip": (
            settings.correction_clip is not None
            and settings.correction == "none"
            and "rollouts.correction is none, and it would bound nothing"
        ),
        "rollouts.correction_low": (
            settings.correction_low is not None
            and (settings.correction == "none" or CORRECTIONS[settings.correction].low is None)
            and f"rollouts.correction is {settings.correction}, which has no lower bound"
        ),
    }


def is_set(config: Config, path: str) -> bool:
    """Tell whether a field of a section, by its path, is not at its default."""
    section, name = path.split(".")
    node = getattr(config, section)
    return getattr(node, name) != type(node).model_fields[name].default


def _prompts(
    config: Config, template: Template, model: LanguageModel, display: Display
) -> tuple[PromptSet, PromptSet | None]:
    limit, data = model.positions, config.data
    train = load_prompts(data.train, config, template, limit, display)
    return train, (
        load_prompts(data.held_out, config, template, limit, display)
        if data.held_out is not None
        else None
    )


def _model_findings(
    config: Config, model: LanguageModel, prompts: PromptSet, held_out: PromptSet | None
) -> list[Finding]:
    """Check the model by itself, on the prompts as far as there are tokens to read."""
    every = [*prompts.trees, *(held_out.trees if held_out is not None else ())]
    trees = halved(every)
    lengths = growth_finding(model, every, config.rollout_settings.max_new_tokens)
    return [*lengths, *(model_findings(model, trees, config.allow) if trees else ())]


def _plan(config: Config, prompts: int) -> tuple[Order, int]:
    """Plan the order of the prompts, and how many updates to make."""
    train = config.train
    order = Order(prompts, min(train.batch_size, prompts), train.seed)
    once = order.batches_per_epoch * config.rollout_settings.num_iterations
    return order, train.steps or max(1, round((train.epochs or 1) * once))


def _answered(model: LanguageModel, prompts: PromptSet) -> list[Tree]:
    """Draw short answers of the model itself, to try the forward path on."""
    shortest = sorted(prompts.trees, key=len)[:PROBED]
    asked = [ids for ids in shortest for _ in range(2)]
    answers = LocalSampler.of(model).sample(asked, max_new_tokens=PROBE_TOKENS)
    return [
        Tree(ids, tuple(a.tokens for a in answers[2 * i : 2 * i + 2]), i)
        for i, ids in enumerate(shortest)
    ]


def _reference(config: Config, objective: BoundObjective, model: LanguageModel) -> tuple[str, str]:
    """Choose the reference, as for rows, except that nothing can be cached.

    A method without a reference has one to measure KL against.
    """
    adapters = model.has_adapters
    kind = "adapter_off" if adapters else "frozen"
    unused = not objective.reference and config.reference in ("auto", kind)  # KL alone is measured
    if unused or (config.reference == "auto" and not adapters):
        what = (
            "the model without its adapters (or with the adapter it started from)"
            if adapters
            else "a copy of the initial weights"
        )
        return kind, f"reference: {what}" + (
            ""
            if objective.reference
            else f"; {objective.name} uses none, KL is measured against it"
        )
    return choose_reference(
        config.reference,
        objective,
        adapters=adapters,
        repeats=False,
        incoming=config.model.adapter is not None,
    )


def cut_answers(
    objective: BoundPolicy, ended: float, limit: int, overlong: str = "keep"
) -> Finding:
    """Say how many of the first answers were cut at the limit, and what that means for rewards and
    for GAE. Most of them is taken for a limit that is too low.
    """
    behind = ", and GAE takes a value of 0 behind it" if objective.critic else ""
    as_cut = f"counts as ended there: its reward is that of the text as cut{behind}"
    handled = {
        "keep": as_cut,
        "mask": "is compared with the others of its prompt and is not trained on itself",
        "soft": f"{as_cut}; a penalty for its length is taken off",
        "value": "gets no reward; the value head's estimate behind it stands in its place",
    }
    says = (
        f"{1 - ended:.0%} of the first answers were cut at {limit} tokens, the limit; a cut answer"
        f" {handled[overlong]}"
    )
    if ended >= 0.5:
        return Finding("rollouts.cut", "ok", says, {"ended": ended, "limit": limit})
    remedy = f"--set rollouts.max_new_tokens={2 * limit}"
    return Finding("rollouts.cut", "note", says, {"ended": ended, "limit": limit}, remedy)


def equal_rewards(figures: Mapping[str, float]) -> Finding:
    """Say where the first answers all have one reward: then no answer is better than another."""
    reward, spread = figures.get("rollouts/reward"), figures.get("rollouts/reward_std")
    if reward is None or spread is None:
        return Finding("rollouts.rewards", "note", "no first answer has a reward")
    says = f"rewards of the first answers: mean {reward:.3g}, standard deviation {spread:.2g}"
    if spread > 0:
        return Finding("rollouts.rewards", "ok", says)
    return Finding(
        "rollouts.rewards",
        "warning",
        f"the first answers all have one reward, {reward:.3g}: no answer is better than another, so"
        " there is no gradient to learn from",
        remedy="try the reward on answers of this model (accord sample, accord score); ask easier"
        " prompts, or reward parts of what is wanted",
    )


def _prove(
    config: Config,
    learner: UpdateContext,
    optimizer: Optimizer,
    kind: str,
    source: RolloutSource,
    display: Display,
) -> tuple[float, list[Finding]]:
    """Draw the first batch, and make the proofs that it allows.

    Returns:
      the width of a tie, if answers are paired.
    """
    settings = config.rollout_settings
    answers, limit = source.order.batch_size * settings.num_generations, settings.max_new_tokens
    display.phase("rollouts", f"drawing the first {answers:,} answers")
    first = source.drawn_batch(0, fresh=True)
    if isinstance(learner.objective, BoundPolicy):
        display.phase("proofs", "step 0: the run proves itself")
        ended = first.figures["rollouts/ended"]
        cut = cut_answers(learner.objective, ended, limit, settings.overlong)
        # a corrected gap, and one between two programs, may be more than rounding
        weighed = settings.correction != "none"
        allowed = max(
            source.mismatch.max_gap if settings.sampler is not None else 0.0,
            first.figures["rollouts/sampler_gap"] if weighed else 0.0,
        )
        proofs = prove_sampled(replace(learner, world=ALONE), optimizer, first, allowed)
        return 0.0, [*proofs, cut, equal_rewards(first.figures)]
    proofs = prove_rows(config, learner, optimizer, kind, first.trees, display)
    width, floor = measure_ties(learner, first.trees[:NEIGHBOURS])
    return width, [*proofs, floor, equal_rewards(first.figures)]

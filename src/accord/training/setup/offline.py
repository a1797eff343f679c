"""The set-up of a run on rows, from its config: everything that can be refused is refused here.

    objective ─▶ model ─▶ rows ─▶ trees ─▶ forward path ─▶ reference ─▶ proofs of step 0

A resumed run goes the same way and then loads its checkpoint, so that its reference is made from
the initial weights again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from accord.auditing.run_rows import foreign_marks
from accord.auditing.trained import near_rows, seen_before
from accord.config.schema import Config
from accord.data.joined import joined
from accord.data.rows import Rows, named
from accord.data.templates import Template, template_of
from accord.data.tokenizer_digest import tokenizer_digest
from accord.data.tree_table import Trees
from accord.distributed.world import ALONE, World
from accord.engine.memory import fit_into_memory
from accord.engine.moving_reference import require_movement
from accord.engine.optimizer import Optimizer
from accord.engine.optimizers import optimizer_of
from accord.engine.step import UpdateContext, make_batch
from accord.forward.choose import Forward, choose, looks_nearby, on_copy
from accord.forward.reference import SUMS, Frozen, Reference, full_key
from accord.forward.sharded import choose_parallel
from accord.models.language import LanguageModel
from accord.models.model_checks import model_findings
from accord.models.positions import boundary
from accord.models.trainable import make_trainable, with_objective_head
from accord.objectives import BoundObjective
from accord.objectives.configured import resolve_objective
from accord.rollouts.sample_prompts import SamplePrompt, choose_sample_prompts
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.identity import require_one_run
from accord.runs.ranks import share_findings
from accord.runs.signals import Stop
from accord.training.file_source import FileSource
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
from accord.training.setup.hold_out import cut_record
from accord.training.setup.plan import mix_findings, plan_order
from accord.training.setup.references import (
    cached_reference,
    choose_reference,
    live_reference,
    needed_trees,
)
from accord.training.setup.rows import held_out_of, load_held_out, load_train
from accord.types import DataError, Finding, Refused, Tree, UsageError
from accord.verify.independent import order_finding
from accord.verify.preflight import probe
from accord.verify.reward_rows import padding_findings, take_margins
from accord.verify.row_lengths import position_findings, spread_of_lengths
from accord.verify.rows import near_overlap, overlap, row_findings

SHOWN = 256  # rows of a file that the checks of the model read
SHARDED = Finding(
    "running",
    "note",
    "weights are sharded: each process proves and checks its part of them; saving all weights is"
    " not tried before the end, since no process has them whole",
)


def prepare_offline(
    config: Config,
    display: Display,
    stop: Stop,
    *,
    folder: RunFolder | None = None,
    account_rows: bool = True,
    dry_run: bool = False,
    world: World = ALONE,
) -> PreparedRun:
    """Load, check and prove everything; see `prepare`.

    A dry run leaves out the pass that fills the reference cache.
    """
    objective = resolve_objective(config)
    adapters = config.model.lora is not None
    sharded = choose_parallel(
        config.train.parallel,
        world,
        adapters=adapters,
        whole_tensors=optimizer_of(config.train).whole_tensors,
    )
    _require_shardable(config, objective, sharded)
    world = replace(world, sharded=sharded)
    model = load_model(config, display, stop, world, sharded=sharded)
    _require_one_pass(model)
    template, rows, held_out_rows, margins = world.agree(
        lambda: _read(config, objective, model, display, folder if account_rows else None)
    )
    if sharded:  # from here on all ranks make the same passes, or wait for each other
        _require_same_rows(world, rows, held_out_rows)
    found = _checked(config, objective, template, rows, held_out_rows, model, margins)
    world.agree(stop.poll)
    model = with_objective_head(model, objective, config)
    found += padding_findings(model, rows)
    weights = make_trainable(config, model)
    found += adapter_findings(config, model, rows.trees.spread(SHOWN))
    display.phase("forward", "comparing the forward path with the model's own log-probs")
    forward = choose(model, _telling(model, rows.trees), config.model.forward)
    forward = replace(forward, columns=objective.columns)
    order, steps = plan_order(config, rows.trees, [len(each.trees) for each in rows.files])
    found += mix_findings(config, order)
    held_out = held_out_of(config, held_out_rows, objective)
    source = FileSource(rows, order, held_out_rows, held_out)
    kind, why = choose_reference(
        config.reference,
        objective,
        adapters=model.has_adapters,
        repeats=order.repeats(steps),
        incoming=config.model.adapter is not None,
    )
    require_movement(config.moving, steps, sharded=sharded and not adapters)
    reference = _reference(config, forward, kind, display, stop, world)
    budget = micro_budget(config, display)
    learner = UpdateContext(forward, objective, reference, budget, config.train.seed, world)
    peak = config.train.learning_rate or suggested_rate(objective, model)
    found += settings_of(config, objective, model, rows=len(rows.trees), steps=steps, peak=peak)
    optimizer = Optimizer(model.trainable(), config.train, peak, steps)
    asked = _sample_prompts(config, learner, template, held_out_rows)
    world.agree(stop.poll)
    found += [Finding("reference", "ok", why), *([SHARDED] if sharded else [])]
    found += share_findings(world, source.batch(0), order.batch_size)
    _require_batches(learner, source, steps)
    found += _prove(config, learner, optimizer, kind, source, display)
    tokenizer = tokenizer_digest(model.tokenizer)
    if kind == "cached" and not dry_run:
        # Each entry in the cache is keyed by its own token ids: what another method or file has had
        # computed is found again, and other tokens never are.
        key = full_key(
            weights=weights,
            tokenizer=tokenizer,
            template=f"{template.kind} {config.data.template}",
            dtype=str(model.dtype),
            path=forward.path,
            sums=SUMS,
        )
        needed = needed_trees(learner, source, steps)
        own = folder.reference if folder is not None else None
        cache, finding = cached_reference(
            learner, key, needed, display, stop, seed=config.train.seed, own=own
        )
        learner = replace(learner, reference=cache)
        found.append(finding)
    width, floor = measure_ties(learner, _first_rows(source, steps))
    batches = source.largest(steps)
    memory = fit_into_memory(config.train, learner, optimizer, batches)
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
        tokenizer,
        (*found, floor, memory),
        width,
        tuple(asked),
    )
    require_accepted(ready.findings, Refused)
    require_one_run(world, ready.identity())
    return ready


def _read(
    config: Config,
    objective: BoundObjective,
    model: LanguageModel,
    display: Display,
    folder: RunFolder | None,
) -> tuple[Template, Rows, Rows | None, list[Finding]]:
    """Read the template, the training rows and the held-out rows, with the findings on their
    margins; write the account of the rows into `folder`, if given.
    """
    template = template_of(config, model.tokenizer, model.stop_ids)
    files = load_train(config, objective.rows, template, display)
    held_out_files = load_held_out(config, objective, template, display)
    # before the account, whose digest of the trees covers their margins
    margins = [
        finding
        for name, one in (*named(files, "training rows"), *named(held_out_files, "held-out rows"))
        for finding in take_margins(one, objective, name)
    ]
    rows = joined(files)
    held_out_rows = joined(held_out_files) if held_out_files else None
    if folder is not None:
        write_account(folder, config, rows, held_out_rows)
    return template, rows, held_out_rows, margins


def _sample_prompts(
    config: Config, learner: UpdateContext, template: Template, held_out: Rows | None
) -> list[SamplePrompt]:
    """Choose the prompts for samples; a reward model answers nothing."""
    if not learner.objective.answers:
        return []
    return choose_sample_prompts(config, template, held_out, learner.forward.model.positions)


def _reference(
    config: Config, forward: Forward, kind: str, display: Display, stop: Stop, world: World
) -> Reference | None:
    """Make the reference that computes. A frozen copy of sharded weights is read once more."""
    if not (forward.model.sharded and kind == "frozen"):
        return live_reference(kind, forward, config.moving)
    second = load_model(config, display, stop, world, sharded=True)
    second.network.requires_grad_(False)
    return Frozen(on_copy(forward, second))


def _telling(model: LanguageModel, trees: Trees) -> list[Tree]:
    """Choose the rows that a forward path is tried on.

    The longest row is among them if attention sees only a window.
    """
    shown = probe(trees[:64])
    return [*shown, trees[int(trees.lengths.argmax())]] if looks_nearby(model) else shown


def _require_shardable(config: Config, objective: BoundObjective, sharded: bool) -> None:
    """Refuse what does not train with sharded weights, as far as the config shows it.

    Raises:
      UsageError: a reward model, DoRA, or a second copy of a base that is there already.
    """
    lora = config.model.lora
    if not sharded:
        return
    if not objective.answers:
        raise UsageError(
            f"{objective.name} does not train with sharded weights. --set"
            " train.parallel=replicated, or train adapters."
        )
    if lora is not None and lora.dora:
        raise UsageError(
            "model.lora.dora computes a norm of whole rows of the base, and train.parallel ="
            " sharded leaves each process a part of it. Leave one of them out."
        )
    if lora is not None and config.reference == "frozen":
        raise UsageError(
            "reference = frozen keeps a second model, and the base under the adapters is one"
            " already: with train.parallel = sharded use reference = adapter_off, which gives the"
            " same numbers."
        )


def _require_one_pass(model: LanguageModel) -> None:
    """
    Raises:
      UsageError: longrope, whose weights are sharded.
    """
    # each rank would make as many passes as its own rows need, and the others wait for ever
    if model.sharded and boundary(model) is not None:
        raise UsageError(
            f"{model.source}: longrope makes one or two passes, by the rows' lengths, and sharded"
            " ranks must make the same. --set train.parallel=replicated"
        )


def _require_same_rows(world: World, rows: Rows, held_out: Rows | None) -> None:
    """Refuse files that differ between the ranks, before any pass is made of them."""
    sides = {"train_data": rows, "held_out_data": held_out}
    require_one_run(
        world, {name: s.dataset.digest if s is not None else None for name, s in sides.items()}
    )


def _require_batches(learner: UpdateContext, source: FileSource, steps: int) -> None:
    """Make every batch whose rows depend on each other: a batch of a single prompt would stop the
    run midway.
    """
    if learner.objective.context is None:
        return
    prompts = source.rows.trees.prompt_hashes
    for index in range(steps):
        rows = prompts[source.order.batch(index)]
        if (rows == rows[0]).all():  # as far as a hash can tell
            make_batch(learner, index, source.batch(index))


def _first_rows(source: FileSource, steps: int) -> list[Tree]:
    """Return the run's first rows, each once."""
    batches = (source.batch(index) for index in range(min(steps, NEIGHBOURS)))
    return list({tree.row: tree for trees in batches for tree in trees}.values())[:NEIGHBOURS]


def write_account(folder: RunFolder, config: Config, rows: Rows, held_out: Rows | None) -> None:
    """Write data.json and rejected.jsonl: the rows that came in, those used, and every row that was
    not.
    """
    sides = {"train": rows} | ({"held_out": held_out} if held_out is not None else {})
    records = {name: side.record() for name, side in sides.items()}
    files = records["train"].get("files", [records["train"]])
    # not strict: one file, which is no list, has a record and no weight
    for file, record in zip(config.data.train_files, files, strict=False):
        record["weight"] = file.weight
    folder.write_data(records | cut_record(config))
    folder.write_rejected(
        [
            r
            for side in sides.values()
            for r in (*side.dataset.ledger.rejected, *side.encoding.unfit)
        ]
    )


def _checked(
    config: Config,
    objective: BoundObjective,
    template: Template,
    rows: Rows,
    held_out: Rows | None,
    model: LanguageModel,
    margins: Sequence[Finding],
) -> list[Finding]:
    """Run the checks on both files; refuse unfit data."""
    sides = named(rows.each, "training rows")
    sides += named(held_out.each, "held-out rows") if held_out is not None else []
    found = [
        finding
        for name, one in sides
        for finding in row_findings(config, one, template, name, model.stop_ids)
    ]
    if held_out is not None:
        found.append(overlap(config, rows, held_out))
        beside = [held_out.dataset.digest, held_out.dataset.path, len(held_out.trees)]
        found += rows.checks.remember(
            "near-prompts", beside, lambda: [near_overlap(rows, held_out)]
        )
        found += rows.checks.remember(
            "near-rows",
            beside,
            lambda: [near_rows(rows.dataset.examples, held_out.dataset.examples)],
        )
        found += seen_before(config.model.name, config.model.adapter, held_out.dataset)
    allowed = "foreign_marks" in config.allow
    for name, one in sides:
        found += one.checks.remember(
            "marks", [name, one.dataset.path, allowed], partial(_marks, one, name, allowed)
        )
    found += _model_findings(config, objective, rows, held_out, model)
    found += _label_findings(objective, rows)
    found += margins
    unfit = any(
        f.refused
        for f in found
        if f.check in ("data.ledger", "data.leak", "data.labels", "data.margin")
    )
    # all faults at once: the first may only be a consequence
    require_accepted(found, DataError if unfit else Refused)
    return found


def _marks(rows: Rows, name: str, allowed: bool) -> list[Finding]:
    return [foreign_marks(rows, name, allowed=allowed)]


def _model_findings(
    config: Config,
    objective: BoundObjective,
    rows: Rows,
    held_out: Rows | None,
    model: LanguageModel,
) -> list[Finding]:
    """Check the model by itself, and against the lengths of both files' rows."""
    sides = {"training rows": rows} | ({"held-out rows": held_out} if held_out is not None else {})
    lengths = [
        finding
        for name, side in sides.items()
        for finding in position_findings(
            model,
            side.trees,
            name,
            permitted="beyond_positions" in config.allow,
            one_pass=not objective.answers,  # a score is read in one pass
        )
    ]
    if any(finding.refused for finding in lengths):
        return lengths  # a row beyond a table of positions cannot even be computed
    shown = [tree for side in sides.values() for tree in side.trees.spread(SHOWN)]
    used = sorted({token for side in sides.values() for token in side.trees.used_ids().tolist()})
    return [*lengths, *model_findings(model, shown, config.allow, used)]


def _label_findings(objective: BoundObjective, rows: Rows) -> list[Finding]:
    """Report labels that are all alike (they teach only drift), and the balance that KTO's weights
    should match.
    """
    if objective.rows != "labelled":
        return []
    good = int((rows.trees.labels == 1).sum())
    bad = len(rows.trees) - good
    evidence = {"desirable": good, "undesirable": bad}
    if not good or not bad:
        says = (
            f"all {len(rows.trees):,} labels are {'desirable' if good else 'undesirable'}: there is"
            " nothing to compare"
        )
        return [
            Finding(
                "data.labels",
                "refused",
                says,
                evidence,
                "add rows of the other label, or train with sft",
            )
        ]
    weights = objective.options
    if "desirable_weight" not in weights:
        says = f"{good:,} desirable and {bad:,} undesirable rows; {objective.name} weighs no label"
        return [Finding("data.labels", "ok", says, evidence)]
    ratio = weights["desirable_weight"] * good / (weights["undesirable_weight"] * bad)
    says = f"{good:,} desirable and {bad:,} undesirable rows; weighted ratio {ratio:.2f}"
    if 0.99 <= ratio <= 1.51:
        return [Finding("data.labels", "ok", says + ", within the paper's 1 to 1.5", evidence)]
    remedy = (
        f"--set objective.desirable_weight={bad / good:.3g}"
        if good < bad
        else f"--set objective.undesirable_weight={good / bad:.3g}"
    )
    return [
        Finding("data.labels", "note", says + "; the KTO paper advises 1 to 1.5", evidence, remedy)
    ]


def _prove(
    config: Config,
    learner: UpdateContext,
    optimizer: Optimizer,
    kind: str,
    source: FileSource,
    display: Display,
) -> list[Finding]:
    """Run the proofs on rows of the first batch, the shortest of them.

    Proofs hold whole logits, so the ranks take turns.
    """
    rows = source.rows.trees
    shown = [*source.batch(0), *rows[:64]]
    spread = spread_of_lengths(learner.forward.model, rows)
    found = prove_rows(config, learner, optimizer, kind, shown, display, spread)
    found.append(order := order_finding(source.order, rows.labels))
    require_accepted([order], Refused)
    return found

"""From a config to a run that is ready to train: everything that can be refused is refused here.

    objective ─▶ model ─▶ rows ─▶ trees ─▶ forward path ─▶ reference ─▶ proofs of step 0

A resumed run goes the same way and loads its checkpoint afterwards, so that its reference is made
from the initial weights again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accord.config import Config, LoraConfig
from accord.data.content import content_findings
from accord.data.order import Order
from accord.data.templates import Template, make_template
from accord.distributed import ALONE, World, take_device
from accord.forward.choose import Forward, choose, looks_nearby
from accord.models import fingerprint
from accord.models.language import LanguageModel
from accord.models.load import load
from accord.models.lora import (
    add_lora,
    add_reference_adapter,
    forget_reference_adapter,
    load_adapter,
    train_all_weights,
)
from accord.models.sound import model_findings
from accord.objectives import POLICY_OBJECTIVES, BoundObjective, resolve
from accord.objectives.policy_table import require_source
from accord.training.display import Display
from accord.training.folder import RunFolder
from accord.training.identity import require_one_run
from accord.training.independent import order_finding
from accord.training.memory import fit_into_memory
from accord.training.moving import require_movement
from accord.training.optim import Optimizer
from accord.training.proofs import noise_floor, probe, prove
from accord.training.ranks import shares_of
from accord.training.ready import Ready as Ready
from accord.training.references import cached_reference, choose_reference, live_reference
from accord.training.rows import (
    Rows,
    held_out_of,
    load_held_out,
    load_rows,
    near_overlap,
    overlap,
    row_findings,
)
from accord.training.sampling import Asked, prompts_of
from accord.training.scoring import headed, padding_findings, require_whole, take_margins
from accord.training.sharding import choose_parallel, shard
from accord.training.signals import Stop
from accord.training.step import Learner, make_batch
from accord.training.trackers import require
from accord.types import DataError, Finding, Refused, Tree, UsageError

SHARDED = Finding(
    "running",
    "note",
    "weights are sharded: proofs by the bare network, checks of weights, reference and path while"
    " training, and samples are off",
)
# rows of one batch, and how many of them are computed alone as well, for the noise floor
NEIGHBOURS, COMPARED = 32, 8


def prepare(
    config: Config,
    display: Display,
    stop: Stop,
    *,
    folder: RunFolder | None = None,
    account_rows: bool = True,
    dry_run: bool = False,
    world: World = ALONE,
) -> Ready:
    """Load, check and prove everything; a dry run leaves out the pass that fills the reference
    cache.

    Args:
      folder: where the run's own copy of cached reference log-probs lies.
      account_rows: write there what became of the rows, before anything is refused.
      world: the ranks that train; each loads, checks and proves for itself, and they must come to
        the same.

    Raises:
      UsageError, DataError, Refused: in words, with the remedy.
    """
    if config.rollouts is not None:
        from accord.training.online import prepare_online  # built of what stands below

        return prepare_online(
            config,
            display,
            stop,
            folder=folder if account_rows else None,
            records=folder,
            dry_run=dry_run,
            world=world,
        )
    objective = resolve_objective(config)
    model = loaded(config, display, stop, world)
    template, rows, held_out_rows = _read(
        config, objective, model, display, folder if account_rows else None
    )
    found = _checked(config, objective, template, rows, held_out_rows, model)
    stop.poll()
    model = headed(model, objective, config)
    found += padding_findings(model, rows)
    weights = make_trainable(config, model)
    display.phase("forward", "comparing the forward path with the model's own log-probs")
    forward = choose(model, _telling(model, rows.trees), config.model.forward)
    order, steps = plan(config, rows.trees)
    kind, why = choose_reference(
        config.reference,
        objective,
        adapters=model.peft is not None,
        repeats=steps > order.batches_per_epoch,
        incoming=config.model.adapter is not None,
    )
    sharded = choose_parallel(config.train.parallel, world, adapters=model.peft is not None)
    require_whole(objective, sharded)
    require_movement(config.moving, steps, sharded=sharded)
    found.append(Finding("reference", "ok", why))
    learner = _learner(config, objective, forward, kind, world, sharded)
    world = learner.world
    found += [SHARDED] if sharded else []
    peak = config.train.learning_rate or suggested_rate(objective, model)
    ready = Ready(
        config,
        model,
        template,
        rows,
        held_out_rows,
        held_out_of(config, held_out_rows, objective),
        order,
        steps,
        peak,
        learner,
        Optimizer(model.trainable(), config.train, peak, steps),
        kind,
        weights,
        fingerprint.tokenizer(model.tokenizer),
        found,
    )
    ready.asked = _asked(ready)
    world.agree(stop.poll)
    ready.findings += shares_of(ready)
    _require_batches(ready)
    _prove(ready, display)
    if kind == "cached" and not dry_run:
        _fill_reference(ready, display, stop, folder)
    _measure_ties(ready)
    ready.learner = replace(ready.learner, micro_tokens=fit_into_memory(ready))
    refuse(ready.findings, Refused)
    require_one_run(world, ready.identity())
    return ready


def loaded(config: Config, display: Display, stop: Stop, world: World) -> LanguageModel:
    """The model that training starts from, on its device."""
    take_device(world, config.model.device)
    require(config.monitor.trackers)
    display.phase("model", f"loading {config.model.name}")
    model = load(
        config.model.name,
        dtype=config.model.dtype,
        device=config.model.device,
        hub="hub" in config.allow,
    )
    stop.poll()
    return model


def template_of(config: Config, model: LanguageModel) -> Template:
    """How its rows, or prompts, become tokens."""
    return make_template(
        model.tokenizer,
        config.data.template,
        generation_eos=_stop_ids(model),
        allow_raw="raw_text" in config.allow,
    )


def positions_of(model: LanguageModel) -> int | None:
    """The longest sequence that it was made for, where its configuration says."""
    return getattr(model.network.config.get_text_config(), "max_position_embeddings", None)


def _fill_reference(ready: Ready, display: Display, stop: Stop, folder: RunFolder | None) -> None:
    """The pass that fills the reference cache, of which the run keeps a copy of its own."""
    own = folder.reference if folder is not None else None
    ready.learner = replace(ready.learner, reference=cached_reference(ready, display, stop, own))


def _read(
    config: Config,
    objective: BoundObjective,
    model: LanguageModel,
    display: Display,
    folder: RunFolder | None,
) -> tuple[Template, Rows, Rows | None]:
    """The template, the training rows and the held-out rows; what became of them goes into
    `folder`, where there is one.
    """
    template = template_of(config, model)
    rows = load_rows(config, config.data.train, objective.rows, template, display)
    held_out_rows = load_held_out(config, objective, template, display)
    if folder is not None:
        account(folder, rows, held_out_rows)
    return template, rows, held_out_rows


def _asked(ready: Ready) -> list[Asked]:
    """What samples answer: token by token, by the first rank, which needs the weights whole; a
    reward model answers nothing.
    """
    learner = ready.learner
    if learner.world.lockstep or learner.objective.needs != "logps":
        return []
    return prompts_of(ready.config, ready.template, ready.held_out_rows, positions_of(ready.model))


def _learner(
    config: Config,
    objective: BoundObjective,
    forward: Forward,
    kind: str,
    world: World,
    sharded: bool,
) -> Learner:
    """What every update goes through; a frozen copy is taken of the whole weights, before they are
    sharded.
    """
    reference = live_reference(kind, forward, config.moving)
    if sharded:
        forward, world = shard(forward, world)
        reference = reference if kind == "frozen" else live_reference(kind, forward)
    return Learner(
        forward, objective, reference, config.train.micro_tokens, config.train.seed, world
    )


def _telling(model: LanguageModel, trees: Sequence[Tree]) -> list[Tree]:
    """Rows that a forward path is tried on; the longest too where attention looks at a window
    alone.
    """
    shown = probe(trees[:64])
    return [*shown, max(trees, key=lambda tree: tree.tokens)] if looks_nearby(model) else shown


def _require_batches(ready: Ready) -> None:
    """Make every batch whose rows depend on each other: one of a single prompt would stop the run
    in its middle.
    """
    if ready.learner.objective.context is not None:
        for index in range(ready.steps):
            make_batch(ready.learner, index, ready.batch_trees(index))


def _measure_ties(ready: Ready) -> None:
    """The width of a tie, on the run's first rows."""
    batches = (ready.batch_trees(index) for index in range(min(ready.steps, NEIGHBOURS)))
    first = list({tree.row: tree for trees in batches for tree in trees}.values())[:NEIGHBOURS]
    measure_ties(ready, first)


def measure_ties(ready: Ready, first: Sequence[Tree]) -> None:
    """How far rounding alone moves a margin, on some rows: the width of a tie, the first rank's for
    all.
    """
    floor = noise_floor(ready.learner, first[:COMPARED], first[COMPARED:])
    ready.tie_width = ready.world.on_first(lambda: floor.evidence["reward_margin"])
    ready.findings.append(floor)


def suggested_rate(objective: BoundObjective, model: LanguageModel) -> float:
    """A peak learning rate to start from."""
    width = model.network.config.get_text_config().hidden_size
    return objective.suggested_rate(width, adapters=model.peft is not None)


def resolve_objective(config: Config) -> BoundObjective:
    """The configured objective with its options checked."""
    options = {key: value for key, value in config.objective.items() if key != "name"}
    sampled = config.rollouts is not None
    if config.rollouts is not None and "max_tokens" in getattr(
        POLICY_OBJECTIVES.get(config.objective["name"]), "kinds", ()
    ):
        options.setdefault("max_tokens", config.rollouts.max_new_tokens)
    objective = resolve(config.objective["name"], options, frozenset(config.allow))
    require_source(objective.rows, objective.name, sampled)
    return objective


def plan(config: Config, trees: Sequence[Tree]) -> tuple[Order, int]:
    """The order of the rows, and how many updates to make."""
    train = config.train
    if train.pair_labels:
        require_pairs_of_labels(trees, train.batch_size)
        order = Order(len(trees), min(train.batch_size, len(trees)), train.seed, unit=2)
    else:
        labels = {tree.desirable for tree in trees}
        strata = tuple(int(bool(tree.desirable)) for tree in trees) if len(labels) > 1 else None
        order = Order(len(trees), min(train.batch_size, len(trees)), train.seed, strata)
    steps = train.steps or max(1, round((train.epochs or 1) * order.batches_per_epoch))
    return order, steps


def require_pairs_of_labels(trees: Sequence[Tree], batch_size: int) -> None:
    """
    Raises:
      UsageError: train.pair_labels, where the rows are not the two labels of each pair, or a batch
        would split one.
    """
    # not strict: a row left over is refused below, with words
    twos = list(zip(trees[::2], trees[1::2], strict=False))
    whole = all(
        good.desirable and bad.desirable is False and good.prompt == bad.prompt
        for good, bad in twos
    )
    if len(trees) % 2 or not whole or batch_size % 2:
        raise UsageError(
            "train.pair_labels keeps the two labels of a pair in one batch: it needs an objective"
            " of labels, a file of pairs of which both answers are usable, and an even"
            " train.batch_size. Leave it out (--set train.pair_labels=false)."
        )


def account(folder: RunFolder, rows: Rows, held_out: Rows | None) -> None:
    """data.json and rejected.jsonl: what came in, what was used, and every row that was not."""
    sides = {"train": rows} | ({"held_out": held_out} if held_out is not None else {})
    folder.write_data({name: side.record() for name, side in sides.items()})
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
) -> list[Finding]:
    """What the checks on both files say; refuses what is unfit."""
    found = row_findings(config, rows, template, "training rows", _stop_ids(model))
    found += content_findings([rows.encoding.examples[tree.row] for tree in rows.trees])
    if held_out is not None:
        found += row_findings(config, held_out, template, "held-out rows", _stop_ids(model))
        found += [overlap(config, rows, held_out), near_overlap(rows, held_out)]
    found += model_findings(model, [*rows.trees, *(held_out.trees if held_out is not None else ())])
    found += _label_findings(objective, rows)
    for name, side in {"training rows": rows, "held-out rows": held_out}.items():
        found += take_margins(side, objective, name) if side is not None else []
    unfit = any(
        f.refused
        for f in found
        if f.check in ("data.ledger", "data.leak", "data.labels", "data.margin")
    )
    # all that is wrong, at once: the first may only be a consequence
    refuse(found, DataError if unfit else Refused)
    return found


def _label_findings(objective: BoundObjective, rows: Rows) -> list[Finding]:
    """Labels all alike teach nothing but drift; and the balance that KTO's weights should answer
    to.
    """
    if objective.rows != "labelled":
        return []
    good = sum(bool(tree.desirable) for tree in rows.trees)
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
    ratio = (
        weights.get("desirable_weight", 1.0) * good / (weights.get("undesirable_weight", 1.0) * bad)
    )
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


def make_trainable(config: Config, model: LanguageModel) -> str:
    """Choose what trains; returns the fingerprint of the weights before anything was added to
    them.
    """
    weights = fingerprint.weights(model.network)
    spec = config.model
    if spec.adapter is not None:
        if spec.lora is None:
            raise UsageError(
                "model.adapter is given and model.lora is null: train the adapter, or merge it"
                " first."
            )
        if spec.lora != LoraConfig():
            raise UsageError(
                "model.adapter brings its own rank, alpha and targets; leave model.lora out."
            )
        load_adapter(model, spec.adapter)
        if config.reference == "base":
            forget_reference_adapter(model)
        return weights + ":" + fingerprint.adapter(spec.adapter)
    if spec.lora is None:
        train_all_weights(model)
    else:
        add_lora(model, **spec.lora.model_dump(), seed=config.train.seed)
        if config.reference == "moving":
            add_reference_adapter(model)
    return weights


def _prove(ready: Ready, display: Display) -> None:
    """The proofs on rows of the first batch, the shortest of them: proofs hold whole logits, and
    take turns.
    """
    rows = ready.file_rows.trees
    prove_rows(ready, [*ready.batch_trees(0), *rows[:64]], display)
    ready.findings.append(order := order_finding(ready.order, rows))
    refuse([order], Refused)


def prove_rows(ready: Ready, rows: Sequence[Tree], display: Display) -> None:
    """The proofs on some rows; refuses with all that failed."""
    display.phase("proofs", "step 0: the run proves itself")
    lora = ready.config.model.lora
    # What fills a cache from the policy itself moves with it: that pass is over before the first
    # update.
    fixed = ready.model.peft is not None or ready.reference_kind != "cached"
    alone, exact = replace(ready.learner, world=ALONE), not (lora is not None and lora.dora)
    whole = not ready.world.lockstep
    proofs = prove(alone, ready.optimizer, rows, exact=exact, fixed=fixed, whole=whole)
    ready.findings += proofs
    refuse(proofs, Refused)


def refuse(found: Sequence[Finding], error: type[Exception]) -> None:
    """Raise `error` with every refused finding, its first places and its remedy."""
    refused = [finding for finding in found if finding.refused]
    if not refused:
        return
    lines = []
    for finding in refused:
        lines.append(f"{finding.check}: {finding.says}")
        first = finding.evidence.get("first")
        for place in (first if isinstance(first, list) else [])[:3]:
            lines.append(
                "  "
                + (f"{place['at']}: {place['detail']}" if isinstance(place, dict) else str(place))
            )
        if finding.remedy:
            lines.append(f"  what to do: {finding.remedy}")
    raise error("Not trained, since the result would be silently wrong.\n" + "\n".join(lines))


def _stop_ids(model: LanguageModel):
    return getattr(model.network.generation_config, "eos_token_id", None)

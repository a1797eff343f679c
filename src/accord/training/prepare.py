"""From a config to a run that is ready to train: everything that can be refused is refused here.

    objective ─▶ model ─▶ rows ─▶ trees ─▶ forward path ─▶ reference ─▶ proofs of step 0

A resumed run goes the same way and loads its checkpoint afterwards, so that its reference is made from the initial
weights again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from accord.config import Config, LoraConfig
from accord.data.order import Order
from accord.data.templates import Template, make_template
from accord.evaluate.held_out import HeldOut
from accord.forward.choose import choose, looks_nearby
from accord.models import fingerprint
from accord.models.language import LanguageModel
from accord.models.load import load
from accord.models.lora import add_lora, add_reference_adapter, load_adapter, train_all_weights
from accord.objectives import BoundObjective, resolve
from accord.training.display import Display
from accord.training.folder import RunFolder
from accord.training.moving import Moving, require_movement
from accord.training.optim import Optimizer
from accord.training.proofs import noise_floor, probe, prove
from accord.training.references import cached_reference, choose_reference, live_reference
from accord.training.rows import Rows, held_out_of, load_held_out, load_rows, overlap, row_findings
from accord.training.signals import Stop
from accord.training.step import Learner, make_batch
from accord.types import DataError, Finding, Refused, Tree, UsageError


MEASURED_WIDTH = 576  # hidden size of SmolLM2-135M, on which the objectives' learning rates were measured


@dataclass
class Ready:
    """All that the loop needs, and all that was found on the way."""

    config: Config
    model: LanguageModel
    template: Template
    rows: Rows
    held_out_rows: Rows | None
    held_out: HeldOut | None
    order: Order
    steps: int
    peak: float  # learning rate
    learner: Learner
    optimizer: Optimizer
    reference_kind: str
    weights: str  # fingerprint of the initial weights
    tokenizer: str  # fingerprint of the tokenizer and its chat template
    findings: list[Finding] = field(default_factory=list)
    tie_width: float = 0.0

    def batch_trees(self, index: int) -> list[Tree]:
        """The trees of update `index`."""
        return [self.rows.trees[row] for row in self.order.batch(index)]

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on."""
        reference = self.learner.reference
        return self.optimizer.state() | (reference.state() if isinstance(reference, Moving) else {})

    def load_state(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Stand where the run stood `updates` updates after its start."""
        self.optimizer.load_state(tensors, updates)
        if isinstance(self.learner.reference, Moving):
            self.learner.reference.load_state(tensors)

    def identity(self) -> dict:
        """What must be the same for a checkpoint to go on: data, initial weights, tokens."""
        held = self.held_out_rows.dataset.digest if self.held_out_rows is not None else None
        return {
            "train_data": self.rows.dataset.digest,
            "held_out_data": held,
            "initial_weights": self.weights,
            "tokenizer": self.tokenizer,
            "reference": self.reference_kind,
            "forward": self.learner.forward.path,
            "trees": len(self.rows.trees),
            "config": trajectory(self.config),
        }


def prepare(
    config: Config, display: Display, stop: Stop, *, folder: RunFolder | None = None, account_rows: bool = True,
    dry_run: bool = False,
) -> Ready:
    """Load, check and prove everything; a dry run leaves out the pass that fills the reference cache.

    Args:
      folder: where the run's own copy of cached reference log-probs lies.
      account_rows: write there what became of the rows, before anything is refused.

    Raises:
      UsageError, DataError, Refused: in words, with the remedy.
    """
    objective = resolve_objective(config)
    display.phase("model", f"loading {config.model.name}")
    model = load(config.model.name, dtype=config.model.dtype, device=config.model.device, hub="hub" in config.allow)
    stop.poll()
    template = make_template(
        model.tokenizer, config.data.template, generation_eos=_stop_ids(model), allow_raw="raw_text" in config.allow
    )
    rows = load_rows(config, config.data.train, objective.rows, template, display)
    held_out_rows = load_held_out(config, objective, template, display)
    if folder is not None and account_rows:
        account(folder, rows, held_out_rows)
    found = _checked(config, objective, template, rows, held_out_rows)
    stop.poll()
    weights = make_trainable(config, model)
    display.phase("forward", "comparing the forward path with the model's own log-probs")
    shown = probe(rows.trees[:64])
    if looks_nearby(model):
        shown.append(max(rows.trees, key=lambda tree: tree.tokens))
    forward = choose(model, shown, config.model.forward)
    order, steps = plan(config, rows.trees)
    kind, why = choose_reference(config.reference, objective, adapters=model.peft is not None, repeats=steps > order.batches_per_epoch)
    if config.moving is not None:
        require_movement(config.moving, steps)
    found.append(Finding("reference", "ok", why))
    learner = Learner(forward, objective, live_reference(kind, forward, config.moving), config.train.micro_tokens, config.train.seed)
    peak = config.train.learning_rate or suggested_rate(objective, model)
    ready = Ready(
        config, model, template, rows, held_out_rows, held_out_of(config, held_out_rows, objective), order, steps, peak,
        learner, Optimizer(model.trainable(), config.train, peak, steps), kind, weights,
        fingerprint.tokenizer(model.tokenizer), found,
    )  # fmt: skip
    stop.poll()
    if objective.context is not None:  # a later batch of one prompt only would stop the run in its middle
        for index in range(steps):
            make_batch(learner, index, ready.batch_trees(index))
    _prove(ready, display)
    if kind == "cached" and not dry_run:
        ready.learner = replace(learner, reference=cached_reference(ready, display, stop, folder.reference if folder is not None else None))
    floor = noise_floor(ready.learner, probe(ready.batch_trees(0)))
    ready.tie_width = floor.evidence["reward_margin"]
    ready.findings.append(floor)
    return ready


def suggested_rate(objective: BoundObjective, model: LanguageModel) -> float:
    """A peak learning rate to start from: the objective's own, for LoRA on SmolLM2-135M, where it was measured.

    Adam's rate goes with one over the width (Yang et al. 2022, arXiv:2203.03466, Table 3); all weights want about a tenth.
    """
    width = model.network.config.get_text_config().hidden_size
    return objective.learning_rate * min(1.0, MEASURED_WIDTH / width) * (1.0 if model.peft is not None else 0.1)


def trajectory(config: Config) -> dict[str, object]:
    """The fields that the weights and the records of a run depend on, by path. Where files lie is not among them:
    what is in them has fingerprints."""
    fields = config.model_dump(mode="json", exclude={"output": True, "checkpoint": True, "allow": True})
    for section, names in (("model", ("name", "adapter", "device")), ("data", ("train", "held_out"))):
        for name in names:
            del fields[section][name]
    return _flat(fields)


def _flat(node: object, path: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {path: node}
    return {k: v for name, child in node.items() for k, v in _flat(child, f"{path}.{name}".lstrip(".")).items()}


def resolve_objective(config: Config) -> BoundObjective:
    """The configured objective with its options checked."""
    options = {key: value for key, value in config.objective.items() if key != "name"}
    return resolve(config.objective["name"], options, frozenset(config.allow))


def plan(config: Config, trees: Sequence[Tree]) -> tuple[Order, int]:
    """The order of the rows, and how many updates to make."""
    train = config.train
    labels = {tree.desirable for tree in trees}
    strata = tuple(int(bool(tree.desirable)) for tree in trees) if len(labels) > 1 else None
    order = Order(len(trees), min(train.batch_size, len(trees)), train.seed, strata)
    steps = train.steps or max(1, round((train.epochs or 1) * order.batches_per_epoch))
    return order, steps


def account(folder: RunFolder, rows: Rows, held_out: Rows | None) -> None:
    """data.json and rejected.jsonl: what came in, what was used, and every row that was not."""
    sides = {"train": rows} | ({"held_out": held_out} if held_out is not None else {})
    folder.write_data({name: side.record() for name, side in sides.items()})
    folder.write_rejected([r for side in sides.values() for r in (*side.dataset.ledger.rejected, *side.encoding.unfit)])


def _checked(
    config: Config, objective: BoundObjective, template: Template, rows: Rows, held_out: Rows | None
) -> list[Finding]:
    """What the checks on both files say; refuses what is unfit."""
    found = row_findings(config, rows, template, "training rows")
    if held_out is not None:
        found += row_findings(config, held_out, template, "held-out rows")
        found.append(overlap(config, rows, held_out))
    found += _label_findings(objective, rows)
    refuse([f for f in found if f.check in ("data.ledger", "data.leak", "data.labels")], DataError)
    refuse(found, Refused)
    return found


def _label_findings(objective: BoundObjective, rows: Rows) -> list[Finding]:
    """Labels all alike teach nothing but drift; and the balance that KTO's weights should answer to."""
    if objective.rows != "labelled":
        return []
    good = sum(tree.desirable for tree in rows.trees)
    bad = len(rows.trees) - good
    evidence = {"desirable": good, "undesirable": bad}
    if not good or not bad:
        says = f"all {len(rows.trees):,} labels are {'desirable' if good else 'undesirable'}: there is nothing to compare"
        return [Finding("data.labels", "refused", says, evidence, "add rows of the other label, or train with sft")]
    weights = objective.options
    ratio = weights.get("desirable_weight", 1.0) * good / (weights.get("undesirable_weight", 1.0) * bad)
    says = f"{good:,} desirable and {bad:,} undesirable rows; weighted ratio {ratio:.2f}"
    if 0.99 <= ratio <= 1.51:
        return [Finding("data.labels", "ok", says + ", within the paper's 1 to 1.5", evidence)]
    remedy = f"--set objective.desirable_weight={bad / good:.3g}" if good < bad else f"--set objective.undesirable_weight={good / bad:.3g}"
    return [Finding("data.labels", "note", says + "; the KTO paper advises 1 to 1.5", evidence, remedy)]


def make_trainable(config: Config, model: LanguageModel) -> str:
    """Choose what trains; returns the fingerprint of the weights before anything was added to them."""
    weights = fingerprint.weights(model.network)
    spec = config.model
    if spec.adapter is not None:
        if spec.lora is None:
            raise UsageError("model.adapter is given and model.lora is null: train the adapter, or merge it first.")
        if spec.lora != LoraConfig():
            raise UsageError("model.adapter brings its own rank, alpha and targets; leave model.lora out.")
        load_adapter(model, spec.adapter)
        return weights + ":" + fingerprint.adapter(spec.adapter)
    if spec.lora is None:
        train_all_weights(model)
    else:
        add_lora(model, **spec.lora.model_dump(), seed=config.train.seed)
        if config.reference == "moving":
            add_reference_adapter(model)
    return weights


def _prove(ready: Ready, display: Display) -> None:
    """The proofs on rows of the first batch; refuses with all that failed."""
    display.phase("proofs", "step 0: the run proves itself")
    lora = ready.config.model.lora
    proofs = prove(ready.learner, ready.optimizer, ready.batch_trees(0), exact=not (lora is not None and lora.dora))
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
            lines.append("  " + (f"{place['at']}: {place['detail']}" if isinstance(place, dict) else str(place)))
        if finding.remedy:
            lines.append(f"  what to do: {finding.remedy}")
    raise error("Not trained, since the result would be silently wrong.\n" + "\n".join(lines))


def _stop_ids(model: LanguageModel):
    return getattr(model.network.generation_config, "eos_token_id", None)

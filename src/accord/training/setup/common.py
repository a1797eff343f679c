"""The parts that both set-ups need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accord.config.schema import Config
from accord.distributed.device import take_device
from accord.distributed.world import ALONE, World
from accord.engine.micro_budget import MicroBudget
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext
from accord.forward.choose import require_path
from accord.forward.sharded import load_sharded
from accord.models.language import LanguageModel
from accord.models.likelihood import adapter_finding
from accord.models.load import load
from accord.objectives import BoundObjective
from accord.runs.display import Display
from accord.runs.ranks import of_all_ranks
from accord.runs.signals import Stop
from accord.runs.trackers import require
from accord.types import Finding, Refused, Tree
from accord.verify.preflight import noise_floor
from accord.verify.settings import Planned, setting_findings
from accord.verify.step0 import prove

# rows of one batch, and how many of them are computed alone as well, for the noise floor
NEIGHBOURS, COMPARED = 32, 8


def load_model(
    config: Config, display: Display, stop: Stop, world: World, *, sharded: bool = False
) -> LanguageModel:
    """Load the model that training starts from, on its device; or this rank's part of it."""
    require_path(config.model.forward)
    take_device(world, config.model.device)
    require(config.monitor.trackers)
    display.phase("model", f"loading {config.model.name}")
    name, hub = config.model.name, "hub" in config.allow
    options: dict = {"dtype": config.model.dtype, "device": config.model.device, "hub": hub}
    model = (
        load_sharded(name, world, **options)
        if sharded
        else load(name, quantize=config.model.quantize, **options)
    )
    world.agree(stop.poll)
    return model


def adapter_findings(config: Config, model: LanguageModel, rows: Sequence[Tree]) -> list[Finding]:
    """Ask a model with an adapter that came in whether it still knows what it knew without it.

    Raises:
      Refused: it knows no more than chance.
    """
    if config.model.adapter is None or model.measures != LanguageModel.measures or not rows:
        return []
    found = [adapter_finding(model, rows, permitted="untrained_model" in config.allow)]
    require_accepted(found, Refused)
    return found


def measure_ties(learner: UpdateContext, rows: Sequence[Tree]) -> tuple[float, Finding]:
    """Measure how far rounding alone moves a margin, on some rows: the width of a tie.

    All ranks take the first rank's width.
    """
    floor = noise_floor(learner, rows[:COMPARED], rows[COMPARED:])
    return learner.world.on_first(lambda: floor.evidence["reward_margin"]), floor


def micro_budget(config: Config, display: Display) -> MicroBudget:
    """Return the budget that the recipe asks for. If memory runs out before the run begins, the
    display reports it; later the run does.
    """

    def say(before: int, now: int, again: str) -> None:
        display.line(
            f"! out of memory; micro-batches of {now:,} tokens instead of {before:,}, and {again}"
        )

    return MicroBudget(config.train.micro_tokens, say)


def suggested_rate(objective: BoundObjective, model: LanguageModel) -> float:
    """Suggest a peak learning rate to start from."""
    width = model.network.config.get_text_config().hidden_size
    return objective.suggested_rate(width, adapters=model.has_adapters)


def settings_of(
    config: Config,
    objective: BoundObjective,
    model: LanguageModel,
    *,
    rows: int,
    steps: int,
    peak: float,
) -> list[Finding]:
    """Hold the settings against the run that they plan; refuse those that leave nothing to learn.

    Raises:
      Refused: with every such setting.
    """
    trained = sum(p.numel() for p in model.trainable().values())
    width = model.network.config.get_text_config().hidden_size
    suggested = suggested_rate(objective, model)
    found = setting_findings(
        config, objective, Planned(rows, steps, peak, suggested, trained, width)
    )
    require_accepted(found, Refused)
    return found


def prove_rows(
    config: Config,
    learner: UpdateContext,
    optimizer: Optimizer,
    reference_kind: str,
    rows: Sequence[Tree],
    display: Display,
    spread: Sequence[Tree] = (),
) -> list[Finding]:
    """Run the proofs on some rows; refuse with all that failed.

    Args:
      spread: rows of the run's shortest, middle and longest length.
    """
    display.phase("proofs", "step 0: the run proves itself")
    lora = config.model.lora
    # A reference that fills a cache from the policy itself moves with it: that pass ends before the
    # first update.
    fixed = learner.forward.model.has_adapters or reference_kind != "cached"
    alone, exact = replace(learner, world=ALONE), not (lora is not None and lora.dora)
    proofs = prove(alone, optimizer, rows, exact=exact, fixed=fixed, spread=spread)
    proofs = of_all_ranks(learner.world, proofs)
    require_accepted(proofs, Refused)
    return proofs


def require_accepted(found: Sequence[Finding], error: type[Exception]) -> None:
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

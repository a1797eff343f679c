"""Evaluation that disturbs, figures and files that are not what they say."""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.models import export
from accord.runs import checkpoint
from accord.training import file_source, loop
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.world import World


def evaluating(act):
    def spoil(world: World) -> None:
        right = file_source.held.evaluate

        def evaluate(held_out, forward, *rest):
            act(forward)
            return right(held_out, forward, *rest)

        world.patch(file_source.held, "evaluate", evaluate)

    return spoil


def nudge_weights(forward) -> None:
    with torch.no_grad():
        next(iter(forward.model.trainable().values())).add_(1e-3)


def held_reference_misaligned(world: World) -> None:
    right = file_source.held.evaluate

    def evaluate(held_out, forward, objective, known, *rest):
        if not held_out.reference:
            for number, group in enumerate(held_out.groups(held_out.trees)):
                logps = known.logps(group)
                held_out.reference[number] = replace(logps, sum=logps.sum.roll(2))
        return right(held_out, forward, objective, known, *rest)

    world.patch(file_source.held, "evaluate", evaluate)


def losses_counted_as_wins(world: World) -> None:
    right = loop.summarise

    def summary(*given):
        out = right(*given)
        return out | {"rewards/accuracies": 1 - out["rewards/accuracies"]}

    world.patch(loop, "summarise", summary)


def checkpoint_incomplete(world: World) -> None:
    right = checkpoint.save_file
    world.patch(
        checkpoint,
        "save_file",
        lambda tensors, *rest: right(dict(list(tensors.items())[:-1]), *rest),
    )


def other_model_saved(world: World) -> None:
    right = export.save

    def save(model, folder, masters, made=export.UNKNOWN, *, card=False):
        moved = {name: m * 1.5 for name, m in masters.items()}
        right(model, folder, moved, made, card=card)

    world.options["learning_rate"] = 1e-2
    world.patch(export, "save", save)


def damaged_checkpoint(world: World) -> None:
    """The newest checkpoint is cut in half; the run is resumed."""
    resumed(
        world, lambda folder: _halve(max(folder.glob("checkpoints/step-*")) / "tensors.safetensors")
    )


def other_data_on_resume(world: World) -> None:
    def change(folder):
        file = world.folder / "train.jsonl"
        file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[::-1]))

    resumed(world, change)


def _halve(file) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def resumed(world: World, change) -> None:
    """Train six of ten updates, stop as by a signal, change something, resume; what is said aloud
    becomes an error.
    """
    from accord.runs.display import Display
    from accord.training.run import resume
    from accord.types import Interrupted, Refused
    from benchmarks.silentbench import accord_side

    update, output = loop.make_update, world.folder / "stopped"

    def stopping(run):
        update(run)
        run.stop.signal = 15 if run.progress.step == 6 else None

    world.settings["checkpoint.every"] = 2
    try:
        loop.make_update = stopping
        accord_side.train(world, output)
    except Interrupted:
        pass
    finally:
        loop.make_update = update
    change(output)
    said: list[str] = []
    display = Display()
    display.line = said.append
    resume(str(output), display)
    raise Refused("\n".join(line for line in said if line.startswith("!")))


FAULTS = (
    Fault(
        "33",
        "evaluation moves the random state",
        "evaluating changed the random state",
        evaluating(lambda forward: torch.rand(1)),
    ),
    Fault(
        "33",
        "evaluation leaves the network in training mode",
        "evaluating changed the modules' modes",
        evaluating(lambda forward: forward.model.network.train()),
    ),
    Fault(
        "33",
        "evaluation moves the weights",
        "evaluating changed weights",
        evaluating(nudge_weights),
    ),
    Fault(
        "20",
        "the held-out rows' reference is misaligned",
        "on the held-out rows",
        held_reference_misaligned,
    ),
    Fault("32", "losses are counted as wins", "rewards/accuracies", losses_counted_as_wins),
    Fault(
        "37",
        "a checkpoint lacks a tensor",
        "does not hold the state in memory",
        checkpoint_incomplete,
    ),
    Fault(
        "23",
        "another model is saved than was trained",
        r"computes other logits|read back with other values",
        other_model_saved,
    ),
    Fault(
        "37",
        "a checkpoint cut in half, then resumed",
        r"checkpoint passed over: step-000006: tensors\.safetensors has",
        damaged_checkpoint,
    ),
    Fault("36", "other training data on resume", "the training data", other_data_on_resume),
)

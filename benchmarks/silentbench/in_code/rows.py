"""Rows, masks and sides that are not the file's."""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.data.read import Stream
from accord.data.store import encode as stored
from accord.data.templates import Template
from accord.forward import logps
from accord.forward.layout import pack
from accord.forward.rows import as_rows
from accord.types import PairLogps
from accord.verify import preflight
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import everywhere, later, with_path
from benchmarks.silentbench.in_code.trl_patches import trl_inputs
from benchmarks.silentbench.world import World


def swapped_sides(world: World) -> None:
    def swapping(kind, trees, values):
        made = as_rows(kind, trees, values)
        return PairLogps(made.rejected, made.chosen) if kind == "pairs" else made

    everywhere(world, "as_rows", swapping)


def off_by_one(world: World) -> None:
    def shifted(trees, *device):
        layout = pack(trees, *device)
        return replace(layout, source=(layout.source + 1).clamp(max=len(layout.ids) - 1))

    world.patch(logps, "pack", shifted), world.patch(preflight, "pack", shifted)


def prompt_scored(world: World, chosen) -> None:
    """Answer tokens and the last tokens of the prompt are scored alike."""

    def scoring(right, model, trees):
        wider = [
            replace(
                t,
                prompt=t.prompt[:-3],
                completions=tuple((*t.prompt[-3:], *c) for c in t.completions),
            )
            for t in trees
        ]
        return right(model, wider)

    with_path(world, chosen, scoring)


def padded_scores_prompt(world: World) -> None:
    """The padded rows begin one token too early, for the path and for the oracle alike."""
    right = logps.padded_rows

    def wider(trees, device):
        return right(
            [
                replace(
                    t,
                    prompt=t.prompt[:-1],
                    completions=tuple((t.prompt[-1], *c) for c in t.completions),
                )
                for t in trees
            ],
            device,
        )

    world.patch(logps, "padded_rows", wider)
    world.settings["model.forward"] = "padded"


def end_dropped(world: World) -> None:
    """EOS is masked, as where padding is EOS."""
    right = Template._end_once
    world.patch(Template, "_end_once", lambda self, ids: right(self, ids)[:-1])


def neighbours(world: World, chosen) -> None:
    """An answer's log-prob depends a little on the other rows of its pack."""

    def leaking(right, model, trees):
        out = right(model, trees)
        return replace(out, values=out.values + 0.05 * (len(trees) - 1))

    with_path(world, chosen, leaking)


def answers_rotated(world: World) -> None:
    """Every prompt gets the answers of the row after it."""
    right = stored.encode

    def rotated(examples, template, limits, progress):
        moved = [
            replace(e, chosen=n.chosen, rejected=n.rejected)
            for e, n in zip(examples, [*examples[1:], examples[0]], strict=True)
        ]
        encoding = right(moved, template, limits, progress)
        encoding.examples = examples
        return encoding

    world.patch(stored, "encode", rotated)


def sides_read_wrong(world: World) -> None:
    """The reader takes `rejected` for `chosen`."""
    right = Stream.__iter__

    def reading(stream):
        for example in right(stream):
            yield replace(example, chosen=example.rejected, rejected=example.chosen)

    world.patch(Stream, "__iter__", reading)


FAULTS = (
    Fault(
        "new",
        "chosen and rejected swapped on the way to the loss",
        "chosen and rejected are swapped",
        swapped_sides,
        trl_inputs(
            lambda inputs, trainer: {
                k: torch.cat(v.chunk(2)[::-1]) if torch.is_tensor(v) and v.shape[0] % 2 == 0 else v
                for k, v in inputs.items()
            }
        ),
    ),
    Fault(
        "9",
        "labels off by one",
        "from the token before it|differ from the model's own",
        off_by_one,
        trl_inputs(
            lambda inputs, trainer: (
                inputs | {"completion_mask": inputs["completion_mask"].roll(1, dims=1)}
            )
        ),
    ),
    Fault(
        "10",
        "prompt tokens in the loss",
        "other tokens than the answer's|counts .* answer tokens",
        later(prompt_scored),
        trl_inputs(lambda inputs, trainer: inputs | {"completion_mask": inputs["attention_mask"]}),
    ),
    Fault(
        "10",
        "a prompt token in the loss, in path and oracle alike",
        "other tokens than the answer's|counts .* answer tokens",
        padded_scores_prompt,
    ),
    Fault(
        "4",
        "EOS masked, since padding is EOS",
        "end token|end in an end",
        end_dropped,
        trl_inputs(
            lambda inputs, trainer: (
                inputs
                | {
                    "completion_mask": (
                        inputs["completion_mask"]
                        * (inputs["input_ids"] != trainer.processing_class.eos_token_id)
                    )
                }
            )
        ),
    ),
    Fault(
        "14",
        "neighbours in a pack change a row's log-prob",
        "depend on the batch",
        later(neighbours),
    ),
    Fault("12", "answers under the wrong prompt", "not the row's", answers_rotated),
    Fault("12", "the reader swaps chosen and rejected", "in the file|swapped", sides_read_wrong),
)

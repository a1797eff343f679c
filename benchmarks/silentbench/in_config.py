"""Faults in what is asked for: values that do nothing, or something else than they say."""

from __future__ import annotations

from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.world import World, text


def ask(options: dict | None = None, settings: dict | None = None):
    """An accord run with these options and fields."""

    def spoil(world: World) -> None:
        world.options |= options or {}
        world.settings |= settings or {}

    return spoil


def ask_trl(**options):
    return lambda world: world.trl.update(options)


def labels(change):
    """Rows with labels instead of pairs, changed by `change(number, label)`."""

    def spoil(world: World) -> None:
        world.rows = [
            {
                "prompt": row["prompt"],
                "completion": row[side],
                "label": change(number, side == "chosen"),
            }
            for number, row in enumerate(world.rows)
            for side in ("chosen", "rejected")
        ]
        world.held, world.options["method"], world.trl["_trainer"] = [], "kto", "kto"

    return spoil


def few_per_batch(world: World) -> None:
    labels(lambda number, good: good)(world)
    world.options["batch_size"], world.trl["per_device_train_batch_size"] = 1, 1


def strings(world: World) -> None:
    """Plain strings: TRL trains any model on them without its template."""
    for row in (*world.rows, *world.held):
        row.update({column: text(row, column) for column in ("prompt", "chosen", "rejected")})


def raw_text(world: World) -> None:
    strings(world)
    world.options["template"] = "raw"


CONFIG = (
    Fault("5", "chat model trained on raw text", "chat template", raw_text, strings),
    Fault("35", "beta = 0", r"beta", ask({"beta": 0.0}), ask_trl(beta=0.0)),
    Fault("35", "beta = 1e-5", r"beta", ask({"beta": 1e-5}), ask_trl(beta=1e-5)),
    Fault(
        "35",
        "label smoothing of one half",
        "label_smoothing|smoothing",
        ask({"method": "robust", "label_smoothing": 0.5}),
        ask_trl(loss_type=["robust"], label_smoothing=0.5),
    ),
    Fault(
        "35",
        "gamma under another tool's name",
        "gamma",
        ask({"method": "simpo", "simpo_gamma": 0.5}),
    ),
    Fault(
        "40",
        "an option that does nothing",
        "unknown|does not know|unexpected keyword",
        ask(settings={"train.padding_free": True}),
        ask_trl(padding_fre=True),
    ),
    Fault(
        "40",
        "an option of another objective",
        "does not know|no effect|unused",
        ask({"method": "ipo", "label_smoothing": 0.1}),
        ask_trl(loss_type=["ipo"], label_smoothing=0.1),
    ),
    Fault(
        "25",
        "a loss that does not exist",
        "no objective|Unknown loss",
        ask({"method": "sigmiod"}),
        ask_trl(loss_type=["sigmiod"]),
    ),
    Fault(
        "40",
        "a reference for a method that has none",
        "uses none|uses no reference",
        ask({"method": "simpo", "reference": "frozen"}),
    ),
    Fault(
        "16",
        "adapters switched off as reference, and no adapters",
        "needs adapters",
        ask({"lora": False, "reference": "adapter_off"}),
    ),
    Fault(
        "27",
        "a learning rate that float32 cannot add",
        "learning_rate|did not move|swallows|smaller than float32",
        ask({"learning_rate": 1e-14, "lora": False}),
        ask_trl(learning_rate=1e-14, _peft=False),
    ),
    Fault("30", "KTO with batches of one row", "other prompts|batch", few_per_batch, few_per_batch),
    Fault(
        "30",
        "KTO with labels all alike",
        "nothing to compare|different amounts of desirable",
        labels(lambda number, good: True),
        labels(lambda number, good: True),
    ),
    Fault(
        "46",
        "KTO with labels as words",
        "label",
        # "good" and "bad" are understood; these are nobody's labels
        labels(lambda number, good: "blue" if good else "red"),
        labels(lambda number, good: "blue" if good else "red"),
    ),
    Fault(
        "new",
        "adapters on modules that do not exist",
        "targets|target modules|target_modules",
        ask(settings={"model.lora.targets": ["c_attn"]}),
        ask_trl(_targets=["c_attn"]),
    ),
)

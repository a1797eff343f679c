"""The analogous places in TRL."""

from __future__ import annotations

from benchmarks.silentbench.world import World


def trl_loss(change):
    """TRL's loss, changed: `change(loss, trainer)`."""

    def spoil(world: World) -> None:
        from trl import DPOTrainer

        right = DPOTrainer._compute_loss

        def computing(self, model, inputs, return_outputs):
            out = right(self, model, inputs, return_outputs)
            return (change(out[0], self), *out[1:]) if isinstance(out, tuple) else change(out, self)

        world.patch(DPOTrainer, "_compute_loss", computing)

    return spoil


def trl_inputs(change):
    """What TRL's loss is given, changed: `change(inputs, trainer)`."""

    def spoil(world: World) -> None:
        from trl import DPOTrainer

        right = DPOTrainer._compute_loss
        world.patch(
            DPOTrainer,
            "_compute_loss",
            lambda self, model, inputs, outputs: right(
                self, model, change(dict(inputs), self), outputs
            ),
        )

    return spoil


def trl_made(act, **options):
    """Something done to TRL's trainer before it trains."""

    def spoil(world: World) -> None:
        world.trl |= options | {"_prepare": act}

    return spoil


def _roll_reference(trainer) -> None:
    """Reference log-probs of TRL's precomputed columns, moved by one row."""
    prepare_dataset = trainer.train_dataset

    def rolled(column: str) -> list:
        values = prepare_dataset[column]
        return [*values[1:], values[0]]

    names = [
        name
        for name in ("ref_chosen_logps", "ref_rejected_logps")
        if name in prepare_dataset.column_names
    ]
    if not names:
        raise RuntimeError(
            "TRL computed no reference columns before training: the fault was not injected"
        )
    for name in names:
        values = rolled(name)
        prepare_dataset = prepare_dataset.remove_columns(name).add_column(name, values)
    trainer.train_dataset = prepare_dataset

"""Where accord is patched: what is replaced is undone when the case is over."""

from __future__ import annotations

from accord.engine import gradients, step
from accord.forward import choose, logps
from accord.training import loop
from accord.training.setup import offline
from accord.verify import independent, preflight
from benchmarks.silentbench.world import World


def everywhere(world: World, name: str, value: object) -> None:
    """Replace a function in every module of training that imported it: a bug has no second, sound
    copy.
    """
    for module in (step, preflight, gradients, independent, loop, offline):
        if hasattr(module, name):
            world.patch(module, name, value)


def losing(change):
    """What the objective returns, changed."""

    def spoil(world: World) -> None:
        right = step.row_losses
        everywhere(world, "row_losses", lambda *given: change(right, *given))

    return spoil


def later(change, options: dict | None = None):
    """Something done to the model once the forward path was chosen: a fault that the choice cannot
    see.
    """

    def spoil(world: World) -> None:
        world.options |= options or {}

        def choosing(model, probe, wanted):
            chosen = choose.choose(model, probe, wanted)
            return change(world, chosen) or chosen

        world.patch(offline, "choose", choosing)

    return spoil


def during(after: int, act, options: dict | None = None):
    """Something that happens once so many updates were made."""

    def spoil(world: World) -> None:
        world.options |= options or {}
        update = loop.make_update

        def updating(run):
            if run.progress.step == after:
                act(world, run)
            update(run)

        world.patch(loop, "make_update", updating)

    return spoil


def with_path(world: World, chosen, compute):
    """The chosen forward, whose path is replaced by `compute(right, model, trees)`."""
    right = logps.PATHS[chosen.path]
    world.stack.enter_context(
        _entry(logps.PATHS, chosen.path, lambda model, trees: compute(right, model, trees))
    )


class _entry:
    """One entry of a table, replaced for a while."""

    def __init__(self, table: dict, key: str, value: object):
        self.table, self.key, self.value = table, key, value

    def __enter__(self):
        self.before, self.table[self.key] = self.table[self.key], self.value

    def __exit__(self, *_):
        self.table[self.key] = self.before

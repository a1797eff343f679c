"""Hub names of a run, pinned: a branch moves, and a run that goes on must not move with it."""

from __future__ import annotations

from collections.abc import Sequence

from accord.config.recipe_paths import change_names
from accord.config.schema import Config, make_config
from accord.data.hub import pinned_data
from accord.distributed.world import World
from accord.environment.hub.names import is_hub
from accord.models.hub import pinned_model


def pinned(config: Config) -> Config:
    """Return a config whose hub names have the commits that they stand for now.

    Raises:
      AccordError: a name stands for nothing, in words.
    """
    raw = config.model_dump(mode="json")
    before = config.model_dump(mode="json")
    pin(raw)
    return config if raw == before else make_config(raw)


def pinned_alike(config: Config, world: World) -> Config:
    """Return the config with the same commits on every rank: those that the first one finds."""
    if not hub_names(config):
        return config
    return make_config(world.on_first(lambda: pinned(config).model_dump(mode="json")))


def pin(raw: dict, parts: Sequence[str] = ()) -> None:
    """Write the commits into the hub names of a recipe's mapping.

    Args:
      parts: keys that hold a recipe of their own.

    Raises:
      AccordError: a name stands for nothing, in words.
    """
    change_names(raw, _pinned, parts=parts)


def hub_names(config: Config) -> dict[str, str]:
    """Return the hub names of a config, by field."""
    found: dict[str, str] = {}

    def note(value: str, field: str, where: str) -> str:
        if is_hub(value):
            found[where] = value
        return value

    change_names(config.model_dump(mode="json"), note)
    return found


def _pinned(value: str, field: str, where: str) -> str:
    if not is_hub(value):
        return value
    if field.startswith("data."):
        return pinned_data(value)
    name, sign, weight = value.rpartition("=") if field.startswith("rollouts.") else (value, "", "")
    return pinned_model(name or value) + (sign + weight if name else "")

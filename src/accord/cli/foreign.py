"""Flags of other tools on the command line of `accord train`: accepted where they mean the same,
answered with accord's own where they do not.

What a flag means stands in the tables of `accord.migrate`, which also turn whole files into
recipes. A flag is accepted if its rule there is a renaming and nothing more: the field takes the
value as it is, and no note says what differs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord.errors import UsageError

if TYPE_CHECKING:
    from accord.migrate.reading import Line, Reading

# of TRL and Axolotl
ADAPTERS = (
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
    *("load_in_4bit", "load_in_8bit"),
)


def translate(
    known: list[str], foreign: list[str], options: Collection[str], say: Callable[[str], None]
) -> list[str] | None:
    """Return the arguments with another tool's flags in accord's own words.

    Args:
      known: the arguments that accord knows.
      foreign: unknown options, each with the words behind it.
      options: the command's own options.
      say: gets one line on what was translated.

    Returns:
      None if a flag is no other tool's either.

    Raises:
      UsageError: a flag does not mean the same here. It has the whole command as it would be here.
    """
    from accord.migrate.run import arguments

    flags = arguments(shlex.join(foreign))
    reading = _read(flags)
    if reading is None:
        return None
    lines = [line for line in reading.lines if _about(line, flags, reading)]
    typed = {id(line): _typed(line, options) for line in lines}
    ours = [word for line in lines for word in typed[id(line)]]
    if all(line.fate == "mapped" and not line.note for line in lines):
        if ours:
            say(f"· {reading.tool.name}'s {shlex.join(foreign)} is here {shlex.join(ours)}")
        return [*known, *ours]
    names = [f"--{line.key}" if line.key in flags else line.key for line in lines]
    told = "\n".join(
        f"  {name}: {_told(line, typed[id(line)])}" for name, line in zip(names, lines, strict=True)
    )
    raise UsageError(
        f"These are flags of {reading.tool.name}, and not all of them mean the same here:\n{told}\n"
        f"With that in mind:\n{shlex.join(['accord', 'train', *known, *ours])}"
    )


def _about(line: Line, flags: dict[str, Any], reading: Reading) -> bool:
    """Tell whether a line of the account is about what was typed, and not about a default."""
    if line.key in flags:
        return True
    went_to = {one.path: one.value for one in reading.lines if one.key in flags}
    if line.fate != "to do" or Path(str(went_to.get(line.key, ""))).suffix:
        return False  # what has a suffix is no name on a hub: its file is missing, and is reported
    return line.key in went_to or "use_peft" in flags


def _read(flags: dict[str, Any]) -> Reading | None:
    """Read flags by the rules of the first tool that knows them all."""
    from accord.migrate.reading import read_known
    from accord.migrate.run import ASSUMED, TOOLS

    for tool in TOOLS.values():
        assumed = dict(ASSUMED[tool.name])
        if any(key in flags for key in ADAPTERS) and tool.name == "TRL":
            assumed["use_peft"] = True  # accord trains adapters unless it is told otherwise
        if any(key in flags for key in ADAPTERS) and tool.name == "Axolotl":
            assumed["adapter"] = "lora"
        reading = read_known(tool, assumed | flags)
        if not set(flags) & set(reading.settings):
            return reading
    return None


def _typed(line: Line, options: Collection[str]) -> list[str]:
    """Return a line of the account as options of `accord train`."""
    from accord.config.build import SHORT

    if line.fate != "mapped":
        return []
    if line.path == "model.lora" and line.value is None:
        return ["--all-weights"]
    value = line.value if isinstance(line.value, str) else json.dumps(line.value)
    value = value.removesuffix(".0")
    if line.path == "objective.beta":
        return ["--beta", value]
    names = {path: f"--{name.replace('_', '-')}" for name, path in SHORT.items()}
    if (own := names.get(line.path)) in options:
        return [str(own), value]
    return ["--set", f"{line.path}={value}"]


def _told(line: Line, typed: list[str]) -> str:
    if line.fate == "mapped":
        note = line.note.partition(" (--devices")[0]  # an option of accord import
        return f"{shlex.join(typed)}{f'; {note}' if note else ''}"
    return f"{'leave it out; ' if line.fate == 'not needed' else ''}{line.text}"

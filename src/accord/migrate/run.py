"""The work of `accord import FILE`: find out whose file it is, deal with every key, write a
recipe.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from accord.config.recipe_paths import rebase_paths
from accord.config.schema import load_recipe, make_config
from accord.config.secrets import refuse_secrets
from accord.errors import UsageError, printable
from accord.migrate import python_calls
from accord.migrate.axolotl import AXOLOTL
from accord.migrate.llama_factory import LLAMA_FACTORY
from accord.migrate.reading import Line, Tool, read, read_known
from accord.migrate.trl import TRL

TOOLS = {"trl": TRL, "axolotl": AXOLOTL, "llama-factory": LLAMA_FACTORY}
# Keys without which a tool's rules read nothing: what stands for them where a line of flags has
# none. Nothing of the answer comes from them.
ASSUMED: dict[str, dict[str, Any]] = {
    "TRL": {},
    "Axolotl": {"rl": "dpo"},
    "LLaMA-Factory": {"stage": "dpo"},
}
FATES = ("mapped", "default", "to do", "no equivalent", "not needed")
ARGUMENT_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Imported:
    """A recipe, and what became of each setting."""

    tool: str
    recipe: dict[str, Any]
    lines: tuple[Line, ...]

    def account(self) -> str:
        """Return the account for people: one key per line, most important first."""
        kept = [line for fate in FATES for line in self.lines if line.fate == fate]
        return "\n".join(
            [
                f"read as a file of {self.tool}",
                *(f"  {line.fate:<13} {line.key}: {line.text}" for line in kept),
            ]
        )

    def yaml(self, file: str | None = None) -> str:
        """Return the recipe, headed by what has to be done and what is lost.

        Args:
          file: the file that it will stand in, beside which its paths begin; None for the working
            directory.
        """
        recipe = copy.deepcopy(self.recipe)
        if file is not None:
            rebase_paths(recipe, file)
        lost = [
            f"# {line.fate}: {line.key}: {line.text}"
            for line in self.lines
            if line.fate in ("to do", "no equivalent")
        ]
        head = "\n".join(
            [
                f"# From a file of {self.tool}, by accord import.",
                *(printable(text) for text in lost),
            ]
        )
        return f"{head}\n{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "tool": self.tool,
            "recipe": self.recipe,
            "lines": [{"fate": i.fate, "key": i.key, "text": i.text} for i in self.lines],
        }


def import_settings(
    file: str, tool: str | None = None, devices: int = 1, leave_out: Sequence[str] = ()
) -> Imported:
    """Convert another tool's settings into a recipe.

    Args:
      file: YAML, a text file with the arguments as they were typed (`trl dpo --beta 0.1 …`,
        `--beta 0.1 \\ …`), or Python with a DPOConfig(…) of TRL's, which is read and not run.
      tool: trl, axolotl or llama-factory; None judges by the keys.
      devices: GPUs that the file was meant for.
      leave_out: keys to go on without.

    Raises:
      UsageError: the file is none of these, a key is unknown, a loss or a value has no equivalent.
    """
    settings = _settings(file, tuple(leave_out))
    chosen = _tool(tool, settings, file)
    reading = read(chosen, settings, devices, tuple(leave_out))
    data = reading.recipe.setdefault("data", {})
    if "train" not in data:
        reading.say("to do", "data.train", "the file names no data: --data FILE")
    refuse_secrets(make_config(reading.recipe | {"data": {"train": "missing"} | data}))
    return Imported(chosen.name, reading.recipe, tuple(reading.lines))


def _settings(file: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    path = Path(file).expanduser()
    if (
        path.is_file()
        and path.suffix not in (".yaml", ".yml", ".json")
        and path.stat().st_size < ARGUMENT_BYTES
    ):
        text = path.read_text(encoding="utf-8", errors="replace")
        if python_calls.is_python(text):
            return python_calls.settings_of(text, leave_out)
        if path.suffix == ".py":
            raise python_calls.nothing_found(file, text)
        if "--" in text:
            return arguments(text)
    return {str(key): _switch(value) for key, value in load_recipe(file).items()}


def _switch(value: Any) -> Any:
    """Read "true" and "false" in quotation marks as these tools' parsers do."""
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def place_of(key: str, value: object) -> tuple[str, str] | None:
    """Return the tool that has a setting of this name, and the field of a recipe that it is here;
    None where no tool has it, or it has no such field.
    """
    for tool in TOOLS.values():
        try:
            lines = read_known(tool, ASSUMED[tool.name] | {key: value}).lines
        except UsageError:  # a value that it does not take there
            continue
        for line in lines:
            if line.key == key and line.fate == "mapped":
                return tool.name, line.path
    return None


def arguments(text: str) -> dict[str, Any]:
    """Parse settings from a command line: `--beta 0.1`, `--beta=0.1`, `--use_peft`,
    `--no_use_peft`, several values after one flag.
    """
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise UsageError(f"the arguments cannot be read: {error}.") from error
    found: dict[str, list] = {}
    if "trl" in words[:6]:
        found["trainer"] = words[words.index("trl") + 1 : words.index("trl") + 2]
    values: list | None = None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            values = found.setdefault(name.replace("-", "_"), [])
            if equals:
                values.append(value)
        elif values is not None:
            values.append(word)
    switched_off = {
        name.removeprefix("no_"): False
        for name, values in found.items()
        if name.startswith("no_") and not values
    }
    return {
        name: _value(values)
        for name, values in found.items()
        if name.removeprefix("no_") not in switched_off
    } | switched_off


def _value(words: list[str]) -> Any:
    if not words:
        return True
    try:
        read_ = [yaml.safe_load(word) for word in words]
    except yaml.YAMLError:
        read_ = words
    return read_[0] if len(read_) == 1 else read_


def _tool(name: str | None, settings: Mapping[str, Any], file: str) -> Tool:
    if name is not None:
        if name not in TOOLS:
            raise UsageError(f"--from {name}: expected {', '.join(TOOLS)}.")
        return TOOLS[name]
    signs = {tool.name: len(tool.signs & set(settings)) for tool in TOOLS.values()}
    best = max(signs.values())
    likely = [tool for tool in TOOLS.values() if signs[tool.name] == best]
    if not best or len(likely) > 1:
        raise UsageError(
            f"{file}: cannot tell whose settings these are. Say so: --from {' or '.join(TOOLS)}."
        )
    return likely[0]

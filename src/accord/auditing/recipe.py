"""The advice in writing: as a recipe that `accord train` takes, and as lines for a person."""

from __future__ import annotations

import json
from pathlib import Path

from accord.auditing.advise import Advice
from accord.config.recipe_paths import rebased
from accord.data.write import check_absent
from accord.errors import plural, printable
from accord.runs.display import MARKS


def recipe(advice: Advice, command: str, file: str = "recipe.yaml") -> str:
    """Write the recipe as YAML; each line ends with its reason.

    `accord train` can read it as `file`, beside which its paths begin. Texts are written as YAML's
    own quoted strings.
    """
    lines = [
        f"# {advice.method}: {advice.why}",
        f"# made by: {printable(command)}",
        (
            f"# one epoch, roughly: {plural(advice.estimate['minutes'], 'minute')},"
            f" {advice.estimate['memory_gb']} GB ({advice.estimate['how']})"
        ),
    ]
    section = ""
    for setting in sorted(
        advice.settings, key=lambda each: SECTIONS.index(each.path.split(".")[0])
    ):
        name, key = setting.path.split(".")
        if name != section:
            lines.append(f"{name}:")
            section = name
        value = rebased(str(setting.value), file) if setting.path in PATHS else setting.value
        lines.append(f"  {key}: {_yaml(value)}  # {printable(str(setting.reason))}")
    return "\n".join(lines) + "\n"


SECTIONS = ["model", "data", "objective", "train"]
PATHS = ("model.name", "data.train", "data.held_out")


def _yaml(value: object) -> str:
    if isinstance(value, (str, dict, list)):
        return json.dumps(value)  # JSON is YAML, whatever is in it
    if isinstance(value, float):
        return (
            f"{value:.1e}"
            if 0 < abs(value) < 1e-3
            else f"{value:g}"
            if value != int(value)
            else f"{value:.1f}"
        )
    return "null" if value is None else str(value)


def write_recipe(advice: Advice, path: str, command: str) -> None:
    """Write the recipe.

    Raises:
      UsageError: something stands there already.
    """
    check_absent(path)
    Path(path).write_text(recipe(advice, command, path), encoding="utf-8")


def lines(advice: Advice) -> list[str]:
    """Format the advice for a person."""
    out = [advice.headline]
    if advice.first:
        mark, heading = (
            (MARKS["warning"], "Better mended first:")
            if advice.ready
            else (MARKS["refused"], "Mend this first:")
        )
        out += [heading, *(f"  {mark} {each}" for each in advice.first)]
        out += [] if advice.ready else ["If you train all the same:"]
    if advice.size:
        out.append(f"Amount: {advice.size}")
    out += [f"Method: {advice.method}", f"  because {advice.why}", "Not:"]
    out += [f"  {name}: {why}" for name, why in advice.others.items()]
    out += ["Settings:", *(f"  {s.path} = {_yaml(s.value)}   {s.reason}" for s in advice.settings)]
    estimate = advice.estimate
    out.append(
        f"One epoch, roughly: {plural(estimate['minutes'], 'minute')} and {estimate['memory_gb']}"
        " GB;"
        f" {estimate['how']}"
    )
    return out

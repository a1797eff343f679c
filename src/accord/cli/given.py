"""Words that a user gave, as they were meant: data or a recipe, a method, a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from accord.environment.hub.names import is_hub
from accord.environment.nearest import did_you_mean
from accord.errors import UsageError

Data = str | list[dict] | None  # a path, or files as a recipe lists them
RECIPES = (".yaml", ".yml")
RUNS = "runs"  # the folder in which accord train makes new ones


def method_name(name: str | None) -> str | None:
    """Return a method as the tables have it: DPO is dpo, and dr-grpo is dr_grpo."""
    if name is None or ":" in name:  # a module's name keeps its capitals
        return name
    # not the minus of a weight in a mixture, 1e-3*sft
    return re.sub(r"-(?=[a-z])", "_", name.strip().lower())


def method_names(names: str) -> str:
    """Return several methods, as --methods takes them, in the tables' own letters."""
    return ",".join(method_name(name) or "" for name in names.split(","))


def named_files(words: Sequence[str] | None, weights: bool = False) -> str | list[dict] | None:
    """Read the values of an option that may stand there several times: a path, or a list of files
    as a recipe has it.

    Args:
      weights: PATH=WEIGHT is a file with its weight, unless there is a file of that whole name.
    """
    files: list[dict] = []
    for word in words or ():
        path, _, weight = word.rpartition("=")
        if weights and path and not Path(word).expanduser().exists():
            with suppress(ValueError):
                files.append({"path": path, "weight": float(weight)})
                continue
        files.append({"path": word})
    if len(files) == 1 and "weight" not in files[0]:
        return files[0]["path"]
    return files or None


def are_methods(word: str) -> bool:
    """Tell whether a word is the name of a method, or several with commas between."""
    from accord.objectives.policy_table import POLICY_OBJECTIVES
    from accord.objectives.table import OBJECTIVES

    return all(method_name(one) in OBJECTIVES | POLICY_OBJECTIVES for one in word.split(","))


def recipe_or_data(word: str | None, data: Data) -> tuple[str | None, Data]:
    """Tell what the word behind `accord train` is: (recipe, data).

    Raises:
      UsageError: data is given twice, or the word is a run, a model or nothing that is there.
    """
    if word is None:
        return None, data
    from accord.config.shipped import hint

    path = Path(word).expanduser()
    if is_hub(word):
        return None, _alone(word, data)
    shown = _spelled(data)
    if path.suffix in RECIPES or _holds_settings(path):
        return word, data
    if (path / "config.yaml").is_file():
        raise UsageError(f"{word}: a run, and no recipe. Go on with it: accord resume {word}")
    if (path / "config.json").is_file():
        raise UsageError(
            f"{word}: a model's folder. Name it as the model: accord train --model {word} --data"
            f" {shown or 'FILE'}"
        )
    if not path.exists() and are_methods(word):
        raise UsageError(
            f"{word} is a method, which has an option: accord train --method {method_name(word)}"
            f" --data {shown or 'FILE'}"
        )
    if word != "-" and not path.exists() and not any(sign in word for sign in "*?["):
        raise UsageError(
            f"{word}: no such recipe, and no such file of preferences.{did_you_mean(word)}"
            f" {hint(word)}"
        )
    return None, _alone(word, data)


def _spelled(data: Data) -> str:
    """Spell the values of --data as they were typed."""
    return data if isinstance(data, str) else " --data ".join(f["path"] for f in data or ())


def _alone(word: str, data: Data) -> str:
    """Return a word that is data; raises UsageError where data is given beside it."""
    if data is not None:
        raise UsageError(
            f"{word} and --data {_spelled(data)}: both are data. Leave one of the two out; held-out"
            " rows are given with --held-out."
        )
    return word


def _holds_settings(path: Path) -> bool:
    """Tell whether a JSON file, or one without a suffix, is a recipe: a mapping with its sections.

    The file is small, or it is data.
    """
    from accord.config.schema import RECIPE_BYTES, Config, load_recipe

    if path.suffix not in ("", ".json") or not path.is_file():
        return False
    if path.stat().st_size > RECIPE_BYTES:
        return False
    try:
        found = load_recipe(str(path))
    except UsageError:
        return False
    return bool(found) and set(found) <= set(Config.model_fields)


def runs_to_show(words: list[str], say: Callable[[str], None]) -> list[str]:
    """Return the runs to report on: those that are named, or the newest of a folder of runs.

    Raises:
      UsageError: no run there.
    """
    from accord.runs.nearby import newest, runs_in

    if len(words) > 1 or (words and (Path(words[0]).expanduser() / "config.yaml").is_file()):
        return words
    folder = words[0] if words else RUNS
    found = runs_in(folder)
    if not found:
        if words:
            return words  # the report says what is wrong with it
        raise UsageError(
            f"No run is named, and {RUNS}/ has none. Name one: accord report FOLDER\n"
            "Or make one: accord train --data FILE --held-out FILE"
        )
    chosen = newest(found)
    say(f"{folder} holds {len(found):,} run{'s' * (len(found) > 1)}; the newest is {chosen}")
    return [str(chosen)]

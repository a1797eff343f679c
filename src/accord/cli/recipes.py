"""The command of the recipes that ship with accord. Nothing heavy is imported."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli.options import Json
from accord.config.shipped import Shipped, shipped
from accord.errors import UsageError


def add_recipes_command(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put `accord recipes` into the application; `run` and `say` as for `add_data_commands`."""

    @app.command()
    def recipes(
        name: Annotated[
            str | None, typer.Argument(help="A recipe of the list; without --output printed.")
        ] = None,
        output: Annotated[
            str | None, typer.Option("--output", help="File to write; must not exist.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """List the recipes that ship with accord. Print one, or write it to a file of your own."""

        def work():
            def tell(text: str) -> None:
                say(as_json, text)

            return _list(output, tell) if name is None else _give(_named(name), output, tell)

        run(work, as_json)


def _list(output: str | None, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    if output is not None:
        raise UsageError(
            f"--output {output} without a recipe's name. Name one of the list that accord recipes"
            f" prints, such as: accord recipes sentiment_dpo --output {output}"
        )
    found = list(shipped().values())
    names, rows = (
        max(map(len, column)) for column in ([r.name for r in found], [r.rows for r in found])
    )
    tell(f"{'recipe':<{names}}  minutes  {'rows':<{rows}}  shows")
    for one in found:
        tell(f"{one.name:<{names}}  {one.minutes:>7}  {one.rows:<{rows}}  {one.shows}")
    tell("\nminutes as measured on 2 CPU cores; each recipe says what to expect")
    tell("write one: accord recipes sentiment_dpo --output sentiment_dpo.yaml")
    return [_as_dict(one) for one in found]


def _give(recipe: Shipped, output: str | None, tell: Callable[[str], None]) -> dict[str, Any]:
    """Print a recipe, or write it to a file.

    Raises:
      UsageError: the file exists, or cannot be written.
    """
    if output is None:
        tell(recipe.written(f"{recipe.name}.yaml").rstrip("\n"))
        return {**_as_dict(recipe), "output": None}
    path = Path(output).expanduser()
    if path.exists():
        raise UsageError(f"{output} exists. Give --output a new name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(recipe.written(output))
    except OSError as error:
        raise UsageError(
            f"{output}: cannot be written ({error.strerror}). Name another --output."
        ) from error
    tell(f"written: {output}")
    tell(f"rows: {recipe.rows}; about {recipe.minutes} minutes on 2 CPU cores")
    tell(f"next: accord train {shlex.quote(output)}")
    return {**_as_dict(recipe), "output": output}


def _named(name: str) -> Shipped:
    """Return the recipe of a name.

    Raises:
      UsageError: none has it.
    """
    found, name = shipped(), Path(name).name.removesuffix(".yaml")
    if name in found:
        return found[name]
    close = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise UsageError(f"no recipe is called {name!r}.{meant} There are: {', '.join(found)}.")


def _as_dict(recipe: Shipped) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in ("name", "shows", "rows", "minutes", "expect")}

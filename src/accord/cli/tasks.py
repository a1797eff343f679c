"""The command that makes prompts whose answers a program verifies. Nothing heavy is imported."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli.options import Json, Seed
from accord.errors import UsageError, plural


def add_tasks_command(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put `accord tasks` into the application; `run` and `say` as for `add_data_commands`."""

    @app.command()
    def tasks(
        name: Annotated[
            str | None, typer.Argument(help="A task set of reasoning-gym; without it their names.")
        ] = None,
        output: Annotated[
            str | None, typer.Option("--output", help="File to write; must not exist.")
        ] = None,
        size: Annotated[int, typer.Option(min=1, max=1_000_000, help="Tasks to make.")] = 500,
        seed: Seed = 0,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="A setting of the task set."),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Make prompts whose answers the reward reasoning_gym verifies. Two seeds share no task."""

        def work():
            from accord.environment.installing import require_package

            require_package("reasoning_gym", "accord tasks")

            def tell(text: str) -> None:
                say(as_json, text)

            return (
                _list(tell) if name is None else _make(name, output, size, seed, set_ or [], tell)
            )

        run(work, as_json)


def _list(tell: Callable[[str], None]) -> list[str]:
    from accord.rewards.procedural import set_names

    names = set_names()
    tell("\n".join(names))
    tell(f"\n{plural(len(names), 'task set')}; make one:")
    tell("accord tasks leg_counting --size 500 --output prompts.jsonl")
    return names


def _make(
    name: str, output: str | None, size: int, seed: int, settings: list[str], tell: Callable
) -> dict[str, Any]:
    """Write the rows of a task set.

    Raises:
      UsageError: no set has this name, a setting that it does not take, or a file that exists or
        cannot be written.
    """
    from accord.config.schema import parse_assignment
    from accord.rewards.procedural import set_names, task_rows

    if name not in (names := set_names()):
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"no task set is called {name!r}.{hint} Their names: accord tasks")
    if output is None:
        raise UsageError(f"Name the file to write: accord tasks {name} --output prompts.jsonl")
    path = Path(output).expanduser()
    if path.exists():
        raise UsageError(f"{output} exists. Give --output a new name.")
    options = {".".join(key): value for key, value in map(parse_assignment, settings)}
    lines = [json.dumps(row, default=str) for row in task_rows(name, size, seed, options)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
    except OSError as error:
        raise UsageError(
            f"{output}: cannot be written ({error.strerror}). Name another --output."
        ) from error
    tell(f"{output}: {plural(len(lines), 'task')} of {name}")
    tell(
        f"learn them: accord train --data {output} --method grpo --set"
        " 'rollouts.rewards=[reasoning_gym]'"
    )
    return {"output": output, "tasks": len(lines), "name": name, "seed": seed}

"""The command that reads other tools' settings. Heavy imports wait until it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import Json


def add_import_command(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put the command into the application; see `accord.cli.data.add_data_commands`."""

    @app.command(name="import")
    def import_(
        file: Annotated[
            str,
            typer.Argument(
                help="YAML of TRL, Axolotl or LLaMA-Factory; a text file with TRL's arguments; or"
                " Python with its DPOConfig(…)."
            ),
        ],
        output: Annotated[
            str | None,
            typer.Option("--output", help="Recipe to write; must not exist. Else it is printed."),
        ] = None,
        tool: Annotated[
            str | None,
            typer.Option("--from", help="trl, axolotl or llama-factory; judged by the keys."),
        ] = None,
        devices: Annotated[
            int,
            typer.Option(
                min=1, help="GPUs that the file was meant for: each took rows of its own."
            ),
        ] = 1,
        leave_out: Annotated[
            list[str] | None, typer.Option("--leave-out", help="A key to go on without.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Turn another tool's settings into a recipe. It says what became of each."""

        def work():
            from accord.errors import UsageError
            from accord.migrate.run import import_settings

            if output is not None and Path(output).exists():
                raise UsageError(f"{output} exists. Give --output a new name.")
            found = import_settings(file, tool, devices, leave_out or ())
            say(as_json, found.account())
            if output is None:
                say(as_json, f"\n{found.yaml()}")
            else:
                Path(output).write_text(found.yaml(output), encoding="utf-8")
                say(
                    as_json,
                    f"written: {output}. See two rows and every check: accord train {output}"
                    " --dry-run",
                )
            return found.as_dict() | {"output": output}

        run(work, as_json)

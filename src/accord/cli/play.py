"""The command of the playground. Nothing heavy is imported: the page computes in the browser."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import Json


def add_play_command(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put `accord play` into the application; `run` and `say` as for `add_data_commands`."""

    @app.command()
    def play(
        output: Annotated[
            str | None, typer.Option(help="The HTML file to write; in accord's cache by default.")
        ] = None,
        no_open: Annotated[
            bool, typer.Option("--no-open", help="Print the file's path; open no browser.")
        ] = False,
        as_json: Json = False,
    ) -> None:
        """Write the playground, DPO vs RLHF, as one page. It shows what each objective does to a
        policy, without a network.
        """

        def work():
            from accord.play.build import write_page

            file = write_page(
                output,
                Path(
                    os.environ.get("ACCORD_CACHE") or Path.home() / ".cache" / "accord"
                ).expanduser(),
            )
            opened = not no_open and webbrowser.open(file.as_uri())
            say(as_json, str(file))
            if not opened and not no_open:
                say(as_json, "No browser was found: open this file in one.")
            return {"page": str(file), "opened": opened}

        run(work, as_json)

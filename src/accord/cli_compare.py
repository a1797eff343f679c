"""The commands that compare: compare, sweep, frontier. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Optional

import typer

from accord.environment import settle

Recipe = Annotated[str, typer.Argument(help="YAML recipe with data.train and data.held_out, both of pairs.")]
Folder = Annotated[str, typer.Option("--output", help="Folder to write, or to go on with.")]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds of each; the recipe's and the ones after it.")]
Fixed = Annotated[Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Any field of the recipe, for all cells.")]
Samples = Annotated[int, typer.Option(min=1, help="Prompts that every model answers.")]
Tokens = Annotated[int, typer.Option("--sample-tokens", min=1, help="Longest answer.")]
Prompts = Annotated[Optional[str], typer.Option(help="Text file of prompts, one a line; the held-out ones by default.")]
ScorerName = Annotated[Optional[str], typer.Option("--scorer", help="vader, or module:function: scores the answers.")]
Page = Annotated[Optional[str], typer.Option(help="The HTML page; comparison.html in the folder by default.")]
Allow = Annotated[Optional[list[str]], typer.Option("--allow", help="Permit what is refused otherwise; see the error.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object last on standard output.")]


def add_compare_commands(app: typer.Typer, run: Callable, say: Callable, command: Callable) -> None:
    """Put the commands into the application.

    Args:
      run: does the work and turns failures into words and exit codes.
      say: prints a line where it belongs, with and without --json.
      command: what was typed, for records.
    """
    for make in (_compare, _sweep):
        app.command()(make(run, say, command))


def _display():
    from accord.training.display import Display

    return Display(sys.stderr)


def _finish(record: dict, output: str, page: str | None, say: Callable, as_json: bool) -> dict:
    from accord.compare.page import write_page
    from accord.compare.show import lines

    file = write_page(record, output, page)
    for line in lines(record):
        say(as_json, line)
    say(as_json, f"\n{file} ({file.stat().st_size / 1000:,.0f} kB); comparison.json beside the cells in {output}")
    return record | {"page": str(file)}


def _compare(run: Callable, say: Callable, command: Callable) -> Callable:
    def compare(
        recipe: Recipe,
        methods: Annotated[str, typer.Option(help="Such as dpo,ipo,kto,simpo,orpo,sft.")],
        output: Folder = "comparison",
        seeds: Seeds = 3,
        trials: Annotated[
            int, typer.Option(min=1, help="Learning rates tried for each method on rows cut off the training rows; 1: its own.")
        ] = 1,
        samples: Samples = 24,
        sample_tokens: Tokens = 48,
        prompts: Prompts = None,
        scorer: ScorerName = None,
        set_: Fixed = None,
        allow: Allow = None,
        page: Page = None,
        as_json: Json = False,
    ) -> None:
        """Methods on the same rows, in the same order, with the same updates and trials: who is better, with intervals.

        Stopped or killed, the same command goes on; finished cells are not run again.
        """

        def work():
            from accord.flags import build

            base = build(recipe, assignments=set_ or (), allow=allow or ())
            settle(offline="hub" not in base.allow)
            from accord.compare.run import Asked
            from accord.compare.run import compare as carry_out

            asked = Asked(output, seeds, trials, samples, sample_tokens, prompts, scorer)
            record = carry_out(base, methods, asked, _display(), command())
            return _finish(record, output, page, say, as_json)

        run(work, as_json)

    return compare


def _sweep(run: Callable, say: Callable, command: Callable) -> Callable:
    def sweep(
        recipe: Recipe,
        set_: Annotated[
            list[str], typer.Option("--set", metavar="KEY=VALUE,VALUE,…", help="A field and its values; several span a grid.")
        ],
        output: Folder = "sweep",
        seeds: Seeds = 1,
        kl_budget: Annotated[
            Optional[float], typer.Option("--kl-budget", help="Nats an answer: which β keeps to it, read off between measured ones.")
        ] = None,
        samples: Samples = 24,
        sample_tokens: Tokens = 48,
        prompts: Prompts = None,
        scorer: ScorerName = None,
        allow: Allow = None,
        page: Page = None,
        as_json: Json = False,
    ) -> None:
        """One method over a grid of settings; one reference pass for all. Goes on where it was stopped."""

        def work():
            from accord.flags import build

            base = build(recipe, allow=allow or ())
            settle(offline="hub" not in base.allow)
            from accord.compare.run import Asked
            from accord.compare.run import sweep as carry_out

            asked = Asked(output, seeds, 1, samples, sample_tokens, prompts, scorer, kl_budget)
            record = carry_out(base, set_, asked, _display(), command())
            return _finish(record, output, page, say, as_json)

        run(work, as_json)

    return sweep

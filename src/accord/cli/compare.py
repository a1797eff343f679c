"""The commands that compare: compare, sweep, frontier. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from accord.cli.given import method_names
from accord.cli.options import (
    REWARDS,
    Allow,
    Columns,
    Folder,
    IgnoreColumns,
    Json,
    columns_of,
    options_of,
)
from accord.environment.settings import apply_env_defaults
from accord.errors import UsageError

Recipe = Annotated[
    str, typer.Argument(help="YAML recipe with data.train and data.held_out, both of pairs.")
]
Seeds = Annotated[
    int, typer.Option(min=1, help="Seeds of each; the recipe's and the ones after it.")
]
Fixed = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any field of the recipe, for all cells."),
]
Samples = Annotated[int, typer.Option(min=1, help="Prompts that every model answers.")]
Tokens = Annotated[int, typer.Option("--sample-tokens", min=1, help="Longest answer.")]
Prompts = Annotated[
    str | None, typer.Option(help="Text file of prompts, one a line; the held-out ones by default.")
]
ScorerName = Annotated[str | None, typer.Option("--scorer", help=f"Scores the answers. {REWARDS}")]
ScorerSet = Annotated[
    list[str] | None,
    typer.Option("--scorer-set", metavar="NAME.KEY=VALUE", help="An option of the scorer."),
]
Page = Annotated[
    str | None,
    typer.Option(help="The HTML page; comparison.html or frontier.html in the folder by default."),
]


def add_compare_commands(app: typer.Typer, run: Callable, say: Callable, command: Callable) -> None:
    """Put the commands into the application.

    Args:
      run: does the work and turns failures into words and exit codes.
      say: prints a line where it belongs, with and without --json.
      command: what was typed, for records.
    """
    for make in (_compare, _sweep, _frontier):
        app.command()(make(run, say, command))


def _display():
    from accord.runs.display import Display

    return Display(sys.stderr)


def _require_page(page: str | None) -> None:
    """Refuse an unwritable page before the work begins."""
    if page is not None:
        from accord.pages.page import check_page

        check_page(page)


def _finish(record: dict, output: str, page: str | None, say: Callable, as_json: bool) -> dict:
    from accord.pages.comparison import write_page
    from accord.pages.comparison_lines import lines

    file = write_page(record, output, page)
    for line in lines(record):
        say(as_json, line)
    say(
        as_json,
        f"\n{file} ({file.stat().st_size / 1000:,.0f} kB); comparison.json beside the cells in"
        f" {output}",
    )
    return record | {"page": str(file)}


def _compare(run: Callable, say: Callable, command: Callable) -> Callable:
    def compare(
        recipe: Recipe,
        methods: Annotated[str, typer.Option(help="Such as dpo,ipo,kto,simpo,orpo,sft.")],
        output: Folder = "comparison",
        seeds: Seeds = 3,
        trials: Annotated[
            int,
            typer.Option(
                min=1,
                help=(
                    "Learning rates tried for each method on rows cut off the training rows; 1: its"
                    " own."
                ),
            ),
        ] = 1,
        samples: Samples = 24,
        sample_tokens: Tokens = 48,
        prompts: Prompts = None,
        scorer: ScorerName = None,
        scorer_set: ScorerSet = None,
        set_: Fixed = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        allow: Allow = None,
        page: Page = None,
        as_json: Json = False,
    ) -> None:
        """Compare methods on the same rows, in the same order. All make the same updates and get
        the same trials: who is better, with intervals.

        If it is stopped or killed, the same command continues it; finished cells are not run again.
        """

        def work():
            from accord.config.build import build

            _require_page(page)
            named = columns_of(columns, ignore_columns)
            base = build(recipe, assignments=set_ or (), allow=allow or (), **named)
            apply_env_defaults()
            from accord.campaign.compare.run import Terms
            from accord.campaign.compare.run import compare as carry_out

            terms = Terms(
                output,
                seeds,
                trials,
                samples,
                sample_tokens,
                prompts,
                scorer,
                scorer_options=options_of(scorer_set or [], "--scorer-set"),
            )
            record = carry_out(base, method_names(methods), terms, _display(), command())
            return _finish(record, output, page, say, as_json)

        run(work, as_json)

    return compare


def _sweep(run: Callable, say: Callable, command: Callable) -> Callable:
    def sweep(
        recipe: Recipe,
        set_: Annotated[
            list[str],
            typer.Option(
                "--set",
                metavar="KEY=VALUE,VALUE,…",
                help=(
                    "A field and its values; several span a grid. To search: KEY=LOW..HIGH, or"
                    " KEY=log:LOW..HIGH."
                ),
            ),
        ],
        search: Annotated[
            str,
            typer.Option(
                help=(
                    "grid: every combination. optuna: settings that Optuna proposes, chosen on"
                    " validation rows."
                )
            ),
        ] = "grid",
        trials: Annotated[
            int | None, typer.Option(min=2, help="Settings that --search optuna tries; default 20.")
        ] = None,
        output: Folder = "sweep",
        seeds: Seeds = 1,
        kl_budget: Annotated[
            float | None,
            typer.Option(
                "--kl-budget",
                help="Nats an answer: which β keeps to it, read off between measured ones.",
            ),
        ] = None,
        samples: Samples = 24,
        sample_tokens: Tokens = 48,
        prompts: Prompts = None,
        scorer: ScorerName = None,
        scorer_set: ScorerSet = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        allow: Allow = None,
        page: Page = None,
        as_json: Json = False,
    ) -> None:
        """Run one method over a grid of settings, or search them. One reference pass serves all. A
        stopped sweep continues where it was.
        """

        def work():
            from accord.config.build import build

            _require_page(page)
            named = columns_of(columns, ignore_columns)
            base = build(recipe, allow=allow or (), **named)
            apply_env_defaults()
            from accord.campaign.compare.run import Terms
            from accord.campaign.compare.run import sweep as carry_out
            from accord.campaign.compare.search import trials_of

            terms = Terms(
                output,
                seeds,
                trials_of(search, trials),
                samples,
                sample_tokens,
                prompts,
                scorer,
                kl_budget,
                search,
                options_of(scorer_set or [], "--scorer-set"),
            )
            record = carry_out(base, set_, terms, _display(), command())
            return _finish(record, output, page, say, as_json)

        run(work, as_json)

    return sweep


def _frontier(run: Callable, say: Callable, command: Callable) -> Callable:
    def frontier(
        recipe: Annotated[
            str | None,
            typer.Argument(help="YAML recipe with data.train and data.held_out, both of pairs."),
        ] = None,
        methods: Annotated[
            str, typer.Option(help="Such as dpo,ipo,kto,simpo,orpo.")
        ] = "dpo,ipo,kto,simpo,orpo",
        beta: Annotated[
            str | None,
            typer.Option(help="Several, such as 0.05,0.1,0.5; each method's own by default."),
        ] = None,
        checkpoints: Annotated[
            int, typer.Option(min=1, help="Points along each run, its end among them.")
        ] = 1,
        scorer: Annotated[str, typer.Option(help=f"The reward. {REWARDS}")] = "vader",
        scorer_set: ScorerSet = None,
        prompts: Prompts = None,
        samples: Annotated[int, typer.Option(min=1, help="Prompts.")] = 64,
        answers: Annotated[
            int, typer.Option(min=1, help="Answers of each model to each prompt.")
        ] = 2,
        reference_answers: Annotated[
            int,
            typer.Option(
                "--reference-answers",
                min=2,
                help="Answers of the start model, for the best possible reward at a KL.",
            ),
        ] = 16,
        sample_tokens: Tokens = 40,
        seeds: Seeds = 1,
        demo: Annotated[
            bool,
            typer.Option(
                "--demo",
                help=(
                    "The DPO paper's Figure 2 in miniature: SmolLM2, sentiment, the demo's pairs"
                    " and prompts."
                ),
            ),
        ] = False,
        output: Folder = "frontier",
        set_: Fixed = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        allow: Allow = None,
        page: Page = None,
        as_json: Json = False,
    ) -> None:
        """Measure reward against KL for every method, β and step. The best possible stands beside
        them. A stopped frontier continues where it was.
        """

        def work():
            from accord.config.build import build

            base = build(
                _demo_recipe(recipe, prompts) if demo else _recipe(recipe),
                assignments=set_ or (),
                allow=allow or (),
                **columns_of(columns, ignore_columns),
            )
            apply_env_defaults()
            _require_page(page)
            from accord.campaign.compare.frontier import Wanted, lines
            from accord.campaign.compare.frontier import frontier as carry_out
            from accord.pages.comparison import write_page

            asked = _demo_prompts() if demo else prompts
            points = 3 if demo and checkpoints == 1 else checkpoints
            wanted = Wanted(
                output,
                method_names(methods),
                _numbers(beta),
                points,
                seeds,
                scorer,
                asked,
                samples,
                answers,
                reference_answers,
                sample_tokens,
                options_of(scorer_set or [], "--scorer-set"),
            )
            record = carry_out(base, wanted, _display(), command())
            file = write_page(record, output, page, "frontier")
            for line in lines(record):
                say(as_json, line)
            say(
                as_json,
                f"\n{file} ({file.stat().st_size / 1000:,.0f} kB); frontier.json beside the cells"
                f" in {output}",
            )
            return record | {"page": str(file)}

        run(work, as_json)

    return frontier


def _recipe(recipe: str | None) -> str:
    if recipe is None:
        raise UsageError("Give a recipe, or --demo for the demonstration's data and prompts.")
    return recipe


def _demo_recipe(recipe: str | None, prompts: str | None) -> dict:
    """Return the demonstration's recipe, each method with its own options and learning rate."""
    if recipe is not None or prompts is not None:
        raise UsageError("--demo brings its own recipe and prompts; leave the others out.")
    from accord.config.schema import DEFAULT_OBJECTIVE
    from accord.demo.run import RECIPE

    train = {key: value for key, value in RECIPE["train"].items() if key != "learning_rate"}
    return {**RECIPE, "objective": {"name": DEFAULT_OBJECTIVE}, "train": train}


def _demo_prompts() -> str:
    from accord.demo.run import HERE

    return str(HERE / "sample_prompts.txt")


def _numbers(text: str | None) -> tuple[float, ...]:
    """Parse "0.05,0.1" as numbers."""
    try:
        return tuple(float(word) for word in text.split(",")) if text is not None else ()
    except ValueError as error:
        raise UsageError(f"--beta {text}: expected numbers, such as 0.05,0.1,0.5.") from error

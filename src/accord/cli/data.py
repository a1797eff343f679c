"""The commands about data: audit, split, convert, advise.
Heavy imports wait until a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from accord.cli.options import Columns, Format, IgnoreColumns, Json, naming_of
from accord.environment.settings import apply_env_defaults
from accord.environment.wrapping import fit

Data = Annotated[
    str, typer.Argument(help="Preferences: JSONL, JSON, CSV, Parquet, …; - for standard input.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every draw: sample, folds, removals.")]
UNFIT = 3  # exit code

# Options of `accord audit` beside the data.
ModelToo = Annotated[
    str | None,
    typer.Option(
        "--model", help="smollm2, a folder or hub:org/name: adds the checks of tokens and hardness."
    ),
]
HeldOutToo = Annotated[
    str | None, typer.Option("--held-out", help="File to evaluate on: adds the checks of leakage.")
]
Kind = Annotated[
    str | None, typer.Option(help="pairs, labelled or demonstrations; default: what most rows are.")
]
Page = Annotated[
    str | None, typer.Option(help="Write a self-contained HTML page with figures here.")
]
Fix = Annotated[
    str | None,
    typer.Option(
        "--fix", metavar="OUT", help="Write a cleaned JSONL file, and what was left out beside it."
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "A further rule of --fix: cycles, score-conflicts, declared-flips, language, marks,"
            " wrecks (or one kind: sentinel, error, moderation, placeholder, cut, …)."
        )
    ),
]
Mend = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "What --fix mends: html, mojibake, escaped, json, invisible, watermark, homoglyphs,"
            " trim."
        )
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "A rule of --fix to leave out: duplicates, near-duplicates, contradictions,"
            " same-answers, near-ties."
        )
    ),
]
NearTie = Annotated[
    float | None,
    typer.Option(
        "--near-tie",
        help="Score gap under which --fix drops a pair; default .5, or .05 for scores from 0 to 1.",
    ),
]
MinChosenScore = Annotated[
    float | None,
    typer.Option("--min-chosen-score", help="--fix drops pairs whose chosen answer scores less."),
]
MaxPerPrompt = Annotated[
    int | None,
    typer.Option("--max-per-prompt", help="--fix keeps at most so many rows of a prompt."),
]
BalanceLength = Annotated[
    bool,
    typer.Option(
        "--balance-length", help="--fix makes the longer answer win as often as it loses."
    ),
]
EveryCheck = Annotated[
    bool, typer.Option("--all", help="Show the checks that passed as well, one by one.")
]
Sample = Annotated[int, typer.Option(min=1, help="Rows that the probes read.")]
ModelRows = Annotated[
    int | None, typer.Option("--model-rows", min=1, help="Rows that the model reads.")
]


def add_data_commands(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put the commands into the application.

    Args:
      run: does the work and turns failures into words and exit codes.
      say: prints a line where it belongs, with and without --json.
    """
    for make in (_audit, _split, _convert, _advise):
        app.command()(make(run, say))


def _tell(text: str) -> None:
    """Print a line of progress."""
    print(fit(f"· {text}", sys.stderr), file=sys.stderr, flush=True)


def _audit(run: Callable, say: Callable) -> Callable:
    def audit(
        data: Data,
        model: ModelToo = None,
        held_out: HeldOutToo = None,
        rows: Kind = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        format: Format = "auto",
        page: Page = None,
        fix: Fix = None,
        drop: Drop = None,
        keep: Keep = None,
        mend: Mend = None,
        near_tie: NearTie = None,
        min_chosen_score: MinChosenScore = None,
        max_per_prompt: MaxPerPrompt = None,
        balance_length: BalanceLength = False,
        sample: Sample = 10_000,
        model_rows: ModelRows = None,
        seed: Seed = 0,
        every: EveryCheck = False,
        as_json: Json = False,
    ) -> None:
        """Find out what is wrong with a preference file, before training. Exit 3 if it is unfit."""
        verdict = ""

        def work():
            nonlocal verdict
            apply_env_defaults()
            from accord.auditing.fix import Options
            from accord.auditing.lines import show
            from accord.auditing.run import audit as examine
            from accord.pages.audit import write_page
            from accord.pages.page import check_page

            if page is not None:
                check_page(page)
            options = Options(
                tuple(drop or ()),
                tuple(keep or ()),
                near_tie,
                min_chosen_score,
                max_per_prompt,
                balance_length,
                seed if fix else 0,
                tuple(mend or ()),
            )
            found = examine(
                data,
                model=model,
                held_out=held_out,
                rows=rows,
                naming=naming_of(columns, ignore_columns, format),
                sample=sample,
                model_rows=model_rows,
                fix_to=fix,
                options=options,
                seed=seed,
                say=_tell,
            )
            verdict = found.verdict
            if page is not None:
                write_page(found, page)  # before anything is printed: a reader may close the pipe
                say(as_json, f"page: {page}")
            # last, since the verdict is its last line
            show(found, sys.stderr if as_json else sys.stdout, every=every)
            return found.as_dict()

        run(work, as_json)
        if verdict == "unfit":
            raise SystemExit(UNFIT)

    return audit


def _split(run: Callable, say: Callable) -> Callable:
    def split(
        data: Data,
        output: Annotated[str, typer.Option(help="Folder to write; must not exist.")] = "split",
        share: Annotated[float, typer.Option(help="Share of the rows to hold out.")] = 0.1,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        format: Format = "auto",
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Split a file by prompt into train and held-out rows. Near copies of a prompt stay
        together.
        """

        def work():
            from accord.auditing.split import split as divide
            from accord.auditing.split import summary

            naming = naming_of(columns, ignore_columns, format)
            done = divide(data, output, share=share, seed=seed, naming=naming)
            for line in summary(done, output):
                say(as_json, line)
            done.pop("reading")
            return done

        run(work, as_json)

    return split


def _convert(run: Callable, say: Callable) -> Callable:
    def convert(
        data: Data,
        to: Annotated[
            str,
            typer.Option(
                help=(
                    "Format to write, such as trl-conversational, trl-unpaired, openai, sharegpt; a"
                    " wrong name lists all."
                )
            ),
        ],
        output: Annotated[
            str, typer.Option(help="File to write: .jsonl or .jsonl.gz; must not exist.")
        ],
        format: Format = "auto",
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        as_json: Json = False,
    ) -> None:
        """Write a preference file in another tool's format."""

        def work():
            from accord.data.convert_file import convert_file

            naming = naming_of(columns, ignore_columns)
            done = convert_file(data, output, to, format=format, naming=naming)
            for line in done.lines():
                say(as_json, line)
            return done.as_dict()

        run(work, as_json)

    return convert


def _advise(run: Callable, say: Callable) -> Callable:
    def advise(
        data: Data,
        model: Annotated[
            str, typer.Option(help="smollm2 (embedded), a folder, or hub:org/name.")
        ] = "smollm2",
        held_out: Annotated[
            str | None, typer.Option("--held-out", help="File to evaluate on.")
        ] = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        format: Format = "auto",
        recipe: Annotated[
            str | None,
            typer.Option(help="Write a recipe that runs as it is, each line with its reason."),
        ] = None,
        all_weights: Annotated[
            bool, typer.Option("--all-weights", help="Train all weights instead of LoRA.")
        ] = False,
        model_rows: Annotated[
            int, typer.Option("--model-rows", min=1, help="Rows that the model reads.")
        ] = 60,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Recommend a method and settings, from what the audit measured. Each has its reason; exit
        3 if something must be mended first.
        """
        ready = True

        def work():
            nonlocal ready
            apply_env_defaults()
            from accord.auditing.advised import advise_on
            from accord.auditing.recipe import lines, write_recipe
            from accord.data.write import check_absent

            if recipe is not None:
                check_absent(recipe)
            advice, found = advise_on(
                data,
                model=model,
                held_out=held_out,
                naming=naming_of(columns, ignore_columns, format),
                all_weights=all_weights,
                model_rows=model_rows,
                seed=seed,
                say=_tell,
            )
            for line in found.scan.ledger.reading_lines():
                say(as_json, line.strip())
            ready = advice.ready
            for line in lines(advice):
                say(as_json, line)
            if recipe is not None:
                write_recipe(advice, recipe, " ".join(["accord", *sys.argv[1:]]))
                say(as_json, f"recipe: {recipe}   (accord train {recipe})")
            return advice.as_dict()

        run(work, as_json)
        if not ready:
            raise SystemExit(UNFIT)

    return advise

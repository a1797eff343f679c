"""Options that several commands have, each declared once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.environment.wrapping import fit

if TYPE_CHECKING:
    from accord.data.naming import Naming

PROMPTS = "Any file that training reads, rows with a prompt alone, or a .txt with one a line."
# What --reward, --judge and --scorer take.
REWARDS = (
    "NAME or NAME=WEIGHT: final_answer, constraints, format, length, too_long, vader,"
    " math_verify, reasoning_gym, module:function, a reward model's folder or hub name, or http://…/v1#MODEL."
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object last on standard output.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any field, such as objective.beta=0.2."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Permit what is refused otherwise; see the error."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="NAME=COLUMN,…",
        help="Read columns under other names, such as prompt=question,chosen=good,rejected=bad.",
    ),
]
IgnoreColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-columns",
        metavar="COLUMN,…",
        help="Columns, or keys of messages, that are no content and are not read.",
    ),
]
Format = Annotated[str, typer.Option(help="Format to read by; auto judges every row.")]
Folder = Annotated[str, typer.Option("--output", help="Folder to write, or to go on with.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN|MODEL",
        help="A run's folder, a model's, an adapter's, smollm2, or hub:org/name.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every draw.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32 or bfloat16; default: the run's, or what the machine computes in."),
]
Template = Annotated[
    str | None, typer.Option(help="auto, raw, or a Jinja file; default: the run's.")
]

# Options on how answers are drawn, and to which prompts.
K = Annotated[int, typer.Option(help="Answers to each prompt; the prompt is computed once.")]
Longest = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer.")]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token.")]
TopP = Annotated[
    float,
    typer.Option("--top-p", help="Sample from the smallest set of tokens with this probability."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Answer the first so many prompts.")]


def naming_of(
    columns: list[str] | None, ignore_columns: list[str] | None, format: str = "auto"
) -> Naming:
    """Return what --columns, --ignore-columns and --format say; raises UsageError for what is no
    mapping, and for an unknown format.
    """
    from accord.data.formats import named
    from accord.data.naming import Naming

    named(format)
    return Naming.of(columns, ignore_columns, format=format)


def columns_of(columns: list[str] | None, ignore_columns: list[str] | None) -> dict[str, Any]:
    """Return --columns and --ignore-columns as keyword arguments of `config.build`."""
    from accord.config.columns import parse_columns, parse_names

    return {
        "columns": parse_columns(columns) if columns else None,
        "ignore_columns": parse_names(ignore_columns) if ignore_columns else None,
    }


def check_dtype(dtype: str | None) -> None:
    """Check that torch has this dtype.

    Raises:
      UsageError: no such dtype.
    """
    from accord.errors import UsageError

    if dtype not in (None, "float32", "bfloat16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or bfloat16.")


def tell(text: str) -> None:
    """Print a line of progress."""
    print(fit(text, sys.stderr), file=sys.stderr, flush=True)


def options_of(assignments: list[str], flag: str = "--set") -> dict[str, dict[str, object]]:
    """NAME.KEY=VALUE each, as options by NAME; a name may hold dots itself
    (mine.rewards:helpful).
    """
    from accord.config.schema import parse_assignment
    from accord.errors import UsageError

    options: dict[str, dict[str, object]] = {}
    for assignment in assignments:
        path, value = parse_assignment(assignment, flag)
        if len(path) < 2:
            raise UsageError(
                f"{flag} {assignment}: expected NAME.KEY=VALUE, such as format.pattern='<a>.*</a>'."
            )
        options.setdefault(".".join(path[:-1]), {})[path[-1]] = value
    return options

"""The commands about finished models: generate, eval. Heavy imports wait until a command runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from accord.cli.options import (
    PROMPTS,
    REWARDS,
    Columns,
    Dtype,
    IgnoreColumns,
    Json,
    K,
    Limit,
    Longest,
    Seed,
    Target,
    Temperature,
    Template,
    TopP,
    check_dtype,
    naming_of,
    options_of,
    tell,
)
from accord.environment.settings import apply_env_defaults
from accord.errors import plural


def add_evaluate_commands(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put the commands into the application.

    Args:
      run: does the work and turns failures into words and exit codes.
      say: prints a line where it belongs, with and without --json.
    """
    app.command()(_generate(run, say))
    app.command("eval")(_eval(run, say))


def _generate(run: Callable, say: Callable) -> Callable:
    def generate(
        model: Target,
        prompts: Annotated[str | None, typer.Option(help=PROMPTS)] = None,
        prompt: Annotated[str | None, typer.Option(help="One prompt, instead of a file.")] = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        k: K = 8,
        max_new_tokens: Longest = 256,
        temperature: Temperature = 1.0,
        top_p: TopP = 1.0,
        limit: Limit = None,
        output: Annotated[
            str | None,
            typer.Option(
                help="JSONL file to write; must not exist. Without it, answers are printed."
            ),
        ] = None,
        dtype: Dtype = None,
        template: Template = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Draw K answers to each prompt, each with its log-prob. The same seed gives the same
        answers.
        """

        def work():
            check_dtype(dtype)
            apply_env_defaults()
            from accord.assess.generation import Sampling, answer_lines
            from accord.assess.generation import generate as answer

            sampling = Sampling(k, max_new_tokens, temperature, top_p, seed)
            figures, rows = answer(
                model,
                prompts=prompts,
                prompt=prompt,
                naming=naming_of(columns, ignore_columns),
                sampling=sampling,
                output=output,
                limit=limit,
                dtype=dtype,
                template=template,
                say=tell,
            )
            for row in rows:
                for line in answer_lines(row):
                    say(as_json, line)
            if output is not None:
                say(as_json, f"{output}: {plural(figures['prompts'], 'row')}")
            return {**figures, "rows": rows} if rows else figures

        run(work, as_json)

    return generate


def _eval(run: Callable, say: Callable) -> Callable:
    def evaluate(
        model: Target,
        data: Annotated[
            str | None, typer.Option(help="Held-out pairs or labels; default: the run's own.")
        ] = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        reference: Annotated[
            str | None,
            typer.Option(help="A model, or adapter_off; default: what the run started from."),
        ] = None,
        beta: Annotated[
            float | None,
            typer.Option(help="β of the implicit reward of a model that is no run; default .1."),
        ] = None,
        rows: Annotated[
            int | None, typer.Option(min=1, help="Evaluate on so many rows, drawn by the seed.")
        ] = None,
        samples: Annotated[
            int, typer.Option(min=0, help="Prompts that get a fresh answer; 0: none.")
        ] = 64,
        max_new_tokens: Annotated[
            int, typer.Option("--max-new-tokens", min=1, help="Longest fresh answer.")
        ] = 64,
        judge: Annotated[
            str | None,
            typer.Option(
                help=(
                    f"Win rate of fresh answers by their rewards. {REWARDS} An address compares"
                    " two answers itself."
                )
            ),
        ] = None,
        judge_set: Annotated[
            list[str] | None,
            typer.Option("--judge-set", metavar="NAME.KEY=VALUE", help="An option of that reward."),
        ] = None,
        judge_model: Annotated[
            str | None, typer.Option("--judge-model", help="Model that the endpoint serves.")
        ] = None,
        judge_timeout: Annotated[
            float | None,
            typer.Option(
                "--judge-timeout", help="Seconds for one answer of the endpoint; default 60."
            ),
        ] = None,
        judge_max_tokens: Annotated[
            int | None,
            typer.Option(
                "--judge-max-tokens",
                min=1,
                help="Longest reply of the endpoint, its thoughts included; default 1024.",
            ),
        ] = None,
        against: Annotated[
            str | None,
            typer.Option(
                help="A model or run whose answers are the other side; default: the reference."
            ),
        ] = None,
        perplexity: Annotated[
            str | None,
            typer.Option(
                help="Texts (.txt) or rows that should not be forgotten: their perplexity."
            ),
        ] = None,
        output: Annotated[
            str | None,
            typer.Option(
                help="Folder for evaluation.json and examples.parquet; default: in the run."
            ),
        ] = None,
        dtype: Dtype = None,
        template: Template = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Measure held-out accuracy, margin, calibration, KL and length. Each has its interval;
        a judge adds a win rate.
        """

        def work():
            check_dtype(dtype)
            apply_env_defaults()
            from accord.assess.answers import Drawing
            from accord.assess.evaluation import Request
            from accord.assess.evaluation import evaluate as measure
            from accord.assess.judging import judging_of
            from accord.assess.show import lines
            from accord.errors import UsageError

            drawing = Drawing(samples, max_new_tokens, seed)
            judging = judging_of(
                judge,
                judge_model,
                timeout=judge_timeout,
                max_tokens=judge_max_tokens,
                against=against,
                options=options_of(judge_set or [], "--judge-set"),
            )
            asked = Request(
                data,
                reference,
                beta,
                rows,
                drawing,
                output,
                dtype,
                template,
                judging,
                perplexity,
                naming_of(columns, ignore_columns),
            )
            found, folder = measure(model, asked, tell)
            for line in lines(found):
                say(as_json, line)
            say(
                as_json,
                (
                    f"written to {folder}"
                    if folder
                    else "not written: no run to write into; --output DIR keeps it"
                ),
            )
            if failed := found.get("win_rate", {}).get("failed"):
                raise UsageError(
                    f"{failed}\nThe other figures stand above"
                    f"{f', and in {folder}' if folder else ''}. Verdicts that came are kept: the"
                    " same command asks for the others alone."
                )
            return {"folder": str(folder) if folder else None, **found}

        run(work, as_json)

    return evaluate

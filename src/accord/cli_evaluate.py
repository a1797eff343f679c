"""The commands about finished models: generate, eval. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Optional

import typer

from accord.environment import settle

Json = Annotated[bool, typer.Option("--json", help="One JSON object last on standard output.")]
Target = Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run's folder, a model's, an adapter's, or smollm2.")]
Seed = Annotated[int, typer.Option(min=0, help="Of every draw.")]
Dtype = Annotated[Optional[str], typer.Option(help="float32 or bfloat16; default: the run's, or what the machine computes in.")]
Template = Annotated[Optional[str], typer.Option(help="auto, raw, or a Jinja file; default: the run's.")]


def add_evaluate_commands(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put the commands into the application.

    Args:
      run: does the work and turns failures into words and exit codes.
      say: prints a line where it belongs, with and without --json.
    """
    app.command()(_generate(run, say))


def _tell(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def _generate(run: Callable, say: Callable) -> Callable:
    def generate(
        model: Target,
        prompts: Annotated[
            Optional[str], typer.Option(help="Any file that training reads, rows with a prompt alone, or a .txt with one a line.")
        ] = None,
        prompt: Annotated[Optional[str], typer.Option(help="One prompt, instead of a file.")] = None,
        k: Annotated[int, typer.Option(help="Answers to each prompt; the prompt is computed once.")] = 8,
        max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest answer.")] = 256,
        temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
        top_p: Annotated[float, typer.Option("--top-p", help="Sample from the smallest set of tokens with this probability.")] = 1.0,
        limit: Annotated[Optional[int], typer.Option(min=1, help="Answer the first so many prompts.")] = None,
        output: Annotated[Optional[str], typer.Option(help="JSONL file to write; must not exist. Without it, answers are printed.")] = None,
        dtype: Dtype = None,
        template: Template = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """K answers to each prompt, each with its log-prob; the same seed gives the same answers."""

        def work():
            _check_dtype(dtype)
            settle()
            from accord.assess.generation import Sampling
            from accord.assess.generation import generate as answer

            sampling = Sampling(k, max_new_tokens, temperature, top_p, seed)
            figures, rows = answer(
                model, prompts=prompts, prompt=prompt, sampling=sampling, output=output, limit=limit, dtype=dtype,
                template=template, say=_tell,
            )  # fmt: skip
            for row in rows:
                _print_answers(row, lambda line: say(as_json, line))
            if output is not None:
                say(as_json, f"{output}: {figures['prompts']:,} rows")
            return {**figures, "rows": rows} if rows else figures

        run(work, as_json)

    return generate


def _print_answers(row: dict, say: Callable[[str], None]) -> None:
    from accord.errors import printable

    asked = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
    say(f"> {printable(asked, keep=chr(10))}")
    for text, ended, logprob in zip(row["completions"], row["ended"], row["logprob"], strict=True):
        say(f"  {printable(text.strip())}{'' if ended else ' …'}   ({logprob:.1f} nats)")


def _check_dtype(dtype: str | None) -> None:
    from accord.errors import UsageError

    if dtype not in (None, "float32", "bfloat16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or bfloat16.")

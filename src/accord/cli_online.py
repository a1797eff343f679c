"""The commands that make preferences from a policy's own answers: sample, score, pair. Heavy imports wait until one runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Optional

import typer

from accord.environment import settle

Json = Annotated[bool, typer.Option("--json", help="One JSON object last on standard output.")]
Output = Annotated[str, typer.Option(help="JSONL file to write; must not exist.")]
Seed = Annotated[int, typer.Option(min=0, help="Of every draw.")]


def add_online_commands(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put the commands into the application; `run` and `say` as for `add_evaluate_commands`."""
    app.command()(_sample(run, say))
    app.command()(_score(run, say))
    app.command()(_pair(run, say))


def _tell(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def _sample(run: Callable, say: Callable) -> Callable:
    def sample(
        model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run's folder, a model's, an adapter's, or smollm2.")],
        prompts: Annotated[str, typer.Option(help="Any file that training reads, rows with a prompt alone, or a .txt with one a line.")],
        output: Output,
        k: Annotated[int, typer.Option(help="Answers to each prompt; the prompt is computed once.")] = 4,
        max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest answer.")] = 256,
        temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
        top_p: Annotated[float, typer.Option("--top-p", help="Sample from the smallest set of tokens with this probability.")] = 1.0,
        limit: Annotated[Optional[int], typer.Option(min=1, help="Answer the first so many prompts.")] = None,
        dtype: Annotated[Optional[str], typer.Option(help="float32 or bfloat16; default: the run's, or what the machine computes in.")] = None,
        template: Annotated[Optional[str], typer.Option(help="auto, raw, or a Jinja file; default: the run's.")] = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """K answers to each prompt, to be scored; killed, the same command goes on where it stood."""

        def work():
            settle()
            from accord.assess.generation import Sampling
            from accord.assess.rollouts import sample_file
            from accord.errors import UsageError

            if dtype not in (None, "float32", "bfloat16"):
                raise UsageError(f"--dtype {dtype}: expected float32 or bfloat16.")
            sampling = Sampling(k, max_new_tokens, temperature, top_p, seed)
            done = sample_file(model, prompts, output, sampling, limit=limit, dtype=dtype, template=template, say=_tell)
            say(as_json, f"{output}: {done['answers']:,} answers to {done['prompts']:,} prompts")
            return done

        run(work, as_json)

    return sample


def _score(run: Callable, say: Callable) -> Callable:
    def score(
        answers: Annotated[str, typer.Argument(help="What accord sample wrote.")],
        output: Output,
        reward: Annotated[list[str], typer.Option(help=(
            "NAME or NAME=WEIGHT, once or more: final_answer, constraints, format, length, too_long, judge, vader, module:function, "
            "or a reward model's folder."))],
        set_: Annotated[Optional[list[str]], typer.Option("--set", metavar="NAME.KEY=VALUE", help="A reward's option.")] = None,
        as_json: Json = False,
    ) -> None:  # fmt: skip
        """The weighted sum of rewards of every answer; what has none is counted by its reason, and is no 0."""

        def work():
            settle()
            from accord.assess.rollouts import score_file

            done = score_file(answers, output, reward, options_of(set_ or []), _tell)
            say(as_json, f"{output}: {done['answers']:,} answers = {done['rewarded']:,} with a reward + {done['missing']:,} without")
            return done

        run(work, as_json)

    return score


def options_of(assignments: list[str]) -> dict[str, dict[str, object]]:
    """NAME.KEY=VALUE each, as options by NAME; a name may hold dots itself (mine.rewards:helpful)."""
    from accord.config import parse_assignment
    from accord.errors import UsageError

    options: dict[str, dict[str, object]] = {}
    for assignment in assignments:
        path, value = parse_assignment(assignment)
        if len(path) < 2:
            raise UsageError(f"--set {assignment}: expected NAME.KEY=VALUE, such as format.pattern='<a>.*</a>'.")
        options.setdefault(".".join(path[:-1]), {})[path[-1]] = value
    return options


def _pair(run: Callable, say: Callable) -> Callable:
    def pair(
        scored: Annotated[str, typer.Argument(help="What accord score wrote.")],
        output: Output,
        policy: Annotated[str, typer.Option(help="best_worst, best_random, hard (the best of the worse ones), or margin (every two).")] = "best_worst",
        margin: Annotated[float, typer.Option(help="How far apart two rewards must be.")] = 0.0,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Pairs that accord train reads; ties make none, and are counted."""

        def work():
            settle()
            from accord.assess.rollouts import pair_file
            from accord.online.pairing import Pairing

            done = pair_file(scored, output, Pairing(policy, margin, seed), _tell)
            say(as_json, f"{output}: {done['pairs']:,} pairs of {done['prompts']:,} prompts")
            return done

        run(work, as_json)

    return pair

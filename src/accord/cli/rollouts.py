"""The commands that make preferences from a policy's own answers: sample, score, pair.

Heavy imports wait until one runs.
"""

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

Output = Annotated[str, typer.Option(help="JSONL file to write; must not exist.")]


def add_online_commands(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put the commands into the application; `run` and `say` as for `add_evaluate_commands`."""
    app.command()(_sample(run, say))
    app.command()(_score(run, say))
    app.command()(_pair(run, say))


def _sample(run: Callable, say: Callable) -> Callable:
    def sample(
        model: Target,
        prompts: Annotated[str, typer.Option(help=PROMPTS)],
        output: Output,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        k: K = 4,
        max_new_tokens: Longest = 256,
        temperature: Temperature = 1.0,
        top_p: TopP = 1.0,
        limit: Limit = None,
        dtype: Dtype = None,
        template: Template = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Draw K answers to each prompt, to be scored. If it is killed, the same command continues
        it.
        """

        def work():
            check_dtype(dtype)
            apply_env_defaults()
            from accord.assess.generation import Sampling
            from accord.assess.rollouts import sample_file

            sampling = Sampling(k, max_new_tokens, temperature, top_p, seed)
            done = sample_file(
                model,
                prompts,
                output,
                sampling,
                naming=naming_of(columns, ignore_columns),
                limit=limit,
                dtype=dtype,
                template=template,
                say=tell,
            )
            say(
                as_json,
                f"{output}: {plural(done['answers'], 'answer')} to"
                f" {plural(done['prompts'], 'prompt')}",
            )
            return done

        run(work, as_json)

    return sample


def _score(run: Callable, say: Callable) -> Callable:
    def score(
        answers: Annotated[str, typer.Argument(help="File that accord sample wrote.")],
        output: Output,
        reward: Annotated[list[str], typer.Option(help=f"{REWARDS} Once or more.")],
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="NAME.KEY=VALUE", help="A reward's option."),
        ] = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        as_json: Json = False,
    ) -> None:
        """Score every answer with the weighted sum of rewards. An answer without a reward is
        counted with the reason; it does not become 0.
        """

        def work():
            apply_env_defaults()
            from accord.assess.rollouts import score_file

            naming = naming_of(columns, ignore_columns)
            done = score_file(answers, output, reward, options_of(set_ or []), tell, naming)
            say(
                as_json,
                f"{output}: {plural(done['answers'], 'answer')} = {done['rewarded']:,} with a"
                " reward +"
                f" {done['missing']:,} without",
            )
            return done

        run(work, as_json)

    return score


def _pair(run: Callable, say: Callable) -> Callable:
    def pair(
        scored: Annotated[str, typer.Argument(help="File that accord score wrote.")],
        output: Output,
        policy: Annotated[
            str,
            typer.Option(
                help=(
                    "best_worst, best_random, hard (the best of the worse ones), or margin (every"
                    " two)."
                )
            ),
        ] = "best_worst",
        margin: Annotated[float, typer.Option(help="Least difference of two rewards.")] = 0.0,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Pair scored answers into rows that accord train reads. Ties make no pair, and are
        counted.
        """

        def work():
            apply_env_defaults()
            from accord.assess.rollouts import pair_file
            from accord.rollouts.pairing import Pairing

            naming = naming_of(columns, ignore_columns)
            done = pair_file(scored, output, Pairing(policy, margin, seed), tell, naming)
            say(
                as_json,
                f"{output}: {plural(done['pairs'], 'pair')} of {plural(done['prompts'], 'prompt')}",
            )
            return done

        run(work, as_json)

    return pair

"""The commands of several runs: iterate, rlhf. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from accord.cli.options import Allow, Columns, Folder, IgnoreColumns, Json, Set, columns_of
from accord.environment.settings import apply_env_defaults


def add_rlhf_commands(app: typer.Typer, run: Callable, say: Callable, command: Callable) -> None:
    """Put the commands into the application; `run`, `say` and `command` as for
    `add_compare_commands`.
    """
    for make in (_iterate, _rlhf):
        app.command()(make(run, say, command))


def _display():
    from accord.runs.display import Display

    return Display(sys.stderr)


def _iterate(run: Callable, say: Callable, command: Callable) -> Callable:
    def iterate(
        recipe: Annotated[
            str,
            typer.Argument(
                help=(
                    "YAML recipe with a section rollouts; data.train and data.held_out are prompts."
                )
            ),
        ],
        rounds: Annotated[
            int, typer.Option(help="Rounds in all; those that are over are not run again.")
        ] = 3,
        prompts_per_round: Annotated[
            int | None,
            typer.Option(
                "--prompts-per-round",
                help=(
                    "None comes twice until all were used; default: all, dealt out over the rounds."
                ),
            ),
        ] = None,
        reference: Annotated[
            str,
            typer.Option(
                help=(
                    "last (the policy that the round begins with), first (the model before round"
                    " 1), or moving."
                )
            ),
        ] = "last",
        output: Folder = "rounds",
        set_: Set = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        allow: Allow = None,
        as_json: Json = False,
    ) -> None:
        """Run iterative DPO: rounds of sample, score, pair and train. If it is stopped
        or killed, the same command continues it.
        """

        def work():
            from accord.config.build import build

            named = columns_of(columns, ignore_columns)
            base = build(recipe, assignments=set_ or (), allow=allow or (), **named)
            apply_env_defaults()
            from accord.campaign.rlhf.rounds import Terms
            from accord.campaign.rlhf.rounds import iterate as carry_out
            from accord.pages.rlhf_lines import rounds_lines

            terms = Terms(output, rounds, prompts_per_round, reference)
            record = carry_out(base, terms, _display(), command())
            for line in rounds_lines(record):
                say(as_json, line)
            say(as_json, f"\nrounds.json beside the rounds in {output}")
            return record

        run(work, as_json, many=True)

    return iterate


def _rlhf(run: Callable, say: Callable, command: Callable) -> Callable:
    def rlhf(
        recipe: Annotated[
            str,
            typer.Argument(
                help=(
                    "YAML recipe: model, data (pairs), and a section for each of sft, reward_model,"
                    " ppo, dpo."
                )
            ),
        ],
        skip_sft: Annotated[
            bool, typer.Option("--skip-sft", help="The model is tuned already.")
        ] = False,
        against: Annotated[
            str | None,
            typer.Option(help="dpo: a run of it on the same pairs, from the same model."),
        ] = None,
        gold: Annotated[
            str | None,
            typer.Option(
                help=(
                    "Reward that the learned one stands for, as accord score --reward takes it"
                    " (vader, module:function); never trained on."
                )
            ),
        ] = None,
        seeds: Annotated[int, typer.Option(help="The recipe's seed and the ones after it.")] = 1,
        output: Folder = "rlhf",
        set_: Set = None,
        columns: Columns = None,
        ignore_columns: IgnoreColumns = None,
        allow: Allow = None,
        as_json: Json = False,
    ) -> None:
        """Run supervised tuning, a reward model and PPO, and measure them. DPO runs beside them if
        asked. If it is stopped or killed, the same command continues it.
        """

        def work():
            from accord.campaign.rlhf.phases import Recipe

            named = columns_of(columns, ignore_columns)
            told = [f"data.{name}={json.dumps(v)}" for name, v in named.items() if v is not None]
            changes = [*told, *(set_ or ())]
            read = Recipe.read(recipe, changes, allow or (), skip_sft=skip_sft, gold=gold)
            apply_env_defaults()
            from accord.campaign.rlhf.pipeline import Terms
            from accord.campaign.rlhf.pipeline import rlhf as carry_out
            from accord.pages.rlhf_lines import rlhf_lines

            record = carry_out(read, Terms(output, against, seeds), _display(), command())
            for line in rlhf_lines(record):
                say(as_json, line)
            say(as_json, f"\nrlhf.json beside the phases in {output}")
            return record

        run(work, as_json, many=True)

    return rlhf

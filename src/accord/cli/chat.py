"""The command that talks to a model. Heavy imports wait until it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from accord.cli.options import Dtype, Longest, Target, Temperature, check_dtype
from accord.environment.settings import apply_env_defaults
from accord.errors import UsageError


def add_chat_command(app: typer.Typer, run: Callable) -> None:
    """Put `accord chat` into the application; `run` as for `add_data_commands`."""

    @app.command()
    def chat(
        model: Target,
        system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
        compare: Annotated[
            bool, typer.Option("--compare", help="Show the reference's answer beside it.")
        ] = False,
        max_new_tokens: Longest = 256,
        temperature: Temperature = 1.0,
        top_p: Annotated[
            float | None,
            typer.Option(
                "--top-p",
                help="Sample from the smallest set of tokens with this probability; default: 1.",
            ),
        ] = None,
        seed: Annotated[
            int | None, typer.Option(min=0, help="Seed of every draw; default: 0.")
        ] = None,
        checkpoint: Annotated[
            str | None,
            typer.Option(help="latest, or best by held-out score; default: the final weights."),
        ] = None,
        dtype: Dtype = None,
        template: Annotated[
            str | None,
            typer.Option(
                help="auto, raw (text that the model goes on with), or a Jinja file; default: the"
                " run's."
            ),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object for each prompt.")
        ] = False,
    ) -> None:
        """Talk to a model in the terminal. Its reference stands beside it if you like; or it
        answers each line of a pipe.
        """

        def work() -> None:
            check_dtype(dtype)
            if temperature == 0:
                for name, value in (("--top-p", top_p), ("--seed", seed)):
                    if value is not None:
                        raise UsageError(
                            f"{name} does nothing at --temperature 0, which takes the likeliest"
                            " token. Leave one of them out."
                        )
            if system is not None and template == "raw":
                raise UsageError(
                    "--system does nothing with --template raw: such text has no system prompt."
                )
            apply_env_defaults()
            from accord.assess.chat.loop import chat as talk
            from accord.assess.generation import Sampling
            from accord.sampling.local import check_drawing

            sampling = Sampling(
                1, max_new_tokens, temperature, 1.0 if top_p is None else top_p, seed or 0
            )
            check_drawing(max_new_tokens, temperature, sampling.top_p)
            talk(
                model,
                sampling=sampling,
                system=system,
                compare=compare,
                dtype=dtype,
                template=template,
                checkpoint=checkpoint,
                as_json=as_json,
            )

        run(work, as_json)

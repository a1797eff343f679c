"""The command that starts a sampling server for a policy, or prints how to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import Json
from accord.environment.settings import apply_env_defaults


def add_serve_command(app: typer.Typer, run: Callable, say: Callable) -> None:
    """Put `accord serve-policy` into the application; `run` and `say` as for
    `add_data_commands`.
    """

    @app.command("serve-policy")
    def serve_policy(
        model: Annotated[
            str, typer.Argument(help="What the policy starts from, as model.name of the run.")
        ] = "smollm2",
        port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 8000,
        host: Annotated[
            str,
            typer.Option(
                help="Address that it listens on; another than this machine's own"
                " opens its files to whoever reaches it."
            ),
        ] = "127.0.0.1",
        max_model_len: Annotated[
            int | None,
            typer.Option("--max-model-len", min=2, help="Tokens of a prompt and its answer."),
        ] = None,
        max_lora_rank: Annotated[
            int, typer.Option("--max-lora-rank", min=1, help="model.lora.rank of the run, or more.")
        ] = 16,
        all_weights: Annotated[
            bool, typer.Option("--all-weights", help="The run trains all weights: no adapters.")
        ] = False,
        dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
        gpus: Annotated[int, typer.Option(min=1, help="GPUs that hold one model together.")] = 1,
        gpu_share: Annotated[
            float | None,
            typer.Option(
                "--gpu-share",
                min=0.01,
                max=1.0,
                help="Share of a GPU's memory; with vLLM's CPU build, of main memory.",
            ),
        ] = None,
        sleep: Annotated[
            bool, typer.Option("--sleep", help="It can give its memory back while a run trains.")
        ] = False,
        python: Annotated[
            str | None, typer.Option(help="Interpreter of the environment that has vLLM.")
        ] = None,
        start: Annotated[
            bool, typer.Option("--start", help="Start it, in place of this command.")
        ] = False,
        as_json: Json = False,
    ) -> None:
        """Print the command that starts vLLM for a policy, or run it."""

        def work():
            apply_env_defaults()
            from accord.models.load import folder_of
            from accord.sampling.serve_command import (
                Serving,
                as_line,
                require_interpreter,
                serve_command,
            )

            folder = str(Path(folder_of(model)).absolute())
            asked = Serving(
                folder,
                Path(folder).name if model != "smollm2" else model,
                port,
                host,
                max_model_len,
                max_lora_rank,
                all_weights,
                dtype,
                gpus,
                gpu_share,
                sleep,
                python,
            )
            variables, words = serve_command(asked)
            if start:
                path = require_interpreter(words[0])
                variables, words = serve_command(replace(asked, python=path))
                os.execve(path, words, os.environ | variables)
            say(as_json, as_line(variables, words))
            say(as_json, f"Then: accord train … --set rollouts.sampler=http://{host}:{port}")
            return {"environment": variables, "command": words}

        run(work, as_json)

"""Hand-over to other evaluation harnesses: print the command that measures an exported folder
there. Neither harness is a dependency.

Tested with lm_eval 0.4.13 (adapters) and inspect-ai (a merged model), each on a task of local rows.
The tasks named in the commands are examples: arc_easy needs nothing beside lm_eval; inspect_evals
is a package of its own (pip install inspect-evals).

Sources: lm-evaluation-harness, docs/interface.md (`--model_args pretrained=…,peft=…`); inspect-ai,
providers documentation (`hf/local` with `-M model_path=…`).
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from accord.assess.pushing import push_export, require_pushable
from accord.runs.export import Exported, export_run
from accord.runs.folder import RunFolder
from accord.types import UsageError


@dataclass(frozen=True)
class HandedOver:
    """An exported model, and where it can be used."""

    done: Exported
    evaluate: str | None  # the command by which a harness measures it
    pushed: str | None  # its name on a hub, with the commit


HARNESSES = ("lm-eval", "inspect-ai")


def export_for(
    run: str,
    output: str | None,
    *,
    merge: bool,
    which: str,
    dtype: str | None,
    harness: str | None = None,
    push: str | None = None,
    into: str | None = None,
) -> HandedOver:
    """Export a run, and send it to a hub where one is named.

    Raises:
      AccordError: as `runs.export.export_run`, `check` and `pushing`.
    """
    adapters = harness is not None and RunFolder.open(run).config().model.lora is not None
    check(harness, output, merge=merge, adapters=adapters)
    name = None if push is None else require_pushable(run, push, merge=merge)
    done = export_run(run, output, merge=merge, which=which, dtype=dtype, into=into)
    evaluate = None if harness is None else command(harness, done.folder)
    pushed = None if name is None else push_export(run, name, done, merge=merge)
    return HandedOver(done, evaluate, pushed)


def check(harness: str | None, output: str | None, *, merge: bool, adapters: bool) -> None:
    """Refuse a harness that cannot load this export, before anything is exported.

    Raises:
      UsageError: no such harness, or an export that it cannot load.
    """
    if harness is None:
        return
    if harness not in HARNESSES:
        raise UsageError(f"--for {harness}: expected {' or '.join(HARNESSES)}.")
    if harness == "inspect-ai" and adapters and not merge:
        raise UsageError(
            "--for inspect-ai: it loads whole models, and this run trained adapters. Add --merge."
        )
    if harness == "lm-eval" and output is not None and set(output) & set(",="):
        raise UsageError(
            f"--for lm-eval: its --model_args cannot hold a path with a comma or '=': {output}."
            " Choose another --output."
        )


def command(harness: str, folder: Path) -> str:
    """Build the command that evaluates an exported folder. Its tasks are examples.

    Raises:
      UsageError: the adapter's base is at a path that lm-eval's --model_args cannot hold.
    """
    folder = folder.resolve()
    chat = _chat(folder)
    if harness == "inspect-ai":
        words = [
            "inspect",
            "eval",
            "inspect_evals/gsm8k",
            "--model",
            "hf/local",
            "-M",
            f"model_path={folder}",
            "-M",
            f"tokenizer_path={folder}",
        ]
        return shlex.join(words)
    adapter = folder / "adapter_config.json"
    arguments = [f"pretrained={folder}"]
    if adapter.is_file():
        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        arguments = [f"pretrained={base}", f"peft={folder}", f"tokenizer={folder}"]
    for argument in arguments:
        if "," in argument or "=" in argument.partition("=")[2]:
            raise UsageError(
                f"--for lm-eval: its --model_args cannot hold {argument}. Export to another path:"
                " --output DIR."
            )
    words = ["lm_eval", "--model", "hf", "--model_args", ",".join([*arguments, "dtype=auto"])]
    return shlex.join(
        [
            *words,
            *(["--apply_chat_template"] if chat else []),
            "--tasks",
            "arc_easy",
            "--batch_size",
            "auto",
        ]
    )


def _chat(folder: Path) -> bool:
    """Tell whether the exported tokenizer has a chat template."""
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(
        json.loads(file.read_text(encoding="utf-8")).get("chat_template")
    )

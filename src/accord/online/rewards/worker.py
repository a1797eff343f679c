"""The process in which a stranger's reward function runs: `python -m accord.online.rewards.worker module:function OPTIONS`.

One JSON object a line comes in on standard input ({"prompts": …, "answers": …, "rows": …}), one goes out for each
({"values": …} or {"failed": …}). A function that hangs or dies takes this process with it, and nothing else. What it
prints goes to standard error: standard output belongs to the protocol.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable

from accord.errors import UsageError
from accord.imported import import_function, said

EXAMPLE = "mine:helpful"


def takes_rows(function: Callable) -> bool:
    """Whether it asks for the rows beside prompts and answers, by a third positional parameter or one named `rows`."""
    parameters = inspect.signature(function).parameters
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return "rows" in parameters or len(positional) > 2


def answered(function: Callable, asked: dict, options: dict) -> dict:
    """What goes back for one line. Whatever a stranger's function raises is a reason, in words."""
    try:
        rows = (asked["rows"],) if takes_rows(function) else ()
        found = function(asked["prompts"], asked["answers"], *rows, **options)
        found = found.tolist() if hasattr(found, "tolist") else list(found)
        return {"values": [value.item() if hasattr(value, "item") else value for value in found]}
    except Exception as error:
        return {"failed": f"raised {type(error).__name__}", "says": said(error)[:300]}


def main(name: str, options: dict) -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        function = import_function("reward", name, example=EXAMPLE)
    except UsageError as error:
        print(json.dumps({"unusable": str(error)}), file=channel, flush=True)
        return
    print(json.dumps({"ready": True}), file=channel, flush=True)
    for line in sys.stdin:
        print(json.dumps(answered(function, json.loads(line), options), default=lambda value: None), file=channel, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

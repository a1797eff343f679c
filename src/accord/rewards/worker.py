"""The process that runs a user's reward function: `python -m accord.rewards.worker module:function
OPTIONS`.

The protocol is one JSON object per line: {"prompts": …, "answers": …, "rows": …} on standard input,
and {"values": …, "reasons": {index: …}} or {"failed": …} on standard output. A function that hangs
or dies takes only this process with it. Both streams belong to the protocol: the function's prints
go to standard error, and it has no input to read.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Set
from itertools import islice

from accord.config.plugins import format_exception, import_function
from accord.errors import UsageError
from accord.rewards.verify import Unjudged

EXAMPLE = "mine:helpful"


def rows_as(function: Callable, rows: object) -> tuple[tuple, dict]:
    """Return the rows as arguments, if the function takes them: by a third positional parameter, or
    by one named `rows`.
    """
    parameters = inspect.signature(function).parameters
    if "rows" in parameters and parameters["rows"].kind is inspect.Parameter.KEYWORD_ONLY:
        return (), {"rows": rows}
    positional = [
        p
        for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return ((rows,) if "rows" in parameters or len(positional) > 2 else ()), {}


def check_call(function: Callable, options: dict) -> None:
    """Check that the function can be called with these options.

    Raises:
      UsageError: an option that the function does not have, or one that it lacks.
    """
    try:
        more, named = rows_as(function, [])
        inspect.signature(function).bind([], [], *more, **named, **options)
    except (TypeError, ValueError) as error:
        name = getattr(function, "__name__", "it")
        raise UsageError(
            f"reward: {name} cannot be called as {name}(prompts, answers[, rows], options …):"
            f" {error}."
        ) from error


def answer_request(function: Callable, asked: dict, options: dict) -> dict:
    """Answer one line of the protocol. An exception of the user's function becomes a reason in
    words.
    """
    wanted = len(asked["answers"])  # before the function gets the list, which it may change
    try:
        more, named = rows_as(function, asked["rows"])
        found = function(asked["prompts"], asked["answers"], *more, **named, **options)
        if isinstance(found, (str, bytes, Mapping, Set)):
            return {
                "failed": "no list of values",
                "says": f"a {type(found).__name__} where a list of numbers is expected",
            }
        # the iterable may be endless
        values = list(islice(found.tolist() if hasattr(found, "tolist") else found, wanted + 1))
        reasons = {i: str(value) for i, value in enumerate(values) if isinstance(value, Unjudged)}
        return {"values": [_plain(value) for value in values], "reasons": reasons}
    except Exception as error:
        return {"failed": f"raised {type(error).__name__}", "says": _said(error)}


def _plain(value: object) -> float | None:
    """Return a number as JSON can store it; None for anything else."""
    value = value.item() if hasattr(value, "item") else value
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:  # an integer beyond all floats
        return None


def _said(error: Exception) -> str:
    try:
        return format_exception(error)[:300]
    except Exception:  # its __str__ is a stranger's too
        return type(error).__name__


def main(name: str, options: dict) -> None:
    """Answer line by line until the input ends."""
    own = os.getpid()
    asking, channel = (
        os.fdopen(os.dup(0), encoding="utf-8"),
        os.fdopen(os.dup(1), "w", encoding="utf-8"),
    )
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        function = import_function("reward", name, example=EXAMPLE)
        check_call(function, options)
    except UsageError as error:
        print(json.dumps({"unusable": str(error)}), file=channel, flush=True)
        return
    print(json.dumps({"ready": True}), file=channel, flush=True)
    for line in asking:
        reply = answer_request(function, json.loads(line), options)
        # this is a copy that the function made by os.fork(): a second reply to one line would
        # shift all later replies
        if os.getpid() != own:
            os._exit(0)
        print(json.dumps(reply), file=channel, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

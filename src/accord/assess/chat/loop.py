"""The loop of `accord chat`: lines from a terminal or a pipe, until there is none."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from accord.assess.chat.conversation import Conversation
from accord.assess.chat.ctrl_c import CtrlC, Pressed
from accord.assess.chat.echo import echo
from accord.assess.chat.session import Session, View, require_system
from accord.assess.chat.sides import open_chat
from accord.assess.chat.views import JsonView, PlainView, TerminalView
from accord.assess.generation import Sampling
from accord.assess.opened import OpenModel
from accord.errors import plural, printable
from accord.models.quantized import count_weights
from accord.types import DataError

PROMPT = "> "


def chat(
    name: str,
    *,
    sampling: Sampling,
    system: str | None,
    compare: bool,
    dtype: str | None,
    template: str | None,
    checkpoint: str | None,
    as_json: bool,
) -> None:
    """Talk to a model until the input ends.

    Raises:
      AccordError: no model there, an option that does nothing, or, in a pipe, a line that was not
        answered.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    _never_fail_on_a_character()
    with _loading(name):
        opened = open_chat(name, dtype=dtype, template=template, checkpoint=checkpoint)
        if system is not None:
            require_system(opened, system, "--system")
    for line in _greeting(opened):
        print(printable(line), file=sys.stderr, flush=True)
    ctrl_c = CtrlC()
    view = _view(terminal, as_json, ctrl_c)
    conversation = Conversation(system, alone=opened.template.kind == "raw")
    session = Session(opened, view, sampling, conversation, ctrl_c)
    if compare:
        session.compare("")
    if terminal:
        view.say("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.")
    # in a pipe Ctrl-C ends the command, as it ends any other
    with ctrl_c.installed() if terminal else nullcontext():
        try:
            for line in _typed() if terminal else sys.stdin:
                with ctrl_c.held(), echo(False):
                    if not session.obey(line):
                        break
        finally:
            session.close()
    if session.problems and not terminal:
        raise DataError(f"{plural(session.problems, 'line')} could not be answered; see above.")


def _greeting(opened: OpenModel) -> Iterator[str]:
    """Say in one line what was loaded, and what there is to know of it."""
    model = opened.model
    size = count_weights(model.network) / 1e6
    about = f"{opened.weights}, {size:,.0f}M parameters, {model.dtype}, {model.device}"
    yield f"{opened.name}: {about}".replace("torch.", "")
    if opened.template.kind == "raw":
        yield (
            "! no chat template: each line is a text that the model goes on with, and it knows"
            " nothing of the lines before"
        )
    yield from (f"! {warning}" for warning in opened.warnings)
    yield from (f"  {note}" for note in opened.notes)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Say on a terminal that a model is loaded, until it is."""
    if not sys.stderr.isatty():
        yield
        return
    text = f"{printable(name)}: loading …"
    print(text, end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(" " * len(text), end="\r", file=sys.stderr, flush=True)


def _view(terminal: bool, as_json: bool, ctrl_c: CtrlC) -> View:
    if as_json:
        return JsonView(sys.stdout, sys.stderr)
    if not terminal:
        return PlainView(sys.stdout, sys.stderr)
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
    return TerminalView(sys.stdout, not plain, ctrl_c)


def _typed() -> Iterator[str]:
    """Yield the lines that a user types. Ctrl-C drops the line, Ctrl-D ends them."""
    with suppress(ImportError):
        import readline  # noqa: F401  # input() then edits lines and knows the ones before
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            print()
            return
        except Pressed:
            print("\n(Ctrl-D or /quit leaves)")


def _never_fail_on_a_character() -> None:
    """Write out what the terminal's encoding does not have, and read bytes that are no text as half
    surrogate pairs, which the session names.
    """
    for stream, errors in (
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
        (sys.stdin, "surrogateescape"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)

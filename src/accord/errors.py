"""Failures that a user can fix, each with the exit code of its kind. Imports nothing, so that
--help stays quick.
"""

from __future__ import annotations


class AccordError(Exception):
    """A failure that the user can fix. The command line prints it without a traceback and exits
    with `code`.

    Its message often quotes a file. It is escaped here, once, so that no column name moves a
    terminal's cursor and half a surrogate pair cannot make the error itself fail.
    """

    code = 2
    # whether every rank of a run raises it, so that the first one's report is enough
    on_all_ranks = False
    hint = ""  # what `with_hint` has added

    def with_hint(self, text: str) -> AccordError:
        """Return the same failure with what to do about it."""
        error = type(self)(f"{self} {text}")
        error.on_all_ranks = self.on_all_ranks
        error.hint = f"{self.hint} {text}"
        return error

    @property
    def without_hint(self) -> str:
        """The message alone, for a command of several runs, which has its own hint."""
        return str(self).removesuffix(printable(self.hint, keep="\n"))

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class AccordWarning(UserWarning):
    """A warning for a person that stops nothing, in one line."""


class FindingWarning(AccordWarning):
    """A warning that a finding of a check is behind: `finding` has its numbers and its remedy."""

    finding: object = None


class RedFlag(FindingWarning):
    """A red flag of a run: its figures say that something goes wrong."""


class DataWarning(FindingWarning):
    """A finding before the first update that a person should look at: of rows, settings or the
    model.
    """


def printable(text: str, keep: str = "") -> str:
    """Escape what could disturb a terminal or a UTF-8 file (controls, bidi marks, surrogates)."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def shorten(text: str, longest: int) -> str:
    """Cut a text to at most `longest` characters; the last is an ellipsis if it was longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Write a number of things: 1 row, 2,000 rows; 1 copy, 2 copies.

    Args:
      noun: the word for one.
      nouns: the word for several, where it is not `noun` and an s.
    """
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def first_line(error: BaseException, longest: int | None = 300) -> str:
    """Return the first line of an error's message, or its class if it has none."""
    words = str(error).strip().splitlines()
    return words[0][:longest] if words else type(error).__name__


def describe(error: BaseException) -> str:
    """Describe an error in one line: its class and the first line of its message."""
    name, words = type(error).__name__, first_line(error, 200)
    return name if words == name else f"{name}: {words}"


class UsageError(AccordError):
    """The command, the recipe or an option is wrong."""

    code = 2


class DataError(AccordError):
    """The data is missing, unreadable or unfit for what was asked."""

    code = 3


class Refused(AccordError):
    """A check before the first update failed: training would be silently wrong."""

    code = 4


class Diverged(AccordError):
    """Numbers stopped being finite. The last good weights are kept."""

    code = 5


class Flagged(Diverged):
    """A red flag stopped the run, as `--on-flag stop` asks; its state is saved."""


class CheckpointError(AccordError):
    """A checkpoint or a folder to write to is unusable."""

    code = 6


class Interrupted(AccordError):
    """A signal stopped the run; its state is saved and `accord resume` goes on from there."""

    code = 75


class Bug(AccordError):
    """A failure of the program itself. Only the command line makes one, from an exception that
    nothing else caught.
    """

    code = 1
    kind = ""  # the exception's own class
    log: str | None = None  # the file with the traceback; None where none could be written
    traceback = ""


class PeerLost(Interrupted):
    """Another process of the run is lost. If this process has the whole weights, its state is
    saved.
    """

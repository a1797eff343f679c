"""Failures that a user can mend, each with the exit code of its kind. Imports nothing, so that --help stays quick."""

from __future__ import annotations


class AccordError(Exception):
    """A failure that the user can mend. The command line prints it without a traceback and exits with `code`."""

    code = 2


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

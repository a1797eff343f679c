"""The command `train` as it is typed: it understands the flags of other tools."""

from __future__ import annotations

from accord.cli.group import AccordCommand, sort_words
from accord.cli.options import tell
from accord.environment.settings import ranks

# As `accord.config.schema` has it, which --help is too quick to import; a test compares the two.
DEFAULT_METHOD = "dpo"


class TrainCommand(AccordCommand):
    """A command that takes other tools' flags where they mean the same here."""

    def understood(self, args: list[str]) -> list[str]:
        known, unknown = sort_words(args, self)
        if not unknown:
            return known
        from accord.cli.foreign import translate

        options = {name for param in self.params for name in param.opts}
        translated = translate(known, unknown, options, _tell_once)
        # the parser complains about the first that nobody knows
        return [*known, *unknown] if translated is None else translated


def _tell_once(line: str) -> None:
    if ranks()[0] == 0:
        tell(line)

"""A session: each line that a user types is a prompt, or a command that begins with a slash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from accord import compat
from accord.assess.chat.conversation import Conversation, Draw, Exchange
from accord.assess.chat.ctrl_c import CtrlC
from accord.assess.chat.rows import answers_row, pair_row
from accord.assess.chat.saved import RowsFile
from accord.assess.chat.sides import (
    TUNED,
    GrowingAnswer,
    Side,
    began_elsewhere,
    provenance_of,
    reference_of,
)
from accord.assess.generation import Sampling
from accord.assess.opened import OpenModel
from accord.assess.soundness import growth
from accord.data.tokenizer_text import Unfit
from accord.environment.nearest import nearest
from accord.errors import plural
from accord.sampling.sampler import Prompt
from accord.types import AccordError, Turn, UsageError

LEFT, RIGHT = "left", "right"
OFF = "off"


class View(Protocol):
    """The place where a session is shown."""

    def shows_together(self) -> bool:
        """Tell whether two answers are shown while both grow."""

    def begin(self, exchange: Exchange, sides: Sequence[Side]) -> None:
        """Begin to show the answers of a prompt."""

    def piece(self, side: int, text: str) -> None:
        """Show more of an answer."""

    def finish(self, side: int) -> None:
        """Show that an answer is complete."""

    def end(self, draw: Draw) -> None:
        """Show what is to be said of the answers."""

    def say(self, text: str) -> None:
        """Show a message."""

    def problem(self, text: str) -> None:
        """Show why something was not done."""

    def agrees(self, question: str) -> bool:
        """Ask a question that is answered by yes or no."""


@dataclass
class Session:
    """A conversation with a model, the options of its answers, and the files it is saved to."""

    opened: OpenModel
    view: View
    sampling: Sampling
    conversation: Conversation
    ctrl_c: CtrlC
    reference: Side | None = None  # once it was asked for
    comparing: bool = False
    problems: int = 0  # lines that were not answered, or not obeyed
    asked: int = 0  # prompts so far, those that were taken back included
    answers: RowsFile | None = None
    pairs: RowsFile | None = None

    def __post_init__(self) -> None:
        self.tuned = Side(
            TUNED if began_elsewhere(self.opened) else "model",
            self.opened.weights,
            self.opened.model,
        )
        self._saved: dict[int, int] = {}  # number of an exchange -> draws of it that were saved
        self._said: set[str] = set()

    def sides(self) -> tuple[Side, ...]:
        """Return the models that answer the next prompt, from left to right."""
        if self.comparing and self.reference is not None:
            return self.reference, self.tuned
        return (self.tuned,)

    # ------------------------------------------------------------ lines

    def obey(self, line: str) -> bool:
        """Do what a line asks for; return False where it ends the session."""
        text = line.strip()
        if not text:
            return True
        try:
            _require_text(text)
            if text.startswith("//"):
                self.ask(text[1:])
            elif text.startswith("/"):
                return self._command(text)
            else:
                self.ask(text)
        except AccordError as error:
            self._tell_problem(str(error))
        except Exception as error:
            if not compat.is_out_of_memory(error):
                raise
            self._tell_problem(
                "Memory ran out, and the prompt is taken back. /clear begins again; a shorter"
                " --max-new-tokens needs less."
            )
        return True

    def _tell_problem(self, text: str) -> None:
        self.problems += 1
        self.view.problem(text)

    def _command(self, text: str) -> bool:
        word, _, argument = text[1:].partition(" ")
        command, argument = COMMANDS.get(word), argument.strip()
        if command is None:
            close = nearest(word, COMMANDS)
            meant = f" Did you mean /{close}?" if close else ""
            raise UsageError(
                f"/{word}: there is no such command.{meant} /help lists all. A prompt that begins"
                " with a slash is written with two."
            )
        if argument and not command.takes:
            raise UsageError(f"/{word} takes nothing behind it.")
        command.does(self, argument)
        return word != "quit"

    def close(self) -> None:
        """Save what is not saved yet."""
        self._save_answers(self.conversation.exchanges)

    # ------------------------------------------------------------ answers

    def ask(self, text: str) -> None:
        """Answer a prompt.

        Raises:
          UsageError: it cannot be answered; the conversation stays as it was.
        """
        before = self.conversation
        self.conversation = before.ask(text, self.asked + 1)
        try:
            self._draw()
        except BaseException:
            self.conversation = before
            raise
        self.asked += 1
        self._save_answers(self.conversation.exchanges[:-1])

    def _draw(self) -> None:
        """Draw answers to the last prompt."""
        exchange = self.conversation.exchanges[-1]
        ids = self._ids(exchange.asked)
        sampling = replace(self.sampling, max_new_tokens=self._room(ids))
        sides, row = self.sides(), len(exchange.draws)
        growing = [side.answer(ids, sampling, row) for side in sides]
        self.view.begin(exchange, sides)
        together = range(len(sides))
        for group in [together] if self.view.shows_together() else [[i] for i in together]:
            self._grow(growing, group)
        answers = tuple(each.answer() for each in growing)
        draw = Draw(
            answers, tuple(s.name for s in sides), sampling.seed, row, kept=len(answers) - 1
        )
        self.conversation = self.conversation.add(draw)
        self.view.end(draw)

    def _grow(self, growing: Sequence[GrowingAnswer], group: Sequence[int]) -> None:
        """Let some answers grow to their ends, a token of each at a time."""
        going = {i: iter(growing[i]) for i in group}
        while going:
            for i in [*going]:
                piece = next(going[i], None)
                if piece is None:
                    self._end(growing[i], i)
                    del going[i]
                else:
                    self.view.piece(i, piece)
            if self.ctrl_c.taken():
                for i in going:
                    growing[i].stop()
                    self._end(growing[i], i)
                return

    def _end(self, answer: GrowingAnswer, side: int) -> None:
        self.view.piece(side, answer.rest())
        self.view.finish(side)

    def _ids(self, turns: tuple[Turn, ...]) -> Prompt:
        """Encode a prompt. What the template changes in its text (blanks at the ends of an answer,
        say) is permitted here and said, since nothing is trained.

        Raises:
          UsageError: the template refuses it.
        """
        template = self.opened.template
        try:
            return template.question(turns)
        except Unfit as problem:
            try:
                ids = replace(template, permit_changes=True).question(turns)
            except Unfit as refused:
                raise UsageError(f"Not sent: {refused}.") from refused
            self._say_once(f"The chat template changes the text: {problem}.")
            return ids

    def _room(self, ids: Prompt) -> int:
        """Return the largest number of tokens that the answer may have.

        Raises:
          UsageError: the prompt leaves no room for an answer.
        """
        wanted = self.sampling.max_new_tokens
        for warning in growth(self.opened.model, [ids], wanted):
            self._say_once(warning)
        limit = self.opened.limit
        if limit is None or len(ids) + wanted <= limit:
            return wanted
        if len(ids) >= limit:
            raise UsageError(
                f"Not sent: the conversation with this prompt is {plural(len(ids), 'token')}, and"
                f" the model has {limit:,} positions. /back takes back a turn, /clear begins again."
            )
        room = limit - len(ids)
        self.view.say(
            f"The prompt is {len(ids):,} of the model's {limit:,} positions: the answer has"
            f" {plural(room, 'token')} at most. /clear begins again."
        )
        return room

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.view.say(text)

    # ------------------------------------------------------------ commands

    def show_help(self, _: str) -> None:
        """Show all commands."""
        names = [f"/{name} {command.takes}".rstrip() for name, command in COMMANDS.items()]
        width = max(map(len, names))
        lines = [
            f"{name:<{width}}  {command.says}"
            for name, command in zip(names, COMMANDS.values(), strict=True)
        ]
        self.view.say("\n".join([*lines, "Ctrl-C stops an answer. // begins a prompt with /."]))

    def compare(self, _: str) -> None:
        """Switch the comparison with the reference on or off."""
        if self.comparing:
            self.comparing = False
            self.view.say(f"From now on {self.tuned.name} answers alone.")
            return
        if self.reference is None:
            self.reference = reference_of(self.opened)
        self.comparing = True
        self.view.say(
            f"{LEFT}: {self.reference.name} ({self.reference.says}). {RIGHT}: {self.tuned.name}"
            f" ({self.tuned.says}). Both get the same prompt and seed; the conversation goes on"
            f" with the {RIGHT} answer, or with the one that you /prefer."
        )

    def set_system(self, argument: str) -> None:
        """Show, set or remove the system prompt."""
        if self.conversation.alone:
            raise UsageError("/system: text without a chat template has no system prompt.")
        if argument:
            system = None if argument == OFF else argument
            if system is not None:
                require_system(self.opened, system)
            self.conversation = self.conversation.with_system(system)
        system = self.conversation.system
        self.view.say(f"system prompt: {system}" if system is not None else "no system prompt")

    def set_seed(self, argument: str) -> None:
        """Show or set the seed."""
        if self.sampling.temperature == 0:
            raise UsageError("/seed does nothing at temperature 0: nothing is drawn at random.")
        if argument:
            if not (argument.isascii() and argument.isdigit()):
                raise UsageError(f"/seed {argument}: expected a whole number, 0 or more.")
            self.sampling = replace(self.sampling, seed=int(argument))
        self.view.say(f"seed: {self.sampling.seed}")

    def again(self, _: str) -> None:
        """Draw another answer to the last prompt."""
        last = self._last("/again")
        whole = not any(answer.interrupted for answer in last.last.answers)
        same = len(last.last.answers) == len(self.sides())
        if self.sampling.temperature == 0 and whole and same:
            raise UsageError(
                "/again: at temperature 0 the answer would be the same. Start with --temperature 1."
            )
        self._draw()

    def back(self, _: str) -> None:
        """Take the last prompt back."""
        text = self._last("/back").text
        self.conversation = self.conversation.back()
        self.view.say(f"Taken back: {text}")

    def clear(self, _: str) -> None:
        """Begin a new conversation."""
        self._save_answers(self.conversation.exchanges)
        self.conversation = self.conversation.clear()
        self.view.say("A new conversation begins.")

    def save(self, argument: str) -> None:
        """Begin to save the conversation."""
        if not argument:
            raise UsageError("/save needs a file: /save answers.jsonl")
        self.answers = RowsFile(argument, self.view.agrees)
        self._saved.clear()
        self._save_answers(self.conversation.exchanges[:-1])
        self.view.say(
            f"{argument}: {plural(self.answers.rows, 'row')} written. The last prompt is written"
            " when the next one is asked or the session ends, with all answers that /again draws."
        )

    def prefer(self, argument: str) -> None:
        """Write the last two answers as a pair."""
        side, _, name = argument.partition(" ")
        if side not in (LEFT, RIGHT):
            raise UsageError(f"/prefer needs the better side: /prefer {LEFT} or /prefer {RIGHT}")
        last = self._last("/prefer")
        if len(last.last.answers) < 2:
            raise UsageError(
                "/prefer: the last prompt has one answer. /compare and /again give it two."
            )
        chosen = (LEFT, RIGHT).index(side)
        assert self.reference is not None, "two answers come of two models"
        both = (self.reference, self.tuned)
        row = pair_row(last, chosen, provenance_of(self.opened, both, self.sampling))
        self._pairs_file(name.strip()).add(row)
        assert self.pairs is not None
        self.conversation = self.conversation.keep(chosen)
        self.view.say(
            f"{self.pairs.path.name}: {plural(self.pairs.rows, 'pair')}. The conversation goes on"
            f" with the {side} answer ({last.last.sides[chosen]})."
        )

    def quit(self, _: str) -> None:
        """End the session; `obey` does it."""

    def _last(self, command: str) -> Exchange:
        last = self.conversation.last
        if last is None:
            raise UsageError(f"{command}: nothing was asked yet.")
        return last

    # ------------------------------------------------------------ files

    def _pairs_file(self, name: str) -> RowsFile:
        """Return the file of preferences: the one that is named, the one so far, or one beside the
        saved answers.
        """
        if name:
            self.pairs = RowsFile(name, self.view.agrees)
        elif self.pairs is None:
            if self.answers is None:
                raise UsageError("/prefer needs a file once: /prefer left pairs.jsonl")
            self.pairs = RowsFile(
                str(self.answers.path.with_suffix(".pairs.jsonl")), self.view.agrees
            )
        return self.pairs

    def _save_answers(self, exchanges: Sequence[Exchange]) -> None:
        """Write the draws of these exchanges that are not in the file yet."""
        if self.answers is None:
            return
        for exchange in exchanges:
            done = self._saved.get(exchange.number, 0)
            new = replace(exchange, draws=exchange.draws[done:])
            if new.draws:
                compared = any(len(draw.sides) > 1 for draw in new.draws)
                sides = (self.reference,) if compared and self.reference is not None else ()
                made = provenance_of(self.opened, (*sides, self.tuned), self.sampling)
                self.answers.add(answers_row(new, made))
                self._saved[exchange.number] = len(exchange.draws)


def require_system(opened: OpenModel, system: str, option: str = "/system") -> None:
    """Check that the chat template takes a system prompt and shows it to the model.

    Raises:
      UsageError: it does not.
    """
    if opened.template.kind == "raw":
        raise UsageError(
            f"{option} does nothing: text without a chat template has no system prompt."
        )
    try:
        opened.template.question((Turn("system", system), Turn("user", "Hello")))
    except Unfit as problem:
        raise UsageError(f"{option}: this model cannot be given it: {problem}.") from problem


def _require_text(line: str) -> None:
    """
    Raises:
      UsageError: the line holds bytes that are no UTF-8; Python has them as half surrogate pairs.
    """
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError("Not sent: this line is no text in UTF-8.") from error


class Command(NamedTuple):
    """A command of the session."""

    takes: str  # as /help shows it; empty: nothing
    says: str
    does: Callable[[Session, str], None]


COMMANDS = {
    "help": Command("", "this list", Session.show_help),
    "compare": Command(
        "", "show the reference's answer beside the tuned one; again: no more", Session.compare
    ),
    "system": Command("TEXT", "set the system prompt; off removes it", Session.set_system),
    "seed": Command("N", "set the seed of the draws", Session.set_seed),
    "again": Command("", "draw another answer to the last prompt", Session.again),
    "back": Command("", "take back the last prompt and its answers", Session.back),
    "clear": Command("", "begin a new conversation", Session.clear),
    "save": Command("FILE", "add the prompts and answers to a file for accord score", Session.save),
    "prefer": Command(
        "SIDE [FILE]", "left or right is better: add a pair for accord train", Session.prefer
    ),
    "quit": Command("", "leave, as Ctrl-D does", Session.quit),
}

"""The words of the command line in Python: `--columns a=b` becomes `columns={"a": "b"}`, and
`accord resume RUN` becomes `accord.resume("RUN")`.

Errors and remedies are written once, for the command line. A caller of a function gets them by
`in_python`. Commands that have no function (`accord doctor`) stay as they are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from accord.config.columns import parse_columns, parse_names
from accord.config.yaml_text import NOT_YAML, TwiceError, read_yaml
from accord.errors import AccordError

# command -> (function, arguments without a name that it takes; None: any number)
FUNCTIONS: dict[str, tuple[str, int | None]] = {
    "train": ("train", 1),
    "resume": ("resume", 1),
    "audit": ("audit", 1),
    "advise": ("advise", 1),
    "eval": ("evaluate", 1),
    "generate": ("generate", 1),
    "compare": ("compare", 1),
    "sweep": ("sweep", 1),
    "report": ("report", None),
    "export": ("export", 1),
    "split": ("split", 1),
    "convert": ("convert", 1),
    "sample": ("sample", 1),
    "score": ("score", 1),
    "pair": ("pair", 1),
}

# Flags whose keyword is their name with underscores.
PLAIN_FLAGS = frozenset(
    (
        "adapter against allow balance-length batch-size beta checkpoint columns data drop "
        "dry-run dtype epochs fix format held-out hold-out ignore-columns judge "
        "judge-max-tokens judge-model judge-set judge-timeout k keep kl-budget learning-rate "
        "limit margin max-new-tokens max-per-prompt mend merge merge-into method methods "
        "min-chosen-score model model-rows near-tie on-flag output page perplexity policy prompt "
        "prompts push recipe reference reward rows sample sample-tokens samples scorer scorer-set "
        "search seed seeds set share steps temperature template to top-p trials"
    ).split()
)
# `for` is a word of Python's own, and `lr` the command line's short form
RENAMED_FLAGS = {"for": "harness", "lr": "learning_rate"}
# Flags that stand for a keyword with a value of its own.
FIXED_FLAGS = {"all-weights": "lora=False"}
# Flags of the terminal alone: what they print, a result has.
TERMINAL_FLAGS = frozenset({"json", "all", "checks", "help"})
FLAGS = PLAIN_FLAGS | RENAMED_FLAGS.keys() | FIXED_FLAGS.keys()

SWITCHES = frozenset({"balance-length", "merge", "dry-run"})
ASSIGNED = frozenset({"set", "judge-set", "scorer-set"})  # KEY=VALUE, once or more

# Words that follow a flag or a command in a sentence and are no value of it.
PROSE = frozenset(
    (
        "a about accepts again an and are as ask asks at be beats both brings by can cannot "
        "changes chooses compares counts cuts decides do does draws drops for from gave gives "
        "had has have here hint if in into is it its keeps leaves lists made makes may mends "
        "merges must name named names needs of on once or out read reads refuses reports rounds "
        "says scales see sees serves sets shows so take takes that the then there they this to "
        "tried tries two wants was which while with without would writes wrote"
    ).split()
)

TOKEN = re.compile(r"[ \t]+((?:'[^']*'|\"[^\"]*\"|,(?=[^\s,])|[^\s'\"`,;()])+)")
BEGINS = re.compile(
    rf"\baccord ({'|'.join(FUNCTIONS)})\b(?!-)|(?<![\w-])--({'|'.join(sorted(FLAGS))})(?![\w=-])"
)
# what is repeated is a call
PHRASES = (
    (re.compile(r"\b([Tt]he) same command\b"), r"\1 same call"),
    (re.compile(r"\b([Gg]ive) the command again\b"), r"\1 the call again"),
)
# the name of rows in memory as an argument, in place of the variable that holds them
IN_MEMORY = re.compile(r'"rows of (\w+)(?: \(\d+\))?"')


def in_python(text: str) -> str:
    """Return a message with every command and flag in its Python form."""
    out, at = [], 0
    while found := BEGINS.search(text, at):
        out.append(text[at : found.start()])
        call = _Call(text, found.start() if found[2] else found.end())
        if found[2]:
            call.flags()
            out.append(call.keywords())
        else:
            name, most = FUNCTIONS[found[1]]
            call.positionals(most)
            call.flags()
            if call.named.pop("dry-run", None) is not None:
                name = "dry_run"
            arguments = call.arguments()
            out.append(f"accord.{name}({arguments})" if arguments else f"accord.{name}")
        at = call.at
    said = IN_MEMORY.sub(r"\1", "".join(out) + text[at:])
    for command, call_again in PHRASES:
        said = command.sub(call_again, said)
    return said


def speak_python(error: AccordError) -> None:
    """Rewrite an error's message in place, so that its class, cause and traceback stay."""
    if error.args and isinstance(error.args[0], str):
        error.args = (in_python(error.args[0]), *error.args[1:])


@dataclass
class _Call:
    """A command line inside a text, read from `at` on."""

    text: str
    at: int
    given: list[str] = field(default_factory=list)  # arguments without a name
    named: dict[str, list[str | None]] = field(default_factory=dict)  # flag -> its values
    over: bool = False  # a full stop or a comma ended it

    def positionals(self, most: int | None) -> None:
        while (most is None or len(self.given) < most) and (word := self._value()) is not None:
            self.given.append(word)

    def flags(self) -> None:
        while not self.over and (flag := self._flag()) is not None:
            name, _, value = flag.partition("=")
            values = self.named.setdefault(name, [])
            if name not in SWITCHES and name not in FIXED_FLAGS:
                values.append(value or self._value())

    def _flag(self) -> str | None:
        """Read the next word if it is a flag with a keyword."""
        # the first flag of a sentence has no blank before it that belongs to it
        found = TOKEN.match(" " + self.text[self.at :]) if not self.named else None
        shift = -1
        if found is None or not found[1].startswith("--"):
            found, shift = TOKEN.match(self.text, self.at), 0
        if found is None or not found[1].startswith("--"):
            return None
        word, end = self._ended(found[1])
        if word.removeprefix("--").partition("=")[0] not in FLAGS:
            return None
        self.at = (self.at + found.end() + shift if shift else found.end()) - end
        self.over = bool(end)
        return word.removeprefix("--")

    def _value(self) -> str | None:
        """Read the next word if it is a value, and no word of the sentence around."""
        found = None if self.over else TOKEN.match(self.text, self.at)
        if found is None or found[1].startswith("--") or found[1].strip(".:…") in PROSE:
            return None
        word, end = self._ended(found[1])
        if not word:
            return None
        self.at, self.over = found.end() - end, bool(end)
        return word

    def _ended(self, word: str) -> tuple[str, int]:
        """Cut off the full stop or colon of the sentence; return the word and what was cut."""
        bare = word.rstrip(".:…")
        if bare.endswith("=") and word == f"{bare}…":  # a value that is not shown
            return bare, 0
        return bare, len(word) - len(bare)

    def arguments(self) -> str:
        return ", ".join([*(_literal(_unquoted(word)) for word in self.given), *self._keywords()])

    def keywords(self) -> str:
        return ", ".join(self._keywords())

    def _keywords(self) -> Iterator[str]:
        for flag, values in self.named.items():
            yield _keyword(flag, [_unquoted(value) for value in values if value is not None])


def _keyword(flag: str, values: list[str]) -> str:
    """Write one flag and its values as a keyword argument."""
    if flag in FIXED_FLAGS:
        return FIXED_FLAGS[flag]
    name = RENAMED_FLAGS.get(flag, flag.replace("-", "_"))
    if flag in SWITCHES:
        return f"{name}=True"
    if not values:  # the sentence speaks of it, and gives it no value
        return name
    if flag == "columns":
        return f"{name}={_columns(values)}"
    if flag == "ignore-columns":
        return f"{name}={_listed(parse_names(values))}"
    if flag in ASSIGNED:
        return f"{name}={_assigned(values)}"
    if flag in ("allow", "drop", "keep", "mend"):
        return f"{name}={_listed(values)}"
    return f"{name}={_literal(values[0]) if len(values) == 1 else _listed(values)}"


def _columns(values: list[str]) -> str:
    try:
        found = parse_columns(values)
    except AccordError:  # placeholders: several columns are called COLUMN
        pairs = [each.partition("=") for value in values for each in value.split(",")]
        if not all(sign for _, sign, _ in pairs):
            return _literal(values[0])
        return "{" + ", ".join(f"{_literal(one)}: {_literal(two)}" for one, _, two in pairs) + "}"
    return json.dumps(found, ensure_ascii=False)


def _assigned(values: list[str]) -> str:
    pairs = [value.partition("=") for value in values]
    if not all(sign for _, sign, _ in pairs):
        return "{…}" if len(values) > 1 else _literal(values[0])
    return "{" + ", ".join(f"{_literal(key)}: {_yaml(text)}" for key, _, text in pairs) + "}"


def _yaml(text: str) -> str:
    """Write the value of an assignment as Python reads it; several are a list."""
    if not text:
        return "…"
    if "," in text and text[0] not in "[{\"'":
        return "[" + ", ".join(_yaml(each) for each in text.split(",") if each) + "]"
    try:
        value = read_yaml(text)
    except (*NOT_YAML, TwiceError):
        return _literal(text)
    return _literal(text) if isinstance(value, str) else repr(value)


def _listed(values: list[str] | tuple[str, ...]) -> str:
    return "[" + ", ".join(map(_literal, values)) + "]"


def _literal(word: str) -> str:
    """Write a word as a number, as the name of one (N, K), or as a text."""
    if re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?|[A-Z]", word):
        return word
    return json.dumps(word, ensure_ascii=False)


def _unquoted(word: str) -> str:
    try:
        return "".join(shlex.split(word))
    except ValueError:  # a quote that does not end
        return word

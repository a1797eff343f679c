"""The reading of one tool's settings into a recipe, with an account of what became of each.

Every key ends in exactly one place: mapped, not needed, without equivalent, or unknown (an error).
A key that a file leaves out takes the tool's own default through the same rules; the account says
that it came from there.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accord.errors import UsageError


@dataclass(frozen=True, slots=True)
class To:
    """The rule of a key that has a place in a recipe."""

    path: str
    convert: Callable[[Any], Any] = lambda value: value
    note: str = ""


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """The rule of a key that needs nothing: accord does this anyway, or it concerns only how the
    other tool works.
    """

    why: str


@dataclass(frozen=True, slots=True)
class Without:
    """The rule of a key that accord has nothing like. `unless` are the values at which it does
    nothing there either.
    """

    why: str
    unless: tuple[Any, ...] = (False, 0, "", "no", "none")


Rule = To | NotNeeded | Without


@dataclass(frozen=True, slots=True)
class Default:
    """A value that a tool takes where its file is silent."""

    key: str
    value: Any
    means: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """The rules by which one tool's files are read."""

    name: str
    signs: frozenset[str]  # keys that this tool's files have and others' do not
    rules: Mapping[str, Rule]
    # rules that take several keys at once: the loss, the batch, the adapters, the data
    joint: Callable[[Reading], None]
    defaults: Callable[[Mapping[str, Any]], tuple[Default, ...]]  # some depend on the method


@dataclass(frozen=True, slots=True)
class Line:
    """The fate of one key."""

    fate: str  # mapped, default, not needed, no equivalent, to do
    key: str
    text: str
    path: str = ""  # field of the recipe that it went to, with its value and what differs there
    value: Any = None
    note: str = ""


@dataclass
class Reading:
    """The state of a reading: the settings that are left, the recipe so far, and the account."""

    tool: Tool
    settings: dict[str, Any]
    given: frozenset[str]  # the file's own keys, with a value
    nulls: frozenset[str]  # keys set to null, which need not mean the same as leaving them out
    devices: int = 1  # that share a batch of rows there
    defaulted: dict[str, Default] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def take(self, key: str, otherwise: Any = None) -> Any:
        """Return the value of a key, and mark it as dealt with."""
        value = self.settings.pop(key, None)
        return otherwise if value is None else value

    def put(self, path: str, value: Any, key: str, note: str = "") -> None:
        """Set a field of the recipe, and record which key it came from."""
        *sections, name = path.split(".")
        node = self.recipe
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
        default = self.defaulted.get(key)
        text = "; ".join(
            part for part in (f"{path} = {value!r}", note, default.means if default else "") if part
        )
        fate = "mapped" if key in self.given else "default"
        self.lines.append(Line(fate, key, text, path, value, note))

    def say(self, fate: str, key: str, text: str) -> None:
        self.lines.append(Line(fate, key, text))


def read(
    tool: Tool, settings: Mapping[str, Any], devices: int = 1, leave_out: tuple[str, ...] = ()
) -> Reading:
    """Deal with every setting.

    Args:
      settings: as the file has them.
      devices: how many the file was meant for; each takes its own rows.
      leave_out: keys to go on without.

    Raises:
      UsageError: a key that the tool's rules do not know, or a loss that accord does not have.
    """
    reading = read_known(tool, settings, devices, leave_out)
    if reading.settings:
        raise UsageError(_unknown(tool, sorted(reading.settings)))
    return reading


def read_known(
    tool: Tool, settings: Mapping[str, Any], devices: int = 1, leave_out: tuple[str, ...] = ()
) -> Reading:
    """Deal with every setting that the tool's rules know; the others are left in `settings` of the
    result.
    """
    given = {
        key: value for key, value in settings.items() if value is not None and key not in leave_out
    }
    nulls = frozenset(key for key, value in settings.items() if value is None)
    reading = Reading(tool, given, frozenset(given), nulls, devices)
    for key in leave_out:
        reading.say("no equivalent", key, "left out, as asked")
    reading.defaulted = {each.key: each for each in tool.defaults(given) if each.key not in given}
    given |= {key: each.value for key, each in reading.defaulted.items() if each.value is not None}
    try:
        tool.joint(reading)
        for key in sorted(set(given) & set(tool.rules)):
            _follow(reading, key, tool.rules[key], reading.take(key))
    except NoNumber as error:
        keys = [key for key, value in settings.items() if value is error.value]
        raise UsageError(": ".join([*keys[:1], str(error)])) from error
    return reading


def _follow(reading: Reading, key: str, rule: Rule, value: Any) -> None:
    if isinstance(rule, To):
        reading.put(rule.path, rule.convert(value), key, rule.note)
    elif isinstance(rule, NotNeeded):
        if key in reading.given:
            reading.say("not needed", key, rule.why)
    elif value not in rule.unless and value != {} and value != []:
        reading.say("no equivalent", key, f"{value!r:.60}: {rule.why}")


def _unknown(tool: Tool, keys: list[str]) -> str:
    lines = [f"read as a file of {tool.name}, these keys mean nothing known:"]
    for key in keys:
        meant = difflib.get_close_matches(key, tool.rules, n=1)
        lines.append(f"  {key}" + (f" (did you mean {meant[0]}?)" if meant else ""))
    return "\n".join(
        [*lines, f"Mend them, or go on without: {' '.join(f'--leave-out {key}' for key in keys)}"]
    )


# ---------------------------------------------------------------- what the tools have in common


class NoNumber(UsageError):
    """A value that is not the number that was expected; whoever has the settings knows its key."""

    def __init__(self, kind: str, value: Any):
        super().__init__(f"expected a {kind}number, got {value!r:.60}.")
        self.value = value


def number(value: Any) -> float:
    """Read a number: YAML reads 5e-6 as text."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise NoNumber("", value) from error
    if not math.isfinite(found):
        raise NoNumber("finite ", value)
    return found


def whole(value: Any) -> int:
    found = number(value)
    if found != int(found):
        raise NoNumber("whole ", value)
    return int(found)


SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
}


def schedule(value: Any) -> str:
    if not isinstance(value, str) or value not in SCHEDULES:
        raise UsageError(
            f"the schedule {value!r:.40} has no equivalent: accord has"
            f" {', '.join(sorted(set(SCHEDULES.values())))}."
        )
    return SCHEDULES[value]


def batch(reading: Reading, per_device: str) -> None:
    """Map the rows per update: what a device takes at once × accumulation × devices."""
    at_once, times = (
        whole(reading.take(per_device, 1)),
        whole(reading.take("gradient_accumulation_steps", 1)),
    )
    note = (
        f"rows at once {at_once} × accumulated {times} × devices {reading.devices} (--devices N for"
        " another number)"
    )
    given = reading.given
    accumulated = per_device not in given and "gradient_accumulation_steps" in given
    key = "gradient_accumulation_steps" if accumulated else per_device
    reading.put("train.batch_size", at_once * times * reading.devices, key, note)


def length(reading: Reading, epochs: str) -> None:
    """Map the length of training: updates, or epochs."""
    steps, passes = reading.take("max_steps", -1), reading.take(epochs)
    if whole(steps) > 0:
        reading.put("train.steps", whole(steps), "max_steps")
        if epochs in reading.given:
            reading.say("not needed", epochs, "max_steps decides")
    elif passes is not None:
        reading.put("train.epochs", number(passes), epochs)


def warmup(reading: Reading) -> None:
    """Map the warmup. Steps win over a share of them, as in transformers."""
    steps, share = reading.take("warmup_steps"), reading.take("warmup_ratio")
    if steps is not None and number(steps) > 0:
        reading.put("train.warmup", number(steps), "warmup_steps")
    elif share is not None:
        reading.put("train.warmup", number(share), "warmup_ratio")
    else:
        reading.put("train.warmup", 0.0, "warmup_steps", "no warm-up")


def every(reading: Reading, strategy: str, steps: str, path: str) -> None:
    """Map the steps between evaluations or checkpoints, where they are counted in steps."""
    how, many = reading.take(strategy), reading.take(steps)
    if how == "epoch":
        reading.say(
            "to do",
            strategy,
            f"once an epoch has no equivalent: set {path} to the updates of an epoch",
        )
    elif how not in ("no", False) and many is not None:
        if number(many) < 1:
            reading.say(
                "to do",
                steps,
                f"{many} of the run has no equivalent: set {path} to that many updates",
            )
        else:
            reading.put(path, whole(many), steps)
            if how is not None and strategy in reading.given:
                reading.say("not needed", strategy, f"{path} says it")
    elif how is not None and strategy in reading.given:
        reading.say("not needed", strategy, f"nothing is done every so many steps: {how!r:.40}")


def switch(reading: Reading, key: str) -> bool:
    """Read a switch, off where it is not given, in the words that these tools' parsers take.

    Raises:
      UsageError: it is neither on nor off.
    """
    value = str(reading.take(key, False)).lower()
    if value in ("true", "t", "yes", "y", "1"):
        return True
    if value in ("false", "f", "no", "n", "0"):
        return False
    raise UsageError(f"{key} = {value!r:.60}: expected true or false. Nothing was written.")


def no_such_loss(tool: str, name: object, why: str = "") -> UsageError:
    return UsageError(
        f"{tool}'s loss {name!r:.80} has no equivalent here: accord methods lists what accord has."
        + (f" {why}" if why else "")
        + "\nNothing was written. A loss of your own can be trained as module:function; see"
        " docs/own.md."
    )

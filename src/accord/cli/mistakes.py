"""Complaints about arguments, in words: what is wrong, what was expected, and what to type."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

from accord.cli.command_table import ELSEWHERE, example_of
from accord.cli.given import are_methods
from accord.config.renamed import TRL_NAMES
from accord.environment.nearest import nearest


def no_such_command(word: str, behind: str = "", *, commands: list[str]) -> str:
    """Say what a word that is no command may have meant.

    Args:
      behind: the next word.
    """
    if word.lower() == "help" and behind in commands:
        return f"accord {word} {behind}: its options: accord {behind} --help"
    if typed := ELSEWHERE.get(word.lower()):
        return f"accord {word}: no such command. Here it is: {typed}"
    if close := nearest(word, commands):
        return f"accord {word}: no such command. Did you mean accord {close}?"
    if Path(word).exists():
        return (
            f"accord {word}: a file or folder, and a command comes first. For a file of"
            f" preferences: accord audit {shlex.quote(word)}\n"
            f"or: accord train --data {shlex.quote(word)}"
        )
    return f"accord {word}: no such command. All commands: accord --help"


def in_words(error: Any, words: list[str], group: Any) -> str:
    """Turn a complaint of the parser of arguments into what is wrong and what to type."""
    context = getattr(error, "ctx", None)
    named = next((word for word in words if word in group.commands), None)
    command = context.command if context is not None else group.commands.get(named, group)
    path = "accord" if command is group else f"accord {command.name}"
    kind = type(error).__name__
    if kind == "NoSuchOption":
        said = _no_such_option(error.option_name, command, group, path)
    elif kind == "MissingParameter":
        said = _missing(error.param, path)
    elif getattr(error, "param", None) is not None:
        said = _wrong_value(error, words)
    elif kind == "BadOptionUsage":
        said = f"{path} {error.option_name}: a value must follow, and none does."
    elif (extra := re.search(r"extra argument\S* \((.*)\)", error.format_message())) is not None:
        said = _extra(extra[1], words, command, path)
    else:
        said = f"{path}: {error.format_message()}"
    return f"{said}\nAll its options: {path} --help"


def _no_such_option(name: str, command: Any, group: Any, path: str) -> str:
    asked = name.split("=")[0]
    said = f"{path} {asked}: no such option."
    if command is group and asked.lower() in ("-v", "--v", "--ver"):
        return f"{said} Did you mean accord --version?"
    if command is not group and (place := TRL_NAMES.get(asked.lstrip("-").replace("-", "_"))):
        return f"{said} It is TRL's name of a setting of a recipe, which is here {place}."
    if command is not group and command.name == "train" and (known := _method_option(asked)):
        return f"{said} {known}"
    if close := nearest(asked.replace("_", "-"), _options(command), cutoff=0.7):
        return f"{said} Did you mean {close}?"
    having = [one.name for one in group.commands.values() if asked in _options(one)]
    if having and command is group:
        return f"{said} Options come behind the command: accord {having[0]} {asked}"
    if having:
        return f"{said} It is one of {', '.join(f'accord {one}' for one in having[:4])}."
    return said


def _method_option(asked: str) -> str | None:
    """Say of which methods a word is an option; None where it is no method's."""
    from accord.objectives import OBJECTIVES, POLICY_OBJECTIVES

    name = asked.lstrip("-").replace("-", "_")
    takers = [each.name for each in (OBJECTIVES | POLICY_OBJECTIVES).values() if name in each.kinds]
    if not takers:
        return None
    return (
        f"It is an option of {' and '.join(takers)}: --method {takers[0]} --set"
        f" objective.{name}=VALUE"
    )


def _missing(param: Any, path: str) -> str:
    if param.param_type_name == "argument":
        name = (param.metavar or param.name).upper()
    else:
        name = param.opts[0]
    example = example_of(path.removeprefix("accord "))
    such = f"\nSuch as: {example}" if example else ""
    return f"{path}: {name} is missing. {param.help or ''}{such}"


def _wrong_value(error: Any, words: list[str]) -> str:
    param = error.param
    name = param.opts[0] if param.param_type_name == "option" else param.name.upper()
    value = _value(words, param)
    given = f"{name} {value}" if value is not None else name
    return f"{given}: {_expected(error.message, name, value or '')}"


def _expected(message: str, name: str, value: str) -> str:
    """Say in plain words what the parser expected; its own words where they are none of these."""
    bound = re.search(r"(greater|less) than or equal to (\S+)", message)
    if bound:
        return f"expected {bound[2]} or {'more' if bound[1] == 'greater' else 'less'}."
    if "integer" in message:
        return f"expected a whole number, such as {name} 10."
    if "number" in message or "float" in message:
        share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
        such = f"{float(share[1]) / 100:g}" if share else "0.1"
        return f"expected a number, such as {name} {such}."
    return message.rstrip(".") + "."


def _value(words: list[str], param: Any) -> str | None:
    """Find the value that was typed for an option."""
    for place, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name.replace("_", "-") in param.opts:
            return value if sign else next(iter(words[place + 1 :]), None)
    return None


def _extra(extra: str, words: list[str], command: Any, path: str) -> str:
    if meant := _meant_by(words, command):
        return f"{path}: {meant}"
    taken = [one for one in command.params if one.param_type_name == "argument"]
    names = " ".join((one.metavar or one.name).upper() for one in taken) or "no argument"
    said = f"{path} takes {names}; {extra} is one too many."
    first = extra.split()[0]
    place = words.index(first) if first in words else 0
    if place > 1 and words[place - 2].endswith("set") and "=" not in words[place - 1]:
        return f"{said} Did you mean {words[place - 2]} {words[place - 1]}={first}?"
    if "--held-out" in _options(command):
        said += f" Held-out rows have an option: --held-out {first}"
    example = example_of(path.removeprefix("accord "))
    return f"{said}\nSuch as: {example}" if example else said


def _meant_by(words: list[str], command: Any) -> str:
    """Say what words without an option may have meant: a pattern that the shell has read, methods,
    or a model; empty where they are none of these.
    """
    options = _options(command)
    known = {word for word in words[1:] if Path(word).exists()}
    files = [word for word in words[1:] if Path(word).is_file()]
    if len(files) > 2:
        pattern = shlex.quote(_pattern(files))
        return (
            f"{len(files)} files, and it takes one name. Several that are one data set are a"
            f" pattern in quotes, which the shell leaves alone: {' '.join(['accord', words[0]])}"
            f" {pattern}"
        )
    for word in words[1:]:
        if word in known or word.startswith("-") or not are_methods(word):
            continue
        flag = next((one for one in ("--methods", "--method") if one in options), None)
        if flag is not None and flag not in words:
            return f"{word} is a method, which has an option: " + shlex.join(
                ["accord", *(one for one in words if one != word), flag, word]
            )
    for word in known:
        if (
            "--model" in options
            and (Path(word) / "config.json").is_file()
            and "--model" not in words
        ):
            return f"{word} is a model, which has an option: " + shlex.join(
                ["accord", *(one for one in words if one != word), "--model", word]
            )
    return ""


def _pattern(files: list[str]) -> str:
    """Return a pattern that stands for these files, as the shell was given one."""
    begin = _begin_alike(files)
    return f"{begin}*{_begin_alike([file[len(begin) :][::-1] for file in files])[::-1]}"


def _begin_alike(words: list[str]) -> str:
    """Return the longest beginning that all words have."""
    # not strict: up to the end of the shortest
    alike = itertools.takewhile(lambda those: len(set(those)) == 1, zip(*words, strict=False))
    return "".join(those[0] for those in alike)


def _options(command: Any) -> list[str]:
    return ["--help"] + [
        name
        for param in command.params
        if param.param_type_name == "option" and not getattr(param, "hidden", False)
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("--")
    ]

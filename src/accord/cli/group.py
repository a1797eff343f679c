"""The application and its commands: how help is laid out, and what becomes of a wrong word."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from accord.cli.command_table import example_of, in_order
from accord.cli.layout import columns
from accord.cli.mistakes import in_words, no_such_command
from accord.environment.faults import fail
from accord.environment.wrapping import wrap
from accord.errors import AccordError, Interrupted, UsageError

# Typer brings its own copy of click since 0.26. Its public BadParameter leads to the class of all
# complaints about arguments in either.
COMPLAINT: Any = typer.BadParameter.__mro__[2]
KINDS = {"str": "TEXT", "int": "N", "float": "NUMBER", "INTEGER": "N", "FLOAT": "NUMBER"}


class AccordCommand(TyperCommand):
    """A command that takes underscores for dashes and shows its use in its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args == ["help"] and not ctx.resilient_parsing and not Path("help").exists():
            raise UsageError(f"{ctx.command_path} help: all its options: {ctx.command_path} --help")
        return super().parse_args(ctx, args if ctx.resilient_parsing else self.understood(args))

    def understood(self, args: list[str]) -> list[str]:
        """Return the arguments in this command's own spelling."""
        known, unknown = sort_words(args, self)
        return [*known, *unknown]  # the parser complains about the first unknown one

    def format_help(self, ctx: Any, formatter: Any) -> None:
        shown = [param for param in self.get_params(ctx) if not getattr(param, "hidden", False)]
        arguments = [param for param in shown if param.param_type_name == "argument"]
        options = [param for param in shown if param.param_type_name == "option"]
        usage = " ".join([ctx.command_path, *map(argument_name, arguments), "[OPTIONS]"])
        parts = [f"Usage: {usage}", paragraphs(self.help or "", formatter.width - 2)]
        for title, params in (("Arguments", arguments), ("Options", options)):
            if params:
                rows = [help_row(param, ctx) for param in params]
                parts.append(f"{title}:\n{columns(rows, formatter.width)}")
        if example := example_of(self.name or ""):
            parts.append(f"Example:\n  {example}")
        formatter.write("\n\n".join(parts) + "\n")


class AccordGroup(TyperGroup):
    """All commands: their list by groups, and every complaint about arguments in one form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help())
            raise typer.Exit()
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise UsageError(no_such_command(*args[:2], commands=self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        width = formatter.width
        parts = ["Usage: accord COMMAND [OPTIONS]", paragraphs(self.help or "", width - 2)]
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        widest = max(map(len, commands))
        for title, names in in_order(list(commands)).items():
            rows = [(name.ljust(widest), first_sentence(commands[name])) for name in names]
            parts.append(f"{title}:\n{columns(rows, width)}")
        options = [param for param in self.get_params(ctx) if not getattr(param, "hidden", False)]
        parts.append(f"Options:\n{columns([help_row(one, ctx) for one in options], width)}")
        parts.append("accord COMMAND -h lists a command's options, with an example.")
        formatter.write("\n\n".join(parts) + "\n")

    def main(  # type: ignore[override]
        self, args: Any = None, prog_name: str | None = None, standalone_mode: bool = True, **extra
    ) -> Any:
        """Run a command line; a complaint about its arguments is an error like any other."""
        words = list(sys.argv[1:] if args is None else args)
        run = super().main
        if not standalone_mode:
            return run(args=words, prog_name="accord", standalone_mode=False, **extra)
        as_json = "--json" in words
        try:
            code = run(args=words, prog_name="accord", standalone_mode=False, **extra)
        except typer.Abort:
            fail(Interrupted("stopped."), as_json)
        except AccordError as error:
            fail(error, as_json)
        except COMPLAINT as error:
            fail(UsageError(in_words(error, words, self)), as_json)
        # 1 is a bug of accord; Typer has it for a shell that it cannot complete in
        raise SystemExit({1: 2}.get(code, code) if isinstance(code, int) else 0)


class Application(typer.Typer):
    """A Typer application whose commands are `AccordCommand`s."""

    def command(self, name: str | None = None, **settings: Any) -> Callable:
        return super().command(name, **{"cls": AccordCommand, **settings})


# ---------------------------------------------------------------- reading arguments


def sort_words(args: list[str], command: Any) -> tuple[list[str], list[str]]:
    """Sort arguments into those of a command, in its spelling, and unknown options with the words
    behind them.
    """
    options = {
        name: not param.is_flag
        for param in command.params
        if param.param_type_name == "option"
        for name in (*param.opts, *param.secondary_opts)
    }
    options |= {"--help": False, "-h": False}
    known: list[str] = []
    unknown: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        name, sign, value = word.partition("=")
        name = name.replace("_", "-")
        if word == "--":
            known += [word, *words]
            break
        if name in options:
            known.append(name + sign + value)
            if options[name] and not sign and words:
                known.append(words.pop(0))
        elif word.startswith("--"):
            unknown.append(word)
            while words and not words[0].startswith("--"):
                unknown.append(words.pop(0))
        else:
            known.append(word)
    return known, unknown


# ---------------------------------------------------------------- help


def paragraphs(text: str, width: int) -> str:
    """Lay out a docstring: its paragraphs without their line breaks, indented."""
    whole = inspect.cleandoc(text).split("\n\n")
    told = [wrap(" ".join(each.split()), width, hang=0) for each in whole]
    return "\n".join(f"  {line}".rstrip() for line in "\n\n".join(told).split("\n"))


def first_sentence(command: Any) -> str:
    """Return the first sentence of a command's help."""
    words = " ".join(inspect.cleandoc(command.help or "").split())
    return re.split(r"(?<=\.) ", words, maxsplit=1)[0]


def argument_name(argument: Any) -> str:
    """Return an argument as a usage line has it: RUN, [RECIPE], RUN…"""
    name = (argument.metavar or argument.name).upper().strip("[]")
    name += "…" if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def help_row(param: Any, ctx: Any) -> tuple[str, str]:
    """Return an option or argument and its meaning, with its default."""
    name, meaning = param.get_help_record(ctx)
    if param.param_type_name == "argument":
        name = argument_name(param).strip("[]")
    else:
        name = re.sub(r"<(?:list\[)?(\w+)\]?(?: range)?>", r"\1", name)
        name = " ".join(KINDS.get(word, word) for word in name.split(" "))
        name = re.sub(r"^(--[\w-]+), (-\w)$", r"\2, \1", name)
    meaning = re.sub(r"\[default: \((.*?)\)", r"[default: \1", meaning)
    meaning = re.sub(r"x>=(\S+?)([;\]])", r"\1 or more\2", meaning)
    return name, re.sub(r"\s+", " ", meaning)

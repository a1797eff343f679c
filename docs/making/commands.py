"""The command line and the recipe's fields, from the application and the schema that run."""

from __future__ import annotations

import inspect

import typer
from pydantic import BaseModel

from accord import errors
from accord.cli.app import app
from accord.cli.command_table import example_of
from accord.config.explain import WRITTEN_UNDER
from accord.config.schema import PERMISSIONS, Config
from accord.objectives.objective import PERMISSIONS as OF_OBJECTIVES
from making.text import block, literal, plain, table


def reference() -> str:
    """Every command: usage, what it does, its arguments and options."""
    group = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in sorted(group.commands.items()))


def _command(name: str, command) -> str:
    params = [one for one in command.params if not one.hidden and one.name != "help"]
    given = [_usage(one) for one in params if one.param_type_name == "argument"]
    rows = [(literal(_names(one)), plain(one.help or "–"), _default(one)) for one in params]
    listed = f"\n\n{table(('', 'what it is', 'by default'), rows)}" if rows else ""
    return (
        f"## accord {name}\n\n{plain(inspect.cleandoc(command.help or ''))}\n\n"
        f"{block(' '.join(['accord', name, *given, '[OPTIONS]' if rows else '']))}{listed}"
        f"\n\nFor example:\n\n{block(example_of(name) or f'accord {name}')}"
    )


def _usage(argument) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]") + (
        "…" if argument.nargs == -1 else ""
    )
    return name if argument.required else f"[{name}]"


def _names(param) -> str:
    if param.param_type_name == "argument":
        return _usage(param)
    value = (
        "" if param.is_flag else f" {(param.metavar or 'VALUE')}" + (" …" if param.multiple else "")
    )
    return ", ".join([*param.opts, *param.secondary_opts]) + value


def _default(param) -> str:
    if param.required:
        return "required"
    if isinstance(param.show_default, str):
        return plain(param.show_default)
    value = param.default
    return (
        "–" if value is None or value is False or value == () or callable(value) else literal(value)
    )


def exit_codes() -> str:
    """What the command's exit code says, from the errors' own classes."""
    kinds = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, errors.AccordError)
    ]
    rows = [
        (each.code, literal(each.__name__), plain(inspect.getdoc(each) or ""))
        for each in kinds
        if each is not errors.AccordError
    ]
    return table(("exit", "error", "means"), [(0, "–", "done"), *sorted(rows)])


def permissions() -> str:
    """What `--allow` takes."""
    return table(
        ("`--allow`", "permits"),
        [(literal(n), plain(says)) for n, says in (PERMISSIONS | OF_OBJECTIVES).items()],
    )


def fields() -> str:
    """Every field of a recipe: its full path, default and meaning."""
    return table(("field", "default", "meaning"), _fields(Config, ""))


def _fields(section: type[BaseModel], path: str) -> list[tuple[str, str, str]]:
    rows = []
    for name, field in section.model_fields.items():
        inner = _section(field.annotation)
        if field.exclude:  # the files of a list, which a recipe has under another key
            (kind, _) = field.annotation.__args__
            rows += [
                (
                    literal(f"{path}{WRITTEN_UNDER[name]}[].{own}"),
                    _default_of(each),
                    plain(each.description),
                )
                for own, each in kind.model_fields.items()
            ]
            continue
        if inner is None or field.description:
            rows.append((literal(path + name), _default_of(field), plain(field.description or "–")))
        if inner is not None:
            rows += _fields(inner, f"{path}{name}.")
    return rows


def _default_of(field) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "as below"
    return "–" if field.default in (None, (), {}) else literal(field.default)


def _section(annotation: object) -> type[BaseModel] | None:
    """The section that a field holds, alone or as one of several types."""
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next(
        (kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, BaseModel)), None
    )

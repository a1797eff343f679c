"""Inputs of the chat template that stand in a row beside its turns: tools, documents, options."""

from __future__ import annotations

from dataclasses import replace

from accord.data.formats.messages import canonical, parsed
from accord.data.formats.parts import Row, is_null
from accord.data.json_rows import kind_of
from accord.data.ledger import RowError
from accord.types import TemplateInputs

COLUMNS = ("tools", "functions", "documents", "chat_template_kwargs")


def inputs_of(row: Row, inside: object = None) -> TemplateInputs:
    """Read the template's inputs of a row, and those in the object that holds its messages."""
    found = _read(row)
    if not isinstance(inside, dict):
        return found
    inner = _read(inside)
    for name in ("tools", "documents", "options"):
        mine, other = getattr(found, name), getattr(inner, name)
        if mine and other and mine != other:
            raise RowError(
                "two values", f"{name} stand beside the conversation and in it, and differ."
            )
        found = replace(found, **{name: mine or other})
    return found


def _read(columns: dict) -> TemplateInputs:
    if not any(name in columns for name in COLUMNS):
        return TemplateInputs()
    return TemplateInputs(
        tools=_tools(columns), documents=_documents(columns), options=_options(columns)
    )


def _value(columns: dict, name: str) -> object:
    """Return the value of a column, or None where it is empty."""
    if name not in columns:
        return None
    value = columns[name]
    if value is None or (isinstance(value, str) and value.strip() in ("", "null", "None", "nan")):
        return None
    found = parsed(value, name)
    return None if is_null(found) else found


def _tools(columns: dict) -> str:
    tools, functions = (_schemas(columns, name) for name in ("tools", "functions"))
    functions = [
        each if "function" in each else {"type": "function", "function": each} for each in functions
    ]
    if tools and functions and tools != functions:
        raise RowError("two values", "tools and functions both stand in the row, and differ.")
    return canonical(tools or functions) if tools or functions else ""


def _schemas(columns: dict, name: str) -> list[dict]:
    value = _value(columns, name)
    if value is None:
        return []
    schemas = []
    for each in value if isinstance(value, list) else [value]:
        schema = parsed(each, name)
        if not isinstance(schema, dict) or not schema:
            raise RowError(
                "wrong type", f"{name} has {kind_of(schema)} where a tool's schema is expected."
            )
        schemas.append(schema)
    return schemas


def _documents(columns: dict) -> str:
    value = _value(columns, "documents")
    if value is None:
        return ""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise RowError("wrong type", "documents is no list of objects, as chat templates take it.")
    return canonical(value)


def _options(columns: dict) -> str:
    value = _value(columns, "chat_template_kwargs")
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise RowError(
            "wrong type",
            f"chat_template_kwargs is {kind_of(value)}; an object of options is expected.",
        )
    # a table fills the options that a row lacks with nulls
    options = {name: each for name, each in value.items() if each is not None}
    return canonical(options) if options else ""

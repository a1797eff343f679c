"""Values of Arrow and Parquet columns as JSON would hold them.

Arrow's own types and the features that `datasets` writes beside them say what a value means: a
`json` column holds values and not text, a class label is a name and not a number, a struct of
nulls is null. A converter is made once for each column, and only where a value must change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from accord.data.json_rows import Parser
from accord.data.ledger import RowError
from accord.types import DataError

Convert = Callable[[Any], Any]

MAX_COLUMNS = 10_000  # a table of preferences has ten
MAX_DEPTH = 64  # of lists and structs in each other; JSON's own limit is in json_rows
MEDIA = ("Image", "Audio", "Video", "Pdf")  # stay as they are; formats refuse them by name
KEPT = (str, int, float, bool, list, dict, type(None))


def features_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return the features that `datasets` wrote into a schema; {} where there are none."""
    text = (metadata or {}).get(b"huggingface")
    try:
        found = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def row_converters(schema, features: Mapping[str, Any]) -> dict[str, Convert]:
    """Return the converters of a schema's columns; a column without one is right as it is.

    Args:
      schema: a pyarrow.Schema.
      features: the columns' types as `datasets` describes them; those in the schema come first.

    Raises:
      DataError: a column is named twice, or there are too many.
    """
    names = schema.names
    check_columns(names)
    features = {**features, **features_of(schema.metadata)}
    found = {}
    for field in schema:
        feature = features.get(field.name)
        made = _json if _is_json(field, feature) else converter(field.type, feature)
        if made is not None:
            found[field.name] = made
    return found


def check_columns(names: list[str]) -> None:
    """Refuse a table whose columns cannot be told by their names, or are too many.

    Raises:
      DataError: so it is.
    """
    if len(names) > MAX_COLUMNS:
        first = ", ".join(name[:20] for name in names[:3])
        raise DataError(
            f"it has {len(names):,} columns ({first}, …); over {MAX_COLUMNS:,} are no table of"
            " preferences. Keep the columns that are needed."
        )
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise DataError(f"it names a column twice: {twice[:200]}. Rename or remove one.")


def _is_json(field, feature: Any) -> bool:
    extension = (field.metadata or {}).get(b"ARROW:extension:name")  # pyarrow before 19
    return extension == b"arrow.json" or _says_json(feature)


def _says_json(feature: Any) -> bool:
    """Tell whether `datasets` describes a column as JSON in text."""
    return isinstance(feature, dict) and (
        feature.get("_type") == "Json"
        or (feature.get("_type") == "Value" and feature.get("dtype") == "json")
    )


def converter(kind, feature: Any = None, depth: int = 0) -> Convert | None:
    """Return what turns a Python value of an Arrow type into its JSON form; None if nothing must
    change.
    """
    import pyarrow.types as pt

    if depth > MAX_DEPTH:
        raise DataError(f"a column nests lists and structs over {MAX_DEPTH} deep.")
    if isinstance(feature, dict) and feature.get("_type") in MEDIA:
        return _null_if_empty if pt.is_struct(kind) else None
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and pt.is_integer(kind):
        return _class_names(feature.get("names"))
    if getattr(kind, "extension_name", "") == "arrow.json" or _says_json(feature):
        return _json
    if hasattr(kind, "storage_type"):
        return _as_text
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
        return converter(kind.value_type, feature, depth + 1)
    if pt.is_struct(kind):
        return _struct(kind, feature, depth)
    if pt.is_map(kind):
        return _map(kind, depth)
    if pt.is_union(kind):
        return _any
    if hasattr(kind, "value_type"):  # every kind of list
        return _list(converter(kind.value_type, _inner(feature), depth + 1))
    if pt.is_floating(kind):
        return _number
    known = pt.is_integer, pt.is_boolean, pt.is_null, pt.is_string, pt.is_large_string
    if any(is_known(kind) for is_known in known) or str(kind) == "string_view":
        return None
    return _as_text


def _inner(feature: Any) -> Any:
    """Return the feature of a list's elements."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def _struct(kind, feature: Any, depth: int) -> Convert:
    made: dict[str, Convert] = {}
    for at in range(kind.num_fields):
        field = kind.field(at)
        inner = feature.get(field.name) if isinstance(feature, dict) else None
        found = _json if _is_json(field, inner) else converter(field.type, inner, depth + 1)
        if found is not None:
            made[field.name] = found

    def convert(value: dict | None) -> dict | None:
        if value is None:
            return None
        for name, change in made.items():
            value[name] = change(value[name])
        return _null_if_empty(value)

    return convert if made else _null_if_empty


def _null_if_empty(value: dict | None) -> dict | None:
    """Return null for a struct of nulls: Arrow gives every row the members that any row has."""
    return value if value and any(each is not None for each in value.values()) else None


def _list(change: Convert | None) -> Convert | None:
    if change is None:
        return None
    return lambda value: None if value is None else [change(each) for each in value]


def _map(kind, depth: int) -> Convert:
    item = converter(kind.item_type, None, depth + 1)

    def convert(value: list | None) -> dict | None:
        if value is None:
            return None
        found = {str(_as_text(key)): item(each) if item else each for key, each in value}
        if len(found) < len(value):
            raise RowError("repeated key", "a map of the row has a key twice: which one is meant?")
        return found

    return convert


def _json(value: str | None) -> object:
    """Parse the text of a JSON column."""
    if value is None:
        return None
    found = Parser().line(value if isinstance(value, bytes) else value.encode("utf-8"))
    if isinstance(found, RowError):
        raise found
    return found


def _class_names(names: Any) -> Convert | None:
    """Return what turns the index of a class into its name.

    Names that are numbers or truth values stand for these: the class 0 of ["1", "0"] is a 1.
    """
    if not isinstance(names, list) or not names:
        return None
    texts = [str(name) for name in names]
    values: list[object] = list(texts)
    if all(text.lower() in ("true", "false") for text in texts):
        values = [text.lower() == "true" for text in texts]
    elif all(text.removeprefix("-").isdecimal() and len(text) < 10 for text in texts):
        values = [int(text) for text in texts]

    def convert(value: int | None) -> object:
        if value is None or value == -1:  # `datasets` writes -1 for a label that is not known
            return None
        if not 0 <= value < len(values):
            raise RowError(
                "unknown class",
                f"the class {value} is none of the {len(values)} that the column names"
                f" ({', '.join(texts)[:80]}).",
            )
        return values[value]

    return convert


def name_classes(row: object, features: Mapping[str, Any]) -> object:
    """Put the names of classes in the place of their numbers, in a row of text.

    Returns:
      The row, or the RowError that stands in its place.
    """
    if not isinstance(row, dict):
        return row
    try:
        for name in features.keys() & row.keys():
            value, feature = row[name], features[name]
            names = feature.get("names") if isinstance(feature, dict) else None
            convert = _class_names(names) if names else None
            if isinstance(value, str) and re.fullmatch(r"-1|\d{1,6}", value):  # a cell of CSV
                value = int(value)
            if convert is not None and type(value) is int:
                row[name] = convert(value)
    except RowError as error:
        return error
    return row


def _number(value: float | None) -> float | None:
    """Return null for NaN, as JSON has it."""
    return None if value is None or value != value else float(value)


def _as_text(value: object) -> object:
    """Turn dates, decimals and bytes of text into text."""
    # tools that write text without its type; other bytes stay what they are
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value if isinstance(value, KEPT) else str(value)


def _any(value: object) -> object:
    """Convert a value whose type only it knows, as a union's."""
    if isinstance(value, dict):
        return _null_if_empty({name: _any(each) for name, each in value.items()})
    if isinstance(value, list):
        return [_any(each) for each in value]
    return _number(value) if isinstance(value, float) else _as_text(value)

"""User functions named as "module:function": import them by name, and put every failure
into words.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable

from accord.environment.digests import file_digest
from accord.errors import UsageError


def import_function(what: str, name: str, *, example: str) -> Callable:
    """Import the function that `name` names.

    Args:
      what: the word for it in messages, such as "objective".
      example: a name of the right form.

    Raises:
      UsageError: not of the form module:function, a module that cannot be imported, or no such
        function in it.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UsageError(
            f"{what} {name!r} is not of the form 'module:function', such as {example!r}."
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]:
            hint = " Put its folder on the path: PYTHONPATH=. accord …"
        raise UsageError(
            f"{what} {name!r}: importing {module_name} failed: {format_exception(error)}.{hint}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        found = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and not key.startswith("_")
        ]
        raise UsageError(
            f"{what} {name!r}: {module_name} has no function {attribute!r}. It has:"
            f" {', '.join(found) or 'none'}."
        )
    return function


def code_digest(name: str) -> str | None:
    """Return the sha256 of the file that defines "module:function".

    None where `name` has another form, or where the file is not found.
    """
    module, _, attribute = name.partition(":")
    try:
        # an address has a colon too, and `http` is a module
        found = importlib.util.find_spec(module) if attribute.isidentifier() else None
        return file_digest(found.origin) if found is not None and found.origin else None
    except (ImportError, ValueError, OSError, AttributeError):
        return None


def format_exception(error: Exception) -> str:
    """Format an exception of somebody else's code in one line."""
    return f"{type(error).__name__}: {error}"

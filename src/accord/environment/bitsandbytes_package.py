"""The package bitsandbytes, which some optimizers need: whether it is there."""

from __future__ import annotations

from importlib import metadata

from accord.environment.installing import install_line

# of the extra `quantize` in pyproject.toml
BITSANDBYTES = ">=0.50,<1"


def bitsandbytes_problem() -> str | None:
    """Say that bitsandbytes is missing, or another version than accord is tested with, and the
    command that installs it; None where it can be imported.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    line = install_line("accord[quantize]")
    try:
        found = metadata.version("bitsandbytes")
    except metadata.PackageNotFoundError:
        return f"bitsandbytes, which is not installed: {line}"
    try:
        fits = SpecifierSet(BITSANDBYTES).contains(found, prereleases=True)
    except (InvalidSpecifier, InvalidVersion, TypeError):
        fits = False
    if fits:
        return None
    return f"bitsandbytes {BITSANDBYTES}, and {found} is installed: {line}"

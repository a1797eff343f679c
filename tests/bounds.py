"""The dependencies of pyproject.toml, for `make test-newest` and `make test-oldest`.

    python tests/bounds.py names      what accord, its demo and its tests need, without bounds
    python tests/bounds.py oldest     the lowest release of each that is allowed, as name==version

torch is left out: the Makefile names it. Needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("demo", "test")  # extras that the tier of versions needs


def requirements(parts: tuple[str, ...] = PARTS) -> list[str]:
    """Each requirement of the package and of some of its extras, once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [*project["dependencies"]]
    for part in parts:
        found += project["optional-dependencies"][part]
    return list(dict.fromkeys(found))


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]


def lowest(requirement: str) -> str:
    """The version behind >= or ==.

    Raises:
      ValueError: there is none.
    """
    match = re.search(r"[>=]=\s*([\w.]+)", requirement)
    if match is None:
        raise ValueError(f"{requirement!r} has no lower bound")
    return match.group(1)


def main() -> None:
    found = [r for r in requirements() if name_of(r) != "torch"]
    if sys.argv[1:] == ["names"]:
        print(" ".join(dict.fromkeys(name_of(r) for r in found)))
    elif sys.argv[1:] == ["oldest"]:
        print(" ".join(f"{name_of(r)}=={lowest(r)}" for r in found))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

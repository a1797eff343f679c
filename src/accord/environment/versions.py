"""Versions of other packages: those tested, those allowed, and those installed.

This module imports nothing heavy.

`tested_versions.txt` is a copy of `constraints.txt` at the root of the repository, for an installed
package has no root: after each change of it
`cp constraints.txt src/accord/environment/tested_versions.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from accord.environment.installing import install_line

FILE = Path(__file__).with_name("tested_versions.txt")
# import name -> package, where they differ by more than a dash
PACKAGE_OF = {"yaml": "pyyaml", "sklearn": "scikit-learn"}


def tested_versions() -> dict[str, str]:
    """Return package -> the version that the tests ran with."""
    found = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        name, sign, version = line.partition("#")[0].partition("==")
        if sign:
            found[normal(name)] = version.partition(";")[0].strip()
    return found


def required_bounds() -> dict[str, str]:
    """Return package -> the versions that accord allows, such as ">=2.11,<3".

    Only packages that accord cannot do without are listed. Empty where accord runs without being
    installed.
    """
    try:
        lines = metadata.requires("accord") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        needed, _, condition = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", needed)
        if name is not None and "extra" not in condition:
            found[normal(name[0])] = needed[name.end() :].strip(" ()")
    return found


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return package -> its version, of those that are installed."""
    found = {}
    for name in names:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if version is not None:  # half-installed: a folder of metadata with nothing in it
            found[name] = version
    return found


def package_of(module: str) -> str:
    """Return the package that a module comes from."""
    top = module.partition(".")[0]
    return PACKAGE_OF.get(top, normal(top))


def module_of(package: str) -> str:
    """Return the module that is imported of a package that accord requires."""
    known = {name: module for module, name in PACKAGE_OF.items()}
    return known.get(package, package.replace("-", "_"))


def install(packages: Iterable[str], *, again: bool = False) -> str:
    """Return the command that installs the tested versions of these packages.

    Args:
      again: also where pip thinks that they are installed.
    """
    versions = tested_versions()
    wanted = [f"{name}=={versions[name]}" if name in versions else name for name in packages]
    return install_line(*wanted, options="--force-reinstall --no-deps" if again else "")


def out_of_bounds(have: Mapping[str, str], allowed: Mapping[str, str]) -> dict[str, str]:
    """Return package -> the versions allowed, of those that are installed in another version."""
    from packaging.specifiers import SpecifierSet

    return {
        name: bounds
        for name, bounds in allowed.items()
        if name in have and not SpecifierSet(bounds).contains(have[name], prereleases=True)
    }


def public(version: str) -> str:
    """Return a version without what a builder appended to it: 2.13.0 of 2.13.0+cpu."""
    return version.partition("+")[0]


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()

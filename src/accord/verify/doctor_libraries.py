"""The doctor's examination of other packages: whether they work, and whether accord was tested with
these versions.
"""

from __future__ import annotations

import importlib

from accord.environment import versions
from accord.errors import describe
from accord.types import Finding

CHECK = "libraries"


def libraries() -> Finding:
    """Check that every package that accord requires is there, works, and is in a version that
    accord allows.

    An untested version is no failure: a note says how to get a tested one.
    """
    allowed, known = versions.required_bounds(), versions.tested_versions()
    names = sorted(allowed) or sorted(known)
    have = versions.installed_versions(names)
    broken = {name: why for name in names if (why := _unusable(name))}
    if broken:
        says = "; ".join(f"{name} cannot be used: {why}" for name, why in broken.items())
        command = versions.install(broken, again=True)
        return Finding(CHECK, "refused", says, {"broken": broken}, f"install afresh: {command}")
    if outside := versions.out_of_bounds(have, allowed):
        said = ", ".join(f"{name} {have[name]} (allowed {b})" for name, b in outside.items())
        remedy = f"install the tested: {versions.install(outside)}"
        return Finding(CHECK, "refused", f"versions out of bounds: {said}", have, remedy)
    other = {
        name: version
        for name, version in have.items()
        if name in known and versions.public(version) != versions.public(known[name])
    }
    if other:
        said = ", ".join(f"{name} {v} (tested {known[name]})" for name, v in other.items())
        says = f"accord was not tested with: {said}. What follows shows whether they serve"
        return Finding(CHECK, "note", says, have, f"the tested ones: {versions.install(other)}")
    if not allowed:
        says = "accord is not installed as a package, so its bounds on versions are not known"
        return Finding(CHECK, "note", says, have, "pip install -e . in a clone")
    return Finding(
        CHECK, "ok", f"{len(have)} packages work, in the versions that were tested", have
    )


def _unusable(package: str) -> str:
    """Explain in one line why a package cannot be imported; empty if it can."""
    try:
        importlib.import_module(versions.module_of(package))
    except Exception as error:  # whatever a half-installed package raises
        return describe(error)
    return ""

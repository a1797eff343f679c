"""The versions that were tested stand in one place, and what else names versions agrees with it."""

from pathlib import Path

import pytest

from accord import compat
from accord.environment import versions

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


def pins(text: str) -> dict[str, str]:
    """Package -> version of each line name==version."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {versions.normal(name): version.partition(";")[0].strip() for name, version in pairs}


@pytest.mark.skipif(not CONSTRAINTS.is_file(), reason="constraints.txt is not there yet")
def test_the_package_carries_what_constraints_say():
    copied = "cp constraints.txt src/accord/environment/tested_versions.txt"
    assert pins(CONSTRAINTS.read_text()) == versions.tested_versions(), copied


def test_the_private_attributes_were_seen_in_the_versions_that_are_tested():
    known = versions.tested_versions()
    for name, (_, newest) in compat.TESTED.items():
        assert known[name] == newest, name


def test_what_accord_requires_is_known_and_can_be_installed():
    required = versions.required_bounds()
    if not required:
        pytest.skip("accord is not installed as a package here")
    known = versions.tested_versions()
    for name in required.keys() - {"datasets"}:  # of an installation before it was dropped
        assert name in known, name
        __import__(versions.module_of(name))
    assert "pytest" not in required  # what extras ask for is no requirement


def test_a_requirement_is_read_with_its_bounds(monkeypatch):
    lines = ["Torch<3,>=2.11", "PyYAML (>=6)", 'trl==1.16.0; extra == "bench"', "typer"]
    monkeypatch.setattr(versions.metadata, "requires", lambda name: lines)
    assert versions.required_bounds() == {"torch": "<3,>=2.11", "pyyaml": ">=6", "typer": ""}


def test_the_commands():
    torch = versions.tested_versions()["torch"]
    assert versions.install(["torch", "unknown"]).endswith(f"pip install torch=={torch} unknown")
    assert versions.install(["torch"], again=True).endswith(
        f"pip install --force-reinstall --no-deps torch=={torch}"
    )
    assert (versions.package_of("sklearn.svm"), versions.module_of("pyyaml")) == (
        "scikit-learn",
        "yaml",
    )

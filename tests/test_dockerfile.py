"""The Dockerfile, which nothing here can build, is read: what it copies is there and reaches it,
its versions are the tested ones, and it does not run as root.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from accord.environment import versions

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
KNOWN = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "VOLUME", "ENTRYPOINT", "CMD"}


def steps() -> list[tuple[str, str]]:
    """List each instruction with its arguments; continued lines are joined."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined)]


def of(word: str) -> list[str]:
    return [rest for name, rest in steps() if name == word]


def reaches(name: str) -> bool:
    """Tell whether .dockerignore lets a file or folder through: the last line that fits decides."""
    through = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch(name, line.removeprefix("!")):
            through = line.startswith("!")
    return through


def test_every_line_is_an_instruction():
    assert steps()[0][0] == "FROM" and {word for word, _ in steps()} == KNOWN


def test_its_first_line_says_that_it_was_never_built():
    assert TEXT.startswith("# Never built: ")


def test_what_it_copies_is_there_and_reaches_it():
    copied = [name for rest in of("COPY") for name in rest.split()[:-1]]
    assert copied and all((ROOT / name).exists() and reaches(name) for name in copied)
    assert not reaches("tests") and not reaches(".git") and not reaches("runs")
    build = (ROOT / "pyproject.toml").read_text()
    for named in re.findall(r'(?:readme = |license-files = \[)"([^"]+)"', build):
        assert named in copied, f"the build reads {named}"


def test_its_versions_are_the_tested_ones():
    assert re.findall(r"torch==([\d.]+)", TEXT) == [versions.tested_versions()["torch"]]
    (image,) = of("FROM")
    assert image == "python:3.11-slim"


def test_it_runs_as_a_user_in_a_volume():
    assert of("USER") == ["accord"] and of("VOLUME") == ["/work"]
    assert of("WORKDIR")[-1] == "/work" and "useradd" in of("RUN")[0]
    assert of("ENV") == ["ACCORD_CACHE=/work/.cache/accord"]


def test_it_is_the_command():
    assert [json.loads(rest) for rest in (*of("ENTRYPOINT"), *of("CMD"))] == [
        ["accord"],
        ["--help"],
    ]

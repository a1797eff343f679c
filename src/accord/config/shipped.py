"""Recipes that ship with accord: their list, and the text of one for a reader's own folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "recipes"
HEADER = re.compile(r"^# (Rows|Hardware|Expect): (.*)$", re.MULTILINE)
SHIPPED_DATA = re.compile(r"\.\./demo/[\w.]+")  # beside the package's recipes alone


@dataclass(frozen=True, slots=True)
class Shipped:
    """One recipe, and what its header says."""

    name: str
    text: str

    @property
    def shows(self) -> str:
        """Return the first line: what the recipe is for."""
        return self.text.partition("\n")[0].removeprefix("#").strip()

    @property
    def rows(self) -> str:
        """Return the rows that it needs: the first sentence of that line."""
        return self._says("Rows").partition(". ")[0].rstrip(".")

    @property
    def minutes(self) -> int:
        """Return its minutes on the machine that the header names."""
        found = re.search(r"(\d+) minutes", self._says("Hardware"))
        assert found, f"{self.name}: the header names no minutes"
        return int(found[1])

    @property
    def expect(self) -> str:
        """Return the figures that it promises."""
        return self._says("Expect")

    def written(self, file: str) -> str:
        """Return its text as it stands in a file of one's own: the data that accord ships by its
        whole path, and the command with the file's name.
        """
        text = SHIPPED_DATA.sub(
            lambda found: json.dumps((FOLDER / found[0]).resolve().as_posix()), self.text
        )
        return text.replace(f"accord train {self.name}.yaml", f"accord train {file}")

    def _says(self, word: str) -> str:
        return next((found[2] for found in HEADER.finditer(self.text) if found[1] == word), "")


def shipped() -> dict[str, Shipped]:
    """Return every shipped recipe, by its name."""
    return {
        file.stem: Shipped(file.stem, file.read_text(encoding="utf-8"))
        for file in sorted(FOLDER.glob("*.yaml"))
    }


def hint(path: str) -> str:
    """Say how to get a recipe that is not there, if it ships with accord."""
    name = Path(path).stem
    if (FOLDER / f"{name}.yaml").is_file():
        return (
            "It ships with accord. Write it, then train it:\n"
            f"  accord recipes {name} --output {name}.yaml\n  accord train {name}.yaml"
        )
    return "Expected a YAML file; accord recipes lists those that ship with accord."

"""A run's folder: what is written where, and what a resumed run takes back."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from accord.config import Config, dump, load_recipe, make_config
from accord.training import examples
from accord.training.checkpoint import unwritable, write_json, write_text
from accord.types import Finding, UsageError

REFUSED = "refused.txt"  # why a run was refused before its first update; such a folder may be used again
PACKAGES = ("accord", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "datasets")


class RunFolder:
    """Paths and writers of one run. Appended files carry the step in each line, so that a resume can cut them."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """A new folder.

        Raises:
          UsageError: it exists already. CheckpointError: it cannot be made.
        """
        path = Path(config.output).expanduser() if config.output else _fresh(config)
        if (path / REFUSED).is_file() and not (path / "checkpoints").exists():
            shutil.rmtree(path)  # nothing was trained there
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"{path} exists already. Go on with it: accord resume {path}\n"
                "Or choose another folder: --output DIR. Nothing in it was touched."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        return cls(path)

    @classmethod
    def open(cls, path: str) -> RunFolder:
        """An existing run.

        Raises:
          UsageError: no run there.
        """
        folder = Path(path).expanduser()
        if not (folder / "config.yaml").is_file():
            raise UsageError(f"{path}: no run here (no config.yaml). Expected the folder that accord train wrote.")
        return cls(folder)

    def config(self) -> Config:
        """The run's resolved config, its output pointed to where the run lies now."""
        return make_config({**load_recipe(str(self.path / "config.yaml")), "output": str(self.path)})

    def config_text(self) -> str:
        return (self.path / "config.yaml").read_text(encoding="utf-8")

    # ------------------------------------------------------------ written once

    def write_config(self, config: Config) -> None:
        write_text(self.path / "config.yaml", dump(config))

    def write_environment(self, command: Sequence[str], processes: int = 1) -> None:
        """Versions, machine and command; no environment variables, which may hold secrets."""
        write_json(self.path / "environment.json", {
            "command": list(command), "python": sys.version.split()[0], "platform": platform.platform(),
            "processes": processes, "threads": torch.get_num_threads(), "cuda": torch.version.cuda, "packages": versions(),
        })  # fmt: skip

    def write_data(self, record: dict) -> None:
        write_json(self.path / "data.json", record)

    def write_rejected(self, rejections: Sequence) -> None:
        """Every row that was not used: file, line, reason."""
        lines = [json.dumps(r.as_dict(), ensure_ascii=False) + "\n" for r in rejections]
        (self.path / "rejected.jsonl").write_text("".join(lines), encoding="utf-8")

    def write_preflight(self, findings: Sequence[Finding]) -> None:
        write_json(self.path / "preflight.json", [vars_of(finding) for finding in findings])

    def refuse(self, reason: str) -> None:
        """Leave the reason; what was found out about the rows stays beside it."""
        if self.path.is_dir():
            write_text(self.path / REFUSED, reason + "\n")

    # ------------------------------------------------------------ appended

    def append(self, name: str, entry: dict) -> None:
        """One JSON line, whole or not at all for a reader."""
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise unwritable(self.path, error) from error

    def rewind(self, step: int) -> None:
        """Drop what was appended after `step`: a resumed run writes it again, the same."""
        for name in ("metrics.jsonl", "timings.jsonl", "events.jsonl", "samples.jsonl"):
            file = self.path / name
            if file.exists():
                write_text(file, "".join(line + "\n" for line in _complete(file) if json.loads(line)["step"] <= step))

        examples.rewind(self.path, step)

    def metrics(self) -> list[dict]:
        return self.lines("metrics.jsonl")

    def lines(self, name: str) -> list[dict]:
        """What was appended to a file so far."""
        file = self.path / name
        return [json.loads(line) for line in _complete(file)] if file.exists() else []


def vars_of(finding: Finding) -> dict:
    fields = {"check": finding.check, "verdict": finding.verdict, "says": finding.says,
              "evidence": finding.evidence, "remedy": finding.remedy}  # fmt: skip
    return fields | {name: text for name in ("means", "source") if (text := getattr(finding, name))}


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _complete(file: Path) -> list[str]:
    """Lines that were written whole; a kill can leave half of the last one."""
    text = file.read_text(encoding="utf-8")
    lines = text.split("\n")
    return [line for line in lines[:-1] if line] if text else []


def _fresh(config: Config) -> Path:
    """runs/<method>-<data>, or with the first number that is free."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(config.data.train).name.split(".")[0]).strip("-") or "data"
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', config.objective['name'])}-{stem}"
    number = 1
    while (path := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return path

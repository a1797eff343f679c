"""The folder of a run: what is written where, and what a resumed run takes back."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch

from accord.config.renamed import rename_keys
from accord.config.schema import Config, dump, load_recipe, make_config
from accord.environment.hub.names import DATASET, is_hub, parse
from accord.runs import held_out_rows
from accord.runs.files import REFUSED, STAGING, flush, recover, write_json, write_text, writing
from accord.runs.hub_names import hub_names
from accord.runs.nearby import why_no_run
from accord.types import CheckpointError, Finding, UsageError

REJECTED = "rejected.jsonl"  # written once; every other *.jsonl grows while the run goes on
AGAIN = "give the command again; or name another folder: --output DIR"
# fields that name what a run was given in memory and keeps in its own folder
KEPT = (("data", "train"), ("data", "held_out"), ("model", "name"))
PACKAGES = ("accord", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")


def _in_the_way(path: Path) -> str:
    """Say what lies where a new run should go."""
    if (path / "config.yaml").is_file():
        return (
            f"exists already. Go on with it: accord resume {path}\n"
            "Or choose another folder: --output DIR. Nothing in it was touched."
        )
    kind = "a folder that is no run" if path.is_dir() else "a file"
    return (
        f"exists already, and is {kind}. Choose another folder: --output DIR. Nothing in it was"
        " touched."
    )


class RunFolder:
    """The paths and writers of one run.

    Lines of appended files are counted, so that a resume can cut them back.
    """

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.reference = path / "reference.safetensors"  # cached log-probs as this run took them
        self.lines: Counter = Counter()  # name of an appended file -> its lines so far

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Make a new folder.

        Raises:
          UsageError: it exists already. CheckpointError: it cannot be made.
        """
        path = Path(config.output).expanduser() if config.output else _fresh(config)
        if (path / REFUSED).is_file() and not (path / "checkpoints").exists():
            _clear(path)  # nothing was trained there
        if path.exists() and (
            not path.is_dir() or any(not file.name.startswith(STAGING) for file in path.iterdir())
        ):
            raise UsageError(f"{path} {_in_the_way(path)}")
        with writing(path, "Nothing was trained", AGAIN):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: str) -> RunFolder:
        """Open an existing run.

        Raises:
          UsageError: no run there.
        """
        folder = Path(path).expanduser()
        if not (folder / "config.yaml").is_file():
            raise UsageError(why_no_run(path))
        return cls(folder)

    @contextmanager
    def alone(self):
        """Lock the folder, so that no other process may train here: two would mix their records.

        The system releases the lock when the process ends.

        Raises:
          CheckpointError: another process does.
        """
        handle = None
        try:
            handle = os.open(self.path, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if handle is not None:
                os.close(handle)
            raise CheckpointError(
                f"{self.path}: another process is training here. Wait for it, or stop it first."
            ) from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def recover(self) -> None:
        """Put the folder in order after a kill.

        Raises:
          CheckpointError: it cannot be written.
        """
        for folder in (self.path, self.checkpoints):
            recover(folder)

    def config(self) -> Config:
        """Read the run's resolved config; its output, and what the run keeps of a caller's rows and
        model, point to where the run lies now.
        """
        raw = rename_keys(load_recipe(str(self.path / "config.yaml")))
        for section, key in KEPT:
            part = raw.get(section)
            if isinstance(part, dict) and (own := self._kept(part.get(key), raw.get("output"))):
                part[key] = own
        return make_config({**raw, "output": str(self.path)})

    def _kept(self, path: object, former: object) -> str | None:
        """Return where a file of the run lies now, if the path was inside its former folder."""
        if not isinstance(path, str) or not isinstance(former, str):
            return None
        try:
            inside = Path(path).relative_to(Path(former).expanduser())
        except ValueError:
            return None
        return str(self.path / inside) if (self.path / inside).exists() else None

    def config_text(self) -> str:
        return (self.path / "config.yaml").read_text(encoding="utf-8")

    def begin(self, config: Config, command: Sequence[str], processes: int) -> None:
        """Write the records of a run that begins, or begins again.

        Raises:
          CheckpointError: they cannot be written.
        """
        self.write_config(config)
        self.write_environment(command, processes, hub_names(config))
        self.rewind({}, -1)

    # ------------------------------------------------------------ written once

    def write_config(self, config: Config) -> None:
        write_text(self.path / "config.yaml", dump(config))

    def write_environment(
        self, command: Sequence[str], processes: int = 1, hub: Mapping[str, str] | None = None
    ) -> None:
        """Write versions, machine and command; no environment variables, which may hold secrets.

        Args:
          hub: names of a hub with their commits, by field.
        """
        write_json(
            self.path / "environment.json",
            {
                "command": list(command),
                "python": sys.version.split()[0],
                "platform": platform.platform(),
                "processes": processes,
                "threads": torch.get_num_threads(),
                "cuda": torch.version.cuda,
                "packages": versions(),
                **({"hub": dict(hub)} if hub else {}),
            },
        )

    def write_data(self, record: dict) -> None:
        write_json(self.path / "data.json", record)

    def write_rejected(self, rejections: Sequence) -> None:
        """Write every row that was not used: file, line, reason."""
        lines = [json.dumps(r.as_dict(), ensure_ascii=False) + "\n" for r in rejections]
        write_text(self.path / REJECTED, "".join(lines))

    def write_preflight(self, findings: Sequence[Finding]) -> None:
        write_json(self.path / "preflight.json", [vars_of(finding) for finding in findings])

    def refuse(self, reason: str) -> None:
        """Write the reason for a refusal; what was found out about the rows stays beside it."""
        if self.path.is_dir():
            write_text(self.path / REFUSED, reason + "\n")

    def accept(self, findings: Sequence[Finding]) -> None:
        """Record that preparations are over, with these findings.

        A reason to refuse that an earlier attempt left no longer holds.
        """
        with writing(self.path):
            (self.path / REFUSED).unlink(missing_ok=True)
        self.write_preflight(findings)

    # ------------------------------------------------------------ appended

    def append(self, name: str, entry: dict) -> None:
        """Append one JSON line; a reader sees all of it or nothing."""
        with writing(self.path), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.lines[name] += 1

    def flush(self) -> None:
        """Flush appended lines to the disk: a checkpoint must not outlive the records that it
        counts on.
        """
        for name in self.lines:
            with writing(self.path):
                flush(self.path / name)

    def rewind(self, lines: Mapping[str, int], step: int) -> list[str]:
        """Cut appended files back to so many lines, and tables to `step`.

        A resumed run writes the others again, the same.

        Returns:
          what is wrong with the lines that stay.
        """
        problems = []
        for file in sorted(self.path.glob("*.jsonl")):
            if file.name == REJECTED:
                continue
            expected = lines.get(file.name, 0)
            kept = _complete(file)[:expected]
            if len(kept) < expected or not all(map(parsed, kept)):
                problems.append(
                    f"{file.name} is damaged: {sum(map(bool, map(parsed, kept)))} of its"
                    f" {expected} lines can be read"
                )
            if expected:
                write_text(file, "".join(line + "\n" for line in kept))
            else:
                file.unlink()
        problems += [f"{name} is missing" for name in lines if not (self.path / name).exists()]
        self.lines = Counter(lines)
        held_out_rows.rewind(self.path, step)
        return problems

    def metrics(self) -> list[dict]:
        """Read the lines of metrics.jsonl that are intact."""
        return self.appended("metrics.jsonl")

    def appended(self, name: str) -> list[dict]:
        """Read the lines of a file that are intact."""
        file = self.path / name
        return (
            [entry for line in _complete(file) if (entry := parsed(line))] if file.exists() else []
        )


def vars_of(finding: Finding) -> dict:
    fields = {
        "check": finding.check,
        "verdict": finding.verdict,
        "says": finding.says,
        "evidence": finding.evidence,
        "remedy": finding.remedy,
    }
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
    """Return the lines that were written whole; a kill can leave half of the last one."""
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    return [line for line in lines[:-1] if line] if text else []


def _clear(path: Path) -> None:
    """Empty a refused run's folder.

    The file that marks it as refused comes last, so that another attempt can tell that it may use
    the folder.
    """
    with writing(path):
        for file in path.iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name != REFUSED:
                file.unlink()
        (path / REFUSED).unlink()


def parsed(line: str) -> dict | None:
    """Parse the object that a line holds, if it holds one."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _fresh(config: Config) -> Path:
    """Return runs/<method>-<data>, or the name with the first number that is free."""
    named = [parse(p, DATASET).repo if is_hub(p) else p for p in config.data.train_paths]
    stems = "-".join(Path(name).name.split(".")[0] for name in named)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stems[:60]).strip("-") or "data"
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', config.objective['name'])}-{stem}"
    number = 1
    while (path := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return path

"""Whether two runs left the same, byte for byte."""

from __future__ import annotations

from pathlib import Path

# Times, machine, command line and the place of the folder are not the same in two runs of one
# command.
OF_THE_PROCESS = {"timings.jsonl", "environment.json", "README.md", "config.yaml", "preflight.json"}
# the record beside saved weights names the run's folder
OF_THE_PROCESS |= {"accord.json"}


def differences(straight: Path, other: Path) -> list[str]:
    """Files that only one of two run folders has, or that have other bytes: weights, optimizer,
    records, pointers.
    """
    files = [
        {str(f.relative_to(run)) for f in run.rglob("*") if f.is_file()}
        for run in (straight, other)
    ]
    problems = [f"only in one: {name}" for name in sorted(files[0] ^ files[1])]
    for name in sorted(files[0] & files[1]):
        if (
            Path(name).name not in OF_THE_PROCESS
            and (straight / name).read_bytes() != (other / name).read_bytes()
        ):
            problems.append(f"other bytes: {name}")
    return problems

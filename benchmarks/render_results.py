"""Render every result file of benchmarks/results, and write again the pages that stand beside them.

    python benchmarks/render_results.py            # what each file gives, a line each
    python benchmarks/render_results.py --write    # and the pages: frontier.html, past_offline.html

A page is what today's code makes of the result beside it (tests/test_results.py); a change of the
style sheet makes the shipped pages stale, and --write mends that. No measurement is repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path[:0] = [str(ROOT), str(ROOT / "docs"), str(ROOT / "benchmarks")]

import first_hour  # noqa: E402 - found by the line above
import noise_coverage  # noqa: E402 - likewise
import past_offline  # noqa: E402 - likewise
from gpu_stages import report as gpu_report  # noqa: E402 - likewise
from making import figures  # noqa: E402 - likewise

from accord.campaign.compare import frontier  # noqa: E402 - behind them
from accord.pages import comparison as page  # noqa: E402 - behind them
from accord.pages import comparison_lines  # noqa: E402 - likewise
from benchmarks.silentbench.files.table import table as files_table  # noqa: E402 - likewise
from benchmarks.silentbench.lifecycle.table import table as lifecycle  # noqa: E402 - likewise


def comparison(file: Path) -> str:
    """Render a comparison as its page and as its lines on a terminal."""
    record = read(file)
    return page.render(record) + "\n".join(comparison_lines.lines(record))


def frontier_of(file: Path) -> str:
    """Render a frontier's page; its lines must come out as well."""
    record = read(file)
    assert frontier.lines(record)
    return page.render_frontier(record)


def of_documentation(made: Callable[..., str], named: bool) -> Callable[[Path], str]:
    """Render as a page of the documentation does. `named`: several files share the macro."""
    return lambda file: made(file.stem) if named else made()


def plain(file: Path) -> str:
    """Print a result that has no page of its own: every figure with its path."""
    return "\n".join(leaves(read(file), ""))


def leaves(node: object, path: str) -> list[str]:
    """Every value of a result, a line each; an empty one is a value too."""
    if isinstance(node, dict) and node:
        return [line for key, each in node.items() for line in leaves(each, f"{path}/{key}")]
    if isinstance(node, list) and node:
        return [line for i, each in enumerate(node) for line in leaves(each, f"{path}/{i}")]
    return [f"{path.lstrip('/')}: {json.dumps(node, ensure_ascii=False)}"]


def text(file: Path) -> str:
    """Read a log or a page as it stands."""
    return file.read_text(encoding="utf-8")


# The first pattern that fits a file's name renders it.
RENDERERS: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("compare_*.json", comparison),
    ("frontier.json", frontier_of),
    ("past_offline.json", lambda file: past_offline.page(read(file))),
    ("held_out_*.json", of_documentation(figures.held_out, named=True)),
    ("silentbench.json", of_documentation(figures.silentbench, named=False)),
    ("coverage.json", of_documentation(figures.coverage, named=False)),
    ("silentbench_files.json", lambda file: files_table(read(file))),
    ("noise_coverage.json", lambda file: noise_coverage.table(read(file))),
    ("silentbench_lifecycle.json", lambda file: lifecycle(read(file))),
    ("vs_trl.json", of_documentation(figures.vs_trl, named=False)),
    ("paths.json", of_documentation(figures.paths, named=False)),
    ("audit_scale.json", of_documentation(figures.audit_scale, named=False)),
    ("scale.json", lambda file: of_documentation(figures.scale, named=False)(file) + plain(file)),
    (
        "reading.json",
        lambda file: of_documentation(figures.reading, named=False)(file) + plain(file),
    ),
    ("sharded_memory.json", of_documentation(figures.sharded_memory, named=False)),
    ("two_nodes.json", of_documentation(figures.two_nodes, named=False)),
    ("quantized.json", of_documentation(figures.quantized, named=False)),
    ("online_server.json", of_documentation(figures.online_server, named=False)),
    ("online_kills.json", of_documentation(figures.online_kills, named=False)),
    ("first_hour.json", lambda file: first_hour.table(read(file))),
    ("gpu.json", lambda file: gpu_report.table(read(file)) + plain(file)),
    ("*.json", plain),
    ("*.html", text),
    ("*.txt", text),
)


def read(file: Path) -> dict:
    """Read a result. NaN and Infinity, which are no JSON, are refused."""
    return json.loads(text(file), parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def render(file: Path) -> str:
    """Render one result file.

    Raises:
      LookupError: a kind of file for which nothing is known.
    """
    for pattern, made in RENDERERS:
        if fnmatch(file.name, pattern):
            return made(file)
    raise LookupError(f"{file.name}: add its kind to RENDERERS in benchmarks/render_results.py")


def pages() -> dict[Path, Path]:
    """Find each shipped page, and the result that it is made from."""
    return {file: file.with_suffix(".json") for file in sorted(RESULTS.glob("*.html"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the shipped pages again")
    options = parser.parse_args()
    for file in sorted(RESULTS.iterdir()):
        print(f"{file.name:<32}{len(render(file)):>9,} characters")
    for made, source in pages().items() if options.write else ():
        made.write_text(render(source), encoding="utf-8")
        print(f"written: {made.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

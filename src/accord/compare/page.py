"""The pages of comparisons and frontiers: self-contained, in the style of a run's report. All text is escaped."""

from __future__ import annotations

import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from accord.compare import show
from accord.compare.scatter import Dot, scatter
from accord.compare.verdict import YARDSTICKS, said
from accord.evaluate.statistics import Estimate
from accord.report import page as report
from accord.training.display import clock
from accord.training.files import unwritable, write_text

HERE = Path(__file__).parent


def environment() -> Environment:
    """Templates of this folder, with the report's stylesheet."""
    folders = [HERE, Path(report.__file__).parent]
    made = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"cut": report.cut, "bar": bar, "clock": clock}
    return made


def write_page(record: dict, folder: str, page: str | None, name: str = "comparison.html") -> Path:
    """Write the page of a record.

    Raises:
      CheckpointError: the file cannot be written.
    """
    file = Path(page).expanduser() if page else Path(folder).expanduser() / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, render(record))
    except OSError as error:
        raise unwritable(file, error) from error
    return file


def render(record: dict) -> str:
    """The page's text."""
    names = show.ranked(record)
    heads = [(name, head) for name, head in show.HEADS.items() if any(name in row for row in record["table"].values())]
    return environment().get_template("page.html.j2").render(
        record=record, names=names, heads=heads, title=f"{len(record['contenders'])} contenders, compared",
        lead=lead(record), notes=show.footnotes(record)[:-1], seeds=show.seeds_say(record), interval=show.interval,
        sections=_sections(record), figures=_figures(record, names), command=shlex.join(record["command"]) or "accord compare",
    )  # fmt: skip


def lead(record: dict) -> list[str]:
    """What a reader should know first."""
    first = next(iter(YARDSTICKS))
    judged = record["pairwise"][first]
    sentences = [f"{line}." for line in said(judged)[:4]] or ["One contender has models: there is nothing to compare it with."]
    if record["failed"]:
        sentences.append(f"{len(record['failed'])} cells gave no model; they are listed with their reasons.")
    return [f"By {YARDSTICKS[first]}:", *sentences]


def bar(estimate: dict) -> Markup:
    """A share on the line from 0 to 1, with its interval and chance."""
    return report.bar(Estimate(**estimate))


def _sections(record: dict) -> list[tuple[str, list[dict], str]]:
    titles = {name: f"Accuracy by {words}" for name, words in YARDSTICKS.items()} | {"win_rate": "How often the scorer prefers the answer to the start model's"}
    return [(titles[name], judged, name) for name, judged in record["pairwise"].items() if name in titles]


def _figures(record: dict, names: list[str]) -> list[Markup]:
    """Each yardstick against KL."""
    found = []
    for name, words in {**YARDSTICKS, "score": "score of the answers"}.items():
        dots = [
            Dot(who, record["table"][who]["kl"], record["table"][who][name], colour)
            for colour, who in enumerate(names, 1) if name in record["table"][who] and "kl" in record["table"][who]
        ]  # fmt: skip
        if dots:
            found.append(scatter(words, dots, "KL to the start, nats an answer"))
    return found

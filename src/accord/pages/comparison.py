"""Pages of comparisons and frontiers: self-contained, in the style of a run's report. All text is
escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Template
from markupsafe import Markup

from accord.campaign.compare import records, times
from accord.campaign.compare.verdict import YARDSTICKS, summary_sentence
from accord.pages import comparison_lines
from accord.pages.page import environment, write_page_file
from accord.pages.scatter import Curve, Dot, ends, scatter
from accord.runs.display import clock


def _template(name: str) -> Template:
    templates = environment()
    templates.filters["settings"] = settings
    return templates.get_template(name)


def write_page(record: dict, folder: str, page: str | None, kind: str = "comparison") -> Path:
    """Write the page of a comparison or of a frontier.

    Raises:
      CheckpointError: the file cannot be written.
    """
    file = Path(page).expanduser() if page else Path(folder).expanduser() / f"{kind}.html"
    return write_page_file(file, {"comparison": render, "frontier": render_frontier}[kind](record))


def render(record: dict) -> str:
    """Return the page's text, from a record of this version or an earlier one."""
    record = records.current(record)
    names = comparison_lines.ranking_lines(record)
    heads = [
        (name, head)
        for name, head in comparison_lines.HEADS.items()
        if any(name in row for row in record["table"].values())
    ]
    return _template("comparison.html.j2").render(
        record=record,
        names=names,
        heads=heads,
        title=f"{len(record['contenders'])} contenders, compared",
        lead=lead(record),
        notes=comparison_lines.footnotes(record)[:-1],
        seeds=comparison_lines.seed_note(record),
        sections=_sections(record),
        figures=_figures(record, names),
        command=shlex.join(record["command"]) or "accord compare",
        times=times.says(record["cost"], clock),
    )


def render_frontier(record: dict) -> str:
    """Return the page of a frontier: the picture, its points, and how it was made."""
    record = records.current(record)
    return _template("frontier.html.j2").render(
        record=record,
        picture=frontier_picture(record),
        command=shlex.join(record["command"]) or "accord frontier",
        times=times.says(record["cost"], clock),
    )


def frontier_picture(record: dict) -> Markup:
    """Draw reward against KL: one colour per method, with the start, the optimum and best of n."""
    methods = list(dict.fromkeys(p["method"] for p in record["points"]))
    dots = [
        Dot(
            f"{p['contender']}, step {p['step']}",
            p["kl"],
            p["reward"],
            methods.index(p["method"]) + 1,
            bool(p["over_optimised"]),
        )
        for p in sorted(record["points"], key=lambda p: p["kl"]["value"])
    ]
    furthest = 1.15 * max(ends(p["kl"])[1] for p in record["points"])
    bound = [b for b in record["bound"] if b["kl"] <= furthest] or record["bound"][:2]
    best = [b for b in record["best_of"] if b["kl_at_most"] <= furthest]
    curves = [
        Curve(
            "best possible (π* from the reference's answers)",
            [(b["kl"], b["reward"]["value"]) for b in bound],
            [b["supported"] for b in bound],
        ),
        Curve(
            "best of n (its KL at most)",
            [(b["kl_at_most"], b["reward"]["value"]) for b in best],
            [True] * len(best),
            len(methods) + 1,
        ),
    ]
    return scatter(
        f"Reward ({record['scorer']}) against KL",
        dots,
        "KL to the start, nats an answer",
        curves,
        joined=True,
        names=methods,
    )


def lead(record: dict) -> list[str]:
    """Return the sentences that a reader should read first."""
    first = next(iter(YARDSTICKS))
    judged = record["pairwise"][first]
    sentences = [f"{line}." for line in summary_sentence(judged)] or [
        "One contender has models: there is nothing to compare it with."
    ]
    if record["failed"]:
        sentences.append(
            f"{len(record['failed'])} cells gave no model; they are listed with their reasons."
        )
    return [f"By {YARDSTICKS[first]}:", *sentences]


def settings(values: Mapping[str, object]) -> str:
    """Format fields and their values as a recipe names them, the objective's options among them."""
    words = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            words += [f"{name}.{key} = {each}" for key, each in value.items()]
        else:
            words.append(f"{name} = {'its own' if value is None else value}")
    return ", ".join(words) or "none"


def _sections(record: dict) -> list[tuple[str, list[dict], str]]:
    titles = {name: f"Accuracy by {words}" for name, words in YARDSTICKS.items()}
    titles["win_rate"] = "How often the scorer prefers the answer to the start model's"
    return [(titles[name], judged, name) for name, judged in record["pairwise"].items()]


def _figures(record: dict, names: list[str]) -> list[Markup]:
    """Draw each yardstick against KL."""
    found = []
    for name, words in {**YARDSTICKS, "score": "score of the answers"}.items():
        dots = [
            Dot(who, record["table"][who]["kl"], record["table"][who][name], colour)
            for colour, who in enumerate(names, 1)
            if name in record["table"][who] and "kl" in record["table"][who]
        ]
        if dots:
            found.append(scatter(words, dots, "KL to the start, nats an answer"))
    return found

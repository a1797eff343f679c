"""Terminal lines of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from accord.campaign.compare import records, search, times
from accord.campaign.compare.verdict import RANKINGS, YARDSTICKS, verdict_sentence
from accord.errors import plural
from accord.evaluate.intervals import format_short_interval
from accord.runs.display import clock

HEADS = {
    "change_sum": "change, sum",
    "change_token": "change, token",
    "implicit": "own reward",
    "kl": "KL, nats",
    "tokens": "tokens",
    "chosen_moved": "chosen, nats/token",
    "win_rate": "beats start",
    "score": "score",
}
WIDTH = 24  # of a column, at least
GAP = 2  # blanks between two columns, at least


def lines(record: dict) -> list[str]:
    """Format the table and its conclusions, one per line. Records of earlier versions
    are read too.
    """
    record = records.current(record)
    return [
        *table(record),
        "",
        *footnotes(record),
        "",
        *verdicts(record),
        *extras(record),
        "",
        *costs(record),
    ]


def table(record: dict) -> list[str]:
    """Format one line per contender, the best by the common yardstick first, then those without a
    model.
    """
    heads = [name for name in HEADS if any(name in row for row in record["table"].values())]
    names = ranking_lines(record)
    left = max(map(len, [*names, "longer answer wins"])) + 2
    shown = [[format_short_interval(record["table"][n].get(head)) for head in heads] for n in names]
    columns = zip([HEADS[name] for name in heads], *shown, strict=True)
    widths = [max(WIDTH, *(len(cell) + GAP for cell in column)) for column in columns]
    out = [_line("", left, [HEADS[name] for name in heads], widths)]
    out += [_line(name, left, cells, widths) for name, cells in zip(names, shown, strict=True)]
    for name, reason in record["failed"].items():
        out.append(f"{name}: no model. {reason}")
    return out


def _line(name: str, left: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    figures = "".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{left}}{figures}"


def ranking_lines(record: dict) -> list[str]:
    first = next(iter(YARDSTICKS))
    return sorted(record["table"], key=lambda name: -record["table"][name][first]["value"])


def footnotes(record: dict) -> list[str]:
    base = record["baselines"]
    parts = [
        f"{words} {format_short_interval(base[name])}"
        for name, words in RANKINGS.items()
        if name in base
    ]
    out = [
        f"the longer answer wins: {format_short_interval(base['longer_wins'])} of these pairs",
        "the start model by plain " + "; ".join(parts),
    ]
    if "tokens" in base:
        score = f", score {format_short_interval(base['score'])}" if "score" in base else ""
        out.append(
            f"the start model's answers: {format_short_interval(base['tokens'])} tokens{score}"
        )
    return [*out, seed_note(record)]


def seed_note(record: dict) -> str:
    """Explain how the intervals were made, and what few seeds mean."""
    seeds = record["seeds"]
    if seeds == 1:
        return (
            "95 % intervals over prompts. One seed: nothing is known of what another seed would"
            " give."
        )
    if seeds == 2:
        return (
            "2 seeds: no interval, since two say nothing of their spread; the value of each seed"
            " stands in its place. Add a third: --seeds 3."
        )
    few = (
        " Few seeds make wide intervals where seeds disagree, since so few say little of the next."
        if seeds < 5
        else ""
    )
    return (
        f"95 % intervals over prompts and {seeds} seeds, both resampled; the spread of seeds with"
        f" Student's t.{few}"
    )


def verdicts(record: dict) -> list[str]:
    out = []
    for name, judged in record["pairwise"].items():
        if judged:
            title = YARDSTICKS.get(
                name, "how often the scorer prefers the answer to the start model's"
            )
            out += [
                f"By {title} (p adjusted for {len(judged)} comparisons):",
                *(f"  {line}" for line in verdict_sentence(judged)),
                "",
            ]
    judged = record["against_length"]
    return [
        *out,
        "Against the rule that the longer answer wins:",
        *(f"  {line}" for line in verdict_sentence(judged)),
    ]


def extras(record: dict) -> list[str]:
    out = []
    if record.get("budget"):
        out += ["", record["budget"]["says"]]
    for name, trial in (record.get("trials") or {}).items():
        scores = ", ".join(
            f"{rate}: {'no model' if a is None else f'{a:.3f}'}"
            for rate, a in trial["accuracy"].items()
        )
        out.append(f"{name}: learning rate {trial['chosen']:g} of {scores} (validation rows)")
    return out + (["", *search.lines(record["search"])] if record.get("search") else [])


def costs(record: dict) -> list[str]:
    cost = record["cost"]
    rows = cost["reference_rows"]
    out = [
        f"{name}: {one['updates']} updates, {plural(one['tokens'], 'token')},"
        f" {clock(one['seconds'])}, "
        f"{one['memory_bytes'] / 1e6:,.0f} MB, learning rate {one['learning_rate']:g}"
        for name, one in cost["cells"].items()
    ]
    out += times.says(cost, clock)
    if rows["needed"]:
        out.append(
            f"reference log-probs: {plural(rows['computed'], 'row')} computed for"
            f" {rows['needed']:,} that"
            " cells asked for"
        )
    return out

"""Counts and tables of a run of the bench, with exact intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from accord.evaluate.intervals import clopper_pearson

WORDS = ("named", "other cause", "missed")
HEADLINE = 0.3  # share of the rows from which a fault should be named
COLUMNS = "| cases | named | by a note alone | something else beside | other cause | missed |"
LINE = "|---" * 7 + "|"


def share(hits: int, of: int) -> dict:
    """Return a share with its exact interval."""
    if of == 0:
        return {"hits": 0, "of": 0, "value": None, "low": None, "high": None}
    low, high = clopper_pearson(hits / of, of)
    numbers = {"value": hits / of, "low": low, "high": high}
    return {"hits": hits, "of": of} | {key: round(each, 4) for key, each in numbers.items()}


def counted(cases: list[dict]) -> dict:
    """Count the verdicts of some cases."""
    words = {word: sum(case["verdict"] == word for case in cases) for word in WORDS}
    return {
        **words,
        "in all": len(cases),
        "by a note": sum(case["verdict"] == "named" and not case["loud"] for case in cases),
        "beside": sum(case["verdict"] == "named" and bool(case["beside"]) for case in cases),
        "named share": share(words["named"], len(cases)),
        "other share": share(words["other cause"], len(cases)),
    }


def counts(record: dict) -> dict:
    """Count verdicts: in all, where many rows are touched, by share, item, base and kind."""
    cases = [case for case in record["cases"] if case["verdict"] in WORDS]
    many = [case for case in cases if case["share"] >= HEADLINE]
    clean = [case for case in record["clean"] if "alarms" in case]
    alarmed = sum(bool(case["alarms"]) for case in clean)
    seeds = sorted({case["seed"] for case in record["cases"]})
    return {
        "seeds": seeds,
        "headline": counted(many),
        "in all": counted(cases),
        "shares": _by(cases, lambda case: f"{case['share']:.0%}"),
        "items": _by(many, lambda case: case["item"]),
        "bases": _by(many, lambda case: case["base"]),
        "kinds": _by(many, lambda case: case["kind"]),
        "clean": {
            "false alarms": alarmed,
            "files": len(clean),
            "kinds": len({case["kind"] for case in clean}),
            "share": share(alarmed, len(clean)),
        },
        "bench": {
            "inert": sum(case["verdict"] == "inert" for case in record["cases"]),
            "failed": sum(case["verdict"] == "failed" for case in record["cases"])
            + sum("failed" in case for case in record["clean"]),
        },
    }


def _by(cases: Iterable[dict], key: Callable[[dict], str]) -> dict[str, dict]:
    found: dict[str, list[dict]] = {}
    for case in cases:
        found.setdefault(key(case), []).append(case)
    return {name: counted(each) for name, each in found.items()}


def _percent(found: dict) -> str:
    if found["value"] is None:
        return "–"
    return f"{found['value']:.0%} ({found['low']:.0%}–{found['high']:.0%})"


def table(record: dict, every: bool = False) -> str:
    """Lay out the result: the headline, a line for each kind, the clean files.

    Args:
      every: name each case that was not named, too.
    """
    found = counts(record)
    head, clean = found["headline"], found["clean"]
    lines = [
        f"- seeds: {', '.join(map(str, found['seeds']))}",
        f"- faults in {HEADLINE:.0%} of the rows and more: {_percent(head['named share'])} named of"
        f" {head['in all']} (by a note alone: {head['by a note']}),"
        f" {_percent(head['other share'])} got another cause, {head['missed']} missed;"
        f" {head['beside']} were named and something else was accused beside",
        f"- clean files: {clean['false alarms']} of {clean['files']} of {clean['kinds']} kinds"
        f" raise a warning: {_percent(clean['share'])}",
        f"- defects of the bench: {found['bench']['inert']} inert,"
        f" {found['bench']['failed']} failed",
        "",
    ]
    lines += [f"| share of rows {COLUMNS}", LINE]
    lines += [_line(name, each) for name, each in found["shares"].items()]
    for title in ("items", "bases", "kinds"):
        lines += ["", f"| {title}, {HEADLINE:.0%} of rows and more {COLUMNS}", LINE]
        lines += [_line(name, each) for name, each in found[title].items()]
    lines += ["", *_alarms(record)]
    return "\n".join([*lines, *(_others(record) if every else [])])


def _line(name: str, each: dict) -> str:
    named = _percent(each["named share"])
    rest = (each[word] for word in ("by a note", "beside", "other cause", "missed"))
    return f"| {name} | {each['in all']} | {named} | {' | '.join(map(str, rest))} |"


def _alarms(record: dict) -> list[str]:
    return [
        f"- clean, {case['kind']} {case['seed']}: {each['check']}: {each['says']}"
        for case in record["clean"]
        for each in case.get("alarms", [])
    ]


def _others(record: dict) -> list[str]:
    return [
        f"- {case['kind']} | {case['base']} {case['seed']} | {case['share']:.0%} |"
        f" {case.get('drawn', '')}: {case['verdict']} {case.get('check', '')}: {case['says']}"
        for case in record["cases"]
        if case["verdict"] != "named"
    ]

"""What a run of the lifecycle bench comes to: counts, and tables for a person."""

from __future__ import annotations

from collections import Counter

WORDS = ("named", "handled", "wrong cause", "missed", "crashed")
BENCH = ("inert", "bench failed")  # defects of the bench


def counts(record: dict) -> dict:
    """Count verdicts, in all and by place and group; and false alarms."""
    cases = [case for case in record["cases"] if case["verdict"] not in BENCH]
    alarmed = sum(bool(case["alarms"]) for case in record["sound"])
    return {
        "faults": _words(cases) | {"in all": len(cases)},
        "named by a line that is no alarm": sum(
            case["verdict"] == "named" and not case["loud"] for case in cases
        ),
        "sound": {"false alarms": alarmed, "runs": len(record["sound"])},
        "sound twins of faults": {
            "false alarms": sum(map(bool, record["twins"].values())),
            "runs": len(record["twins"]),
        },
        "bench": {word: sum(c["verdict"] == word for c in record["cases"]) for word in BENCH},
        "places": {place: _words(each) for place, each in _by(cases, "place").items()},
        "groups": {group: _words(each) for group, each in _by(cases, "group").items()},
    }


def _by(cases: list[dict], key: str) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for case in cases:
        found.setdefault(case[key], []).append(case)
    return dict(sorted(found.items()))


def _words(cases: list[dict]) -> dict[str, int]:
    counted = Counter(case["verdict"] for case in cases)
    return {word: counted[word] for word in WORDS}


def good(case: dict) -> bool:
    return case["verdict"] in ("named", "handled")


def table(record: dict) -> str:
    """One line a kind with its places, then what was not named, then false alarms."""
    cases = [case for case in record["cases"] if case["verdict"] not in BENCH]
    lines = ["| kind | cases | named | what else |", "|---|---|---|---|"]
    for kind, each in _by(cases, "kind").items():
        rest = ", ".join(f"{c['place']}: {c['verdict']}" for c in each if not good(c))
        lines.append(f"| {kind} | {len(each)} | {sum(map(good, each))} | {rest} |")
    lines += ["", *_totals(record), "", *_others(record)]
    return "\n".join(lines)


def _totals(record: dict) -> list[str]:
    found = counts(record)
    faults, sound = found["faults"], found["sound"]
    words = ", ".join(f"{faults[word]} {word}" for word in WORDS)
    return [
        f"- faults: {words}, of {faults['in all']}",
        f"- sound: {sound['false alarms']} false alarms in {sound['runs']} runs",
        f"- sound twins of faults: {found['sound twins of faults']}",
        f"- bench: {found['bench']}",
    ]


def _others(record: dict) -> list[str]:
    lines = [
        f"- {c['kind']} | {c['place']} | {c['method']} | {c['family']} | {c['drawn']}:"
        f" {c['verdict']}: {' '.join(c['says'].split())[:200]}"
        for c in record["cases"]
        if not good(c)
    ]
    return (
        lines
        + [
            f"- sound {c['number']} | {c['method']} | {c['family']} | {c['last']} | {c['machine']}:"
            f" {' '.join(c['alarms'][0].split())[:200]}"
            for c in record["sound"]
            if c["alarms"]
        ]
        + [
            f"- twin {key}: {' '.join(alarms[0].split())[:200]}"
            for key, alarms in record["twins"].items()
            if alarms
        ]
    )

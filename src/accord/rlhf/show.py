"""Rounds for a terminal."""

from __future__ import annotations

from accord.training.display import clock

WIDTH = 26


def estimate(found: dict | None) -> str:
    """0.712 (0.650–0.769); with the interval."""
    if found is None:
        return "–"
    digits = 3 if abs(found["value"]) < 10 else 1
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f}–{found['high']:.{digits}f})"


def rounds_lines(record: dict) -> list[str]:
    """A line a round: reward of held-out answers, what it gained, what it cost in KL; then what was trained."""
    heads = ("reward", "since start", "KL to start, nats", "tokens")
    out = [f"{'':<10}" + "".join(f"{head:<{WIDTH}}" for head in heads) + "ended   prompts   pairs  updates"]
    for one in record["rounds"]:
        held, name = one["held_out"], f"round {one['round']}" if one["round"] else "start"
        columns = (held["reward"], held["reward_change"] if one["round"] else None, held["kl"], held["tokens"])
        counts = f"{one['prompts']:>9,}{one['pairs']:>8,}{one['updates']:>9,}" if one["round"] else ""
        out.append(f"{name:<10}" + "".join(f"{estimate(column):<{WIDTH}}" for column in columns) + f"{held['ended']:>5.0%} {counts}")
    first = record["rounds"][0]["held_out"]
    out.append(
        f"95 % intervals over {first['kl']['prompts']:,} held-out prompts with {first['answers']:,} answers, the same for all; "
        "whole prompts are resampled. One seed: nothing is known of what another would give."
    )
    missing = sum(one["held_out"]["without_reward"] for one in record["rounds"])
    out += [f"! {missing:,} answers have no reward, and are in no mean"] if missing else []
    spent = sum(one.get("seconds", 0.0) for one in record["rounds"])
    killed = sum(one.get("killed", 0) for one in record["rounds"])
    unknown = f"; {killed} stages were killed outright, whose time is not known" if killed else ""
    return [*out, f"rounds took {clock(spent)}{unknown}"]

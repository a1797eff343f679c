"""Terminal lines of rounds and of the phases of RLHF."""

from __future__ import annotations

from accord.errors import plural
from accord.evaluate.intervals import format_short_interval
from accord.runs.display import clock

WIDTH = 26


def rounds_lines(record: dict) -> list[str]:
    """Format one line per round: the reward of held-out answers, its gain, and its cost in KL; then
    the training figures.
    """
    gold = "gold" in record["rounds"][0]["held_out"]
    heads = ("reward", "since start", *(("gold",) if gold else ()), "KL to start, nats", "tokens")
    out = [
        f"{'':<10}"
        + "".join(f"{head:<{WIDTH}}" for head in heads)
        + "ended   prompts   pairs  updates"
    ]
    for one in record["rounds"]:
        held, name = one["held_out"], f"round {one['round']}" if one["round"] else "start"
        change = held["reward_change"] if one["round"] else None
        columns = (
            held["reward"],
            change,
            *((held["gold"],) if gold else ()),
            held["kl"],
            held["tokens"],
        )
        counts = (
            f"{one['prompts']:>9,}{one['pairs']:>8,}{one['updates']:>9,}" if one["round"] else ""
        )
        out.append(
            f"{name:<10}"
            + "".join(f"{format_short_interval(column):<{WIDTH}}" for column in columns)
            + f"{held['ended']:>5.0%} {counts}"
        )
    first = record["rounds"][0]["held_out"]
    out.append(
        f"95 % intervals over {first['kl']['prompts']:,} held-out prompts with"
        f" {plural(first['answers'], 'answer')}, the same for all; whole prompts are resampled."
        " One seed: nothing is known of"
        " what another would give."
    )
    missing = sum(one["held_out"]["without_reward"] for one in record["rounds"])
    if missing:
        out.append(f"! {plural(missing, 'answer has', 'answers have')} no reward: in no mean")
    spent = sum(one.get("seconds", 0.0) for one in record["rounds"])
    killed = sum(one.get("killed", 0) for one in record["rounds"])
    unknown = f"; {killed} stages were killed outright, whose time is not known" if killed else ""
    return [*out, f"rounds took {clock(spent)}{unknown}"]


# ---------------------------------------------------------------- rlhf

HEADS = {"learned": "learned reward", "gold": "gold reward", "kl": "KL, nats", "tokens": "tokens"}


def rlhf_lines(record: dict) -> list[str]:
    """Format the policies on held-out prompts, the reward model against the gold one, and the cost
    of it all.
    """
    return [*_policies(record), "", *_reward_model(record), "", *_cost(record)]


def _policies(record: dict) -> list[str]:
    names = list(next(iter(record["table"].values())))
    out = [f"{'':<14}" + "".join(f"{HEADS[name]:<{WIDTH}}" for name in names)]
    for model, row in record["table"].items():
        out.append(
            f"{model:<14}"
            + "".join(f"{format_short_interval(row[name]):<{WIDTH}}" for name in names)
        )
    if record["rlhf_minus_dpo"] is not None:
        row = record["rlhf_minus_dpo"]
        out.append(
            f"{'ppo - dpo':<14}"
            + "".join(f"{format_short_interval(row[name]):<{WIDTH}}" for name in names)
        )
    seeds = len(record["seeds"])
    about = (
        "over prompts; one seed: nothing is known of what another would give"
        if seeds == 1
        else f"over prompts and {seeds} seeds"
    )
    if seeds == 2:
        return [
            *out,
            "2 seeds: no interval, the value of each seed in its place. --seeds 3 has one.",
        ]
    return [*out, f"95 % intervals {about}. KL is to the model that policies start from."]


def _reward_model(record: dict) -> list[str]:
    out = []
    for one in record["seeds"]:
        found = one["phases"]["reward_model"]["held_out"]
        if "eval_rewards/accuracies" in found:
            out.append(
                f"seed {one['seed']}: the reward model ranks {found['eval_rewards/accuracies']:.1%}"
                " of held-out pairs rightly"
            )
        if one["hacking"] is not None:
            hacking = one["hacking"]
            gains = (
                f"learned {format_short_interval(hacking['reward_gained'])}, gold"
                f" {format_short_interval(hacking['gold_gained'])}"
            )
            out.append(
                f"seed {one['seed']}: from the first to the last evaluation {gains}:"
                f" {hacking['says']}"
            )
    return out


def _cost(record: dict) -> list[str]:
    """Format one line per phase, summed over seeds; then the two ways side by side."""
    out = [
        f"{'':<14}{'time':<12}{'updates':<10}{'resident':<12}{'set':<6}{'knobs':<8}models in memory"
    ]
    for phase in record["seeds"][0]["phases"]:
        rows = [one["phases"][phase] for one in record["seeds"]]
        seconds, resident = (
            sum(row["seconds"] for row in rows),
            max(row["resident_peak"] for row in rows),
        )
        tuned = rows[0]["hyper_parameters"]
        out.append(
            f"{phase:<14}{clock(seconds):<12}{rows[0]['updates']:<10,}"
            f"{f'{resident / 1e6:,.0f} MB':<12}{len(tuned['set']):<6}"
            f"{len(tuned['of_the_method']):<8}{_roles(rows[0].get('models'))}"
        )
    out += _ways(record["ways"]) if "dpo" in record["ways"] else []
    unknown = sum(row["killed"] for one in record["seeds"] for row in one["phases"].values())
    if unknown:
        out.append(
            f"! {unknown} stages were killed outright; their time is not known and in no sum"
        )
    return out


def _ways(ways: dict) -> list[str]:
    """Compare the two ways from the tuned model on: the reward model with the policy gradient, and
    DPO.
    """
    rows = {
        "phases": lambda way: f"{way['phases']}",
        "time": lambda way: clock(way["seconds"]),
        "updates": lambda way: f"{way['updates']:,}",
        "whole networks in memory": lambda way: f"{way['networks']}",
        "weights of models in memory": lambda way: f"{way['model_bytes'] / 1e6:,.1f} MB",
        "resident memory": lambda way: f"{way['resident_peak'] / 1e6:,.0f} MB",
        "hyper-parameters set": lambda way: f"{way['hyper_parameters_set']}",
        "hyper-parameters of the methods": lambda way: f"{way['hyper_parameters_of_the_methods']}",
    }
    head = f"{'from the tuned model on':<34}{'RLHF':<14}DPO"
    return [
        "",
        head,
        *(f"{name:<34}{of(ways['rlhf']):<14}{of(ways['dpo'])}" for name, of in rows.items()),
    ]


def _roles(models: dict | None) -> str:
    if models is None:
        return ""
    roles = ", ".join(f"{role} {size / 1e6:,.1f} MB" for role, size in models["roles"].items())
    return f"{roles}; {models['networks']} whole network{'s' if models['networks'] > 1 else ''}"

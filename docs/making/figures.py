"""Measured figures, from benchmarks/results/*.json alone: a page never has one typed into it."""

from __future__ import annotations

import json
from functools import cache
from statistics import median

from accord.campaign.compare.verdict import summary_sentence
from making.text import ROOT, literal, plain, table

RESULTS = ROOT / "benchmarks" / "results"
LONGEST = 180  # characters of a message that are shown


@cache
def result(name: str) -> dict:
    """The content of one result file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def figure(name: str, path: str, form: str = "") -> str:
    """One figure: `figure silentbench counts/accord/caught`, keys and places apart by "/", and how
    to print it.

    Raises:
      LookupError, TypeError: there is no such figure.
    """
    value: object = result(name)
    for key in path.split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    if isinstance(value, (dict, list)):
        raise TypeError(f"{path} is not one figure")
    return format(value, form)


def reading() -> str:
    """Cost of the check of template fidelity: a row for each file."""
    rows = [
        (
            literal(name),
            f"{case['rows']:,}",
            f"{case['seconds_tokenising']:.1f}",
            f"{case['seconds_comparison']:.1f}",
            f"{case['seconds_decoding']:.1f}",
            f"**{case['share']:.1%}**",
        )
        for name, case in result("reading")["cost"].items()
    ]
    head = ("file", "rows", "tokenising, s", "comparing, s", "decoding, s", "share")
    return table(head, rows)


def _measured(name: str) -> dict[str, dict]:
    """Of a file of held-out results, the methods that were trained (the rest are rules of thumb
    beside them).
    """
    return {
        method: row
        for method, row in result(name).items()
        if isinstance(row, dict) and "interval" in row
    }


def held_out(name: str) -> str:
    """A table of held-out accuracies, a line a method, with intervals, and the rules of thumb under
    them.
    """
    rows = [_trained(method, row) for method, row in _measured(name).items()]
    rules = [
        (plain(rule), "–", "–", f"{value:.3f}", "–", "–")
        for rule, value in result(name).items()
        if isinstance(value, float)
    ]
    head = ("method", "updates", "before", "after (95 % interval)", "margin", "log-prob of chosen")
    return table(head, [*rows, *rules])


def _trained(method: str, row: dict) -> tuple[str, ...]:
    low, high = row["interval"]
    before, after = row["logps_chosen"]
    return (
        plain(method),
        f"{row['steps']:,}",
        f"{row['accuracy_before']:.3f}",
        f"**{row['accuracy']:.3f}** ({low:.3f} to {high:.3f})",
        f"{row['margin']:+.3f}",
        f"{before:.1f} → {after:.1f}",
    )


def verdicts(name: str, yardstick: str) -> str:
    """Who is better than whom in a comparison, paired by prompt and seed: a list of sentences."""
    return "\n".join(f"- {line}." for line in summary_sentence(result(name)["pairwise"][yardstick]))


def moved(name: str) -> str:
    """Where the methods of a comparison took both answers, a line a method, with intervals."""
    head = (
        "method",
        "accuracy (sums)",
        "chosen, nats a token",
        "rejected, nats a token",
        "chosen answers that fell",
        "KL, nats an answer",
    )
    columns = (
        ("change_sum", ".3f"),
        ("chosen_moved", "+.2f"),
        ("rejected_moved", "+.2f"),
        ("chosen_fell", ".0%"),
        ("kl", ".1f"),
    )
    rows = [
        (plain(method), *(_interval(row[key], form) for key, form in columns))
        for method, row in result(name)["table"].items()
    ]
    return table(head, rows)


def _interval(figure: dict, form: str) -> str:
    return f"{figure['value']:{form}} ({figure['low']:{form}} to {figure['high']:{form}})"


def coverage() -> str:
    """How often each kind of interval held the truth in simulations."""
    head = ("interval of", "least of its cases", "mean", "cases")
    found = result("coverage")
    rows = [
        (figure, f"{row['least']:.3f}", f"{row['mean']:.3f}", str(row["cases"]))
        for figure, row in found["figures"].items()
    ]
    about = "" if found["complete"] else f"\n\nNot whole: {found['about']}."
    return table(head, rows) + about


def two_nodes() -> str:
    """What the commands of docs/many.md gave on two network namespaces, a line a command, and what
    came of a cable that was pulled.
    """
    found = result("two_nodes")
    rows = [
        (
            literal(each["line"].partition(" -m accord ")[2]),
            _ends(each["exit_codes"]),
            f"{apart:.0e}",
        )
        for each in found["commands"].values()
        for apart in [each["losses_apart"]]
    ]
    head = ("command, behind torchrun", "exit codes", "losses apart from one process")
    pulled = found["cable"]
    words = (
        f"The cable was pulled after {pulled['stopped_after']} of {found['steps']} updates, with"
        f" `ACCORD_PATIENCE={pulled['patience']}`: the nodes had ended after"
        f" {' and '.join(f'{seconds:.0f}' for seconds in pulled['seconds_until_the_end'])} seconds,"
        f" their processes with exit codes {' and '.join(map(_ends, pulled['exit_codes']))} (143:"
        " torchrun's signal to a process that had given its message). One process on one node went"
        " on from the checkpoint, to losses that are"
        f" {pulled['losses_apart']:.0e} apart from those of a run without a stop."
    )
    return f"{table(head, rows)}\n\n{words}"


def online_kills() -> str:
    """What became of online runs that were killed, a line for each victim."""
    found = result("online_kills")
    head = (
        "killed",
        "runs",
        "batches written by then",
        "wrong after resuming",
        "answers of written batches scored again",
        "of the batch in flight, most",
    )
    rows = []
    # a run that was over before its moment came was not killed
    killed = [life for life in found["lives"] if life["said"] != "it had ended before"]
    for victim in dict.fromkeys(life["victim"] for life in killed):
        lives = [life for life in killed if life["victim"] == victim]
        written = [life["written"] for life in lives]
        rows.append(
            (
                victim,
                str(len(lives)),
                f"{min(written)} to {max(written)} of {found['steps']}",
                str(sum(bool(life["wrong"]) for life in lives)),
                str(sum(life["paid_twice"] for life in lives)),
                f"{max(life['scored_again'] for life in lives)} of {found['answers_of_a_batch']}",
            )
        )
    return table(head, rows)


def _ends(codes: list[int]) -> str:
    return ", ".join(map(str, codes))


def sharded_memory() -> str:
    """The most memory that a rank had, a line a case."""
    found = result("sharded_memory")
    rows = [
        (
            str(case["processes"]),
            case["weights"],
            " · ".join(f"{size / 1e9:.2f}" for size in case["anonymous"]),
            " · ".join(f"{size / 1e9:.2f}" for size in case["resident"]),
        )
        for case in found["cases"]
    ]
    head = ("processes", "model", "GB of its own, by rank", "GB with mapped files, by rank")
    return table(head, rows)


def quantized() -> str:
    """DPO on a quantised base beside the base as it is, a line a kind."""
    found = result("quantized")
    rows = []
    for name, run in found["runs"].items():
        accuracy, weights = run["accuracy"], run["weights"]
        small = weights["bits"] is not None
        rows.append(
            (
                name,
                f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})",
                f"{run['eval_loss']:.3f}",
                f"{weights['bits']:.2f}" if small else "–",
                f"{weights['bytes'] / weights['bytes_before']:.2f}" if small else "1.00",
                f"{run['seconds'] / found['updates']:.2f}",
            )
        )
    head = (
        "base",
        "held-out accuracy",
        "loss",
        "bits a weight of its linear layers",
        "share of the weights' bytes",
        "seconds an update",
    )
    words = (
        f"{found['updates']} updates of {found['batch']} pairs,"
        f" {found['held_out_rows'] or 'all'} held-out pairs."
    )
    return f"{table(head, rows)}\n\n{words}"


def online_server() -> str:
    """GRPO with a server's answers and with the local decoder's, a line each."""
    found = result("online_server")
    rows = []
    for name, run in found["runs"].items():
        first, last = run["rewards"][0], run["rewards"][-1]
        rows.append(
            (
                name,
                *(f"{r['mean']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in (first, last)),
                f"{run['gap']['mean']:.1e}",
                f"{run['gap']['worst']:.1e}",
                f"{run['answers_a_second']:.1f}",
            )
        )
    head = (
        "answers from",
        "reward of the first answers",
        "of the last",
        "gap, nats a token",
        "in the worst batch",
        "answers a second",
    )
    return f"{table(head, rows)}\n\n{found['updates']} updates."


def vs_trl() -> str:
    """Speed and memory against TRL, a line a case, medians over the repeats."""
    head = (
        "case",
        "times as fast",
        "repeats",
        "share of its memory",
        "seconds an update: accord",
        "TRL",
        "TRL's setting",
    )
    cases = [
        (name, case)
        for name, case in result("vs_trl").items()
        if isinstance(case, dict) and "speed" in case
    ]
    return table(
        head,
        [
            (
                plain(name),
                f"{median(case['speed']):.1f} ×",
                len(case["speed"]),
                f"{median(case['memory']):.2f}",
                f"{median(case['accord']['seconds_an_update']):.2f}",
                f"{median(case['trl']['seconds_an_update']):.2f}",
                plain(case["trl_setting"]),
            )
            for name, case in cases
        ],
    )


def paths() -> str:
    """Each prompt computed once against the plain padded way."""
    rows = [
        (
            plain(name),
            f"{case['ratios']['speed']:.1f} ×",
            f"{case['ratios']['memory']:.2f}",
            f"{case['losses_apart']:.4f}",
        )
        for name, case in result("paths").items()
    ]
    return table(("rows", "times as fast", "share of the memory", "losses apart"), rows)


def silentbench() -> str:
    """Every injected fault: caught where, by accord and by TRL, and accord's own words."""
    rows = [
        (
            plain(fault["fault"]),
            _fate(fault["accord"]),
            _fate(fault["trl"]),
            plain(said(fault["accord"]["says"])) or "–",
        )
        for fault in result("silentbench")["faults"]
    ]
    return table(("fault", "accord", "TRL", "what accord says"), rows)


def said(message: str) -> str:
    """The line of a message that names the cause, cut where it gets long; the heading above it says
    only that a run ended.
    """
    lines = [line.strip() for line in message.splitlines()]
    line = next((line for line in lines if not line.endswith("would be silently wrong.")), "")
    return line if len(line) <= LONGEST else line[:LONGEST].rpartition(" ")[0] + " …"


def _fate(side: dict | None) -> str:
    if not side:
        return "– (has no such path)"
    return f"caught ({side['where']})" if side["caught"] else "**missed**"


def audit_scale() -> str:
    """What an audit costs by the size of the file."""
    rows = [
        (
            f"{row['pairs']:,}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['wall_seconds']:.1f}",
            f"{row['peak_gb']:.2f} GB",
        )
        for row in result("audit_scale")["results"]
    ]
    return table(("pairs", "CPU seconds", "seconds", "peak memory"), rows)


def scale() -> str:
    """Encoding and starting by the number of pairs."""
    rows = []
    for row in result("scale")["sizes"]:
        first, second = row["first"], row["second"]
        rows.append(
            (
                f"{row['pairs']:,}",
                f"{first['seconds']:,.0f}",
                f"{first['rows'] / first['seconds']:,.0f}",
                f"{first['megabytes']:,} MB",
                f"{second['seconds']:.1f}",
            )
        )
    return table(("pairs", "encoding, s", "rows a second", "memory", "second start, s"), rows)

"""What is made of the stages' findings: figures of each training, comparisons, lines for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from gpu_stages.plan import STAGES, Stage

# Of a loss in nats; of a log-prob of its own size: sums of hundreds of tokens at some 12 nats.
TOLERANCE = 1e-4
# Of a quantised model TRL keeps the adapters in bfloat16 in any case: after one update they differ.
COMPARED_UPDATES = {"qlora": 1}


def figures(stage: Stage, records: Mapping[str, dict]) -> dict:
    """Compute the figures of one training, the median over its passes; empty if nothing was timed.

    Both sides are held against the operations that accord's stage counted, those of unique tokens.
    """
    found, machine = _found(stage.name, records), _found("machine", records)
    facts = _facts(stage, records)
    if "seconds_an_update" not in found or not facts:
        return {}
    seconds = statistics.median(found["seconds_an_update"])
    rate, vendor = machine["matmul_flops"][stage.shape], machine["vendor_flops"]
    achieved = facts["flops_an_update"] / seconds
    return {
        "seconds_an_update": seconds,
        "rows_a_second": facts["batch"] / seconds,
        "unique_tokens_a_second": facts["unique_tokens_an_update"] / seconds,
        "model_tflops": achieved / 1e12,
        "share_of_measured_rate": achieved / rate,
        "share_of_vendor_rate": achieved / vendor if vendor else None,
        # the same for a count in which each answer has a prompt of its own
        "share_of_measured_rate_unshared": facts["flops_an_update_unshared"] / seconds / rate,
        "device_peak_gb": found["device_peak_gb"],
        # what accord would have said before a run
        "expected_peak_gb": found.get("estimated_gb", {}).get(found["setting"]),
        "setting": found["setting"],
        "path": found.get("path"),
    }


def comparisons(records: Mapping[str, dict]) -> dict[str, dict]:
    """Compare both sides of every training of which something is known, by its name."""
    out = {}
    for ours in (stage for stage in STAGES if stage.side == "accord"):
        theirs = next(s for s in STAGES if s.pair == ours.pair and s.side == "trl")
        if any(_found(stage.name, records) for stage in (ours, theirs)):
            out[ours.pair] = _compare(ours, theirs, records)
    return out


def _compare(ours: Stage, theirs: Stage, records: Mapping[str, dict]) -> dict:
    checks = [_found(stage.name, records).get("check") for stage in (ours, theirs)]
    if not all(isinstance(check, list) for check in checks):
        return {"why": "not both reported their numbers in float32, so no speed is compared"}
    if len(checks[0]) != len(checks[1]):
        return {"why": f"they reported {len(checks[0])} and {len(checks[1])} updates in float32"}
    apart = differences(*checks, COMPARED_UPDATES.get(ours.trains))
    found: dict = {"apart": apart}
    if not all(each is not None and each <= TOLERANCE for each in apart.values()):
        return found | {"why": f"they disagree ({TOLERANCE:g} is allowed), so no speed is compared"}
    one, other = (figures(stage, records) for stage in (ours, theirs))
    if not one or not other:
        return found | {"why": "not both were timed"}
    found["speed"] = other["seconds_an_update"] / one["seconds_an_update"]
    if one["device_peak_gb"] and other["device_peak_gb"]:
        found["memory"] = one["device_peak_gb"] / other["device_peak_gb"]
    return found


def differences(
    ours: list[dict], theirs: list[dict], updates: int | None
) -> dict[str, float | None]:
    """Compute the largest differences of what both report of the same updates: of losses, and of
    log-probs relative to their size; None if a number is none.
    """
    pairs = list(zip(ours, theirs, strict=True))[:updates]
    out: dict[str, float | None] = {}
    for name in ours[0]:
        numbers = [(a[name], b[name]) for a, b in pairs]
        known = all(number is not None for both in numbers for number in both)
        sizes = [1 if name == "loss" or not known else abs(a) for a, _ in numbers]
        out[name] = (
            max(abs(a - b) / size for (a, b), size in zip(numbers, sizes, strict=True))
            if known
            else None
        )
    return out


# ---------------------------------------------------------------- for people


def line(name: str, record: Mapping) -> str:
    """One line about a stage that is over."""
    says = f"{name}: {record['state']}"
    if "seconds" in record:
        says += f" after {record['seconds']:.0f} of {record['given_seconds']:.0f} s"
    if "why" in record:
        says += f": {record['why']}"
    return "\n    ".join([says, *record.get("last_lines", ())])


def table(results: Mapping) -> str:
    """Write down everything that was found, and what was not run."""
    records = results["stages"]
    machine = _found("machine", records)
    lines = [f"{machine.get('name', 'nothing is known of the device')}, {results['minutes']:g} min"]
    if results["tiny"]:
        lines += ["Tiny models: a check of the flow. The figures mean nothing."]
    for name, rate in machine.get("matmul_flops", {}).items():
        known = machine["vendor_flops"]
        vendor = f", {known / 1e12:.0f} by the vendor" if known else ", no vendor's figure is known"
        lines.append(f"matrix products at the shapes of {name}: {rate / 1e12:.4g} TFLOP/s{vendor}")
    lines += _tests(_found("tests", records))
    lines += _paths(_found("paths", records))
    for stage in STAGES:
        if stage.trains and (found := figures(stage, records)):
            lines.append(f"{stage.name}: {_training(stage, found)}")
    for pair, found in results["compared"].items():
        lines.append(f"{pair}, accord against TRL: {_compared(found)}")
    generation = _found("generation", records)
    if "ratio" in generation:
        rates = generation["tokens_a_second"]
        lines.append(
            f"generation, K = {generation['K']}: {rates['accord']:,.0f} tokens/s against"
            f" {rates['transformers']:,.0f} of transformers, {generation['ratio']:.2f} ×"
        )
    for name, record in records.items():
        if record["state"] != "done":
            lines.append(f"NOT DONE, {line(name, record)}")
    return "\n".join(lines)


def _tests(found: Mapping) -> Iterator[str]:
    if "counts" in found:
        yield "tests: " + ", ".join(f"{n} {what}" for what, n in sorted(found["counts"].items()))
        yield from (f"    {name}" for name in found["failed"])


def _paths(found: Mapping) -> Iterator[str]:
    if "path" in found:
        yield f"path: {found['path']}, chosen in {found['choice_seconds']:.1f} s; {found['reason']}"
    for path, apart in found.get("float32", {}).items():
        if "cannot" in apart:
            yield f"    {path}: {apart['cannot']}"
        else:
            yield (
                f"    {path}: at most {apart['worst_nats']:.1e} nats a token from the oracle,"
                f" gradients {apart['gradients_apart']:.1e} of their size"
            )
    for path, took in found.get("forward_and_backward", {}).items():
        if isinstance(took, Mapping):
            yield f"    {path}: {took['seconds']:.3f} s for {found['rows']} rows, {found['dtype']}"
        else:
            yield f"    {path}: not timed: {took}"


def _training(stage: Stage, found: Mapping) -> str:
    says = (
        f"{found['rows_a_second']:.2f} rows/s, {found['unique_tokens_a_second']:,.0f} unique"
        f" tokens/s, {found['share_of_measured_rate']:.1%} of the measured rate"
    )
    if found["share_of_vendor_rate"]:
        says += f", {found['share_of_vendor_rate']:.1%} of the vendor's"
    if stage.side == "trl":
        own = found["share_of_measured_rate_unshared"]
        says += f", {own:.1%} of the measured one if each answer needs a prompt of its own"
    if found["device_peak_gb"]:
        says += f", {found['device_peak_gb']:.1f} GB allocated at the peak"
        if found["expected_peak_gb"]:
            says += f" ({found['expected_peak_gb']:.1f} expected)"
    path = f"{found['path']} path, " if found["path"] else ""
    return f"{says} ({path}{found['setting']})"


def _compared(found: Mapping) -> str:
    says = [found["why"]] if "why" in found else []
    says += [f"{found['speed']:.2f} × as fast"] if "speed" in found else []
    says += [f"{found['memory']:.2f} of its memory"] if "memory" in found else []
    if "apart" in found:
        apart = [each for each in found["apart"].values() if each is not None]
        none = len(found["apart"]) - len(apart)
        says += [f"float32 numbers at most {max(apart):.1e} apart"] if apart else []
        says += [f"{none} of the float32 numbers are not finite"] if none else []
    return "; ".join(says)


# ---------------------------------------------------------------- finding things


def _found(name: str, records: Mapping[str, dict]) -> dict:
    return records.get(name, {}).get("found", {})


def _facts(stage: Stage, records: Mapping[str, dict]) -> dict:
    """What accord's side of a training counted."""
    ours = next(s for s in STAGES if s.pair == stage.pair and s.side == "accord")
    return _found(ours.name, records).get("facts", {})

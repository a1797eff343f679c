"""Does bad input ever give a traceback, hang, lose a row or take the machine's memory? Every
loader, and recipes.

    python benchmarks/fuzz.py                          # 100,000 cases; results in
                                                       # benchmarks/results/fuzz.json
    python benchmarks/fuzz.py --go-on                  # what the results do not tell of yet; they
                                                       # are written every few thousand
    python benchmarks/fuzz.py --case csv 4711          # one case again, its traceback shown

Checked in every case: it is used or refused with an AccordError whose words can be printed; the
ledger balances, over a file that is refused half-way too, and counts the rows that the container
gives; within the limits of CPU time and memory. Cases run in forked children, so that a crash of a
library is a finding like any other.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import fuzz_cases as cases

from accord.config.build import build
from accord.config.schema import dump, make_config
from accord.data import read as reader
from accord.data.containers import locate
from accord.data.ledger import Ledger, RowError
from accord.errors import AccordError

RESULTS = Path(__file__).parent / "results"
CPU_SECONDS = 20  # of one case; the slowest that is right takes about one
WALL_SECONDS = 600  # a case that waits for something; long, since the machine may be busy
MEMORY = 3 << 30  # bytes of address space that a child may add to what its parent had
CHUNK = 500  # cases a child
# How often each comes, the slower ones less often.
SHARES = {"recipe": 6, "template": 4} | dict.fromkeys(cases.DATA_LOADERS, 8) | {"parquet": 4}


class Hang(BaseException):
    """A case over its time. No Exception, so that no `except` of the code under test takes it for
    its own.
    """


class Wrong(AssertionError):
    """A case that was neither used nor refused in words, or whose account does not balance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after so long, whatever is left"
    )
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="keep what the results of this seed tell of, and do the rest",
    )
    parser.add_argument("--loader", choices=SHARES, help="this one alone")
    parser.add_argument(
        "--case", nargs=2, metavar=("LOADER", "INDEX"), help="one case, its bytes and its traceback"
    )
    options = parser.parse_args()
    if options.case:
        show(options.case[0], int(options.case[1]), options.seed)
        return
    results: dict = {}
    for results in runs(options):
        if options.loader is None:
            (RESULTS / "fuzz.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))
    raise SystemExit(1 if results["findings"] else 0)


def runs(options: argparse.Namespace) -> Iterator[dict]:
    """The results so far, after every round. `runs` says which part of them was found when, since
    the tree moves on.
    """
    kept = (
        json.loads((RESULTS / "fuzz.json").read_text())
        if options.go_on
        else {"seed": options.seed, "runs": []}
    )
    if kept["seed"] != options.seed:
        raise SystemExit(
            f"the results are of seed {kept['seed']}: --go-on needs --seed {kept['seed']}"
        )
    began, first = time.perf_counter(), kept.get("cases", 0)
    for found in rounds(plan(options.cases, options.loader), options.seed, options.seconds, kept):
        this = {
            "cases": found["cases"] - first,
            "seconds": round(time.perf_counter() - began, 1),
            "tree": tree(),
        }
        yield found | {"seed": options.seed, "runs": [*kept["runs"], this]}


def tree() -> str:
    """The commit that is tried."""
    return subprocess.check_output(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS, text=True
    ).strip()


def plan(total: int, only: str | None = None) -> dict[str, int]:
    """How many cases each loader gets."""
    shares = {name: share for name, share in SHARES.items() if only in (None, name)}
    whole = sum(shares.values())
    counts = {name: int(total * share / whole) for name, share in shares.items()}
    counts[next(iter(counts))] += total - sum(counts.values())
    return counts


def fuzz(counts: dict[str, int], seed: int) -> dict:
    """Runs the cases; returns counts by loader and outcome, and the findings."""
    *_, last = rounds(counts, seed)
    return last


def rounds(
    counts: dict[str, int], seed: int, seconds: float = float("inf"), kept: dict | None = None
) -> Iterator[dict]:
    """Runs a few cases of every loader in turn, after those of `kept`, whose findings are tried
    again; the results so far, after each turn.
    """
    kept = kept or {}
    outcomes = {loader: Counter(kept.get("by_loader", {}).get(loader, {})) for loader in counts}
    findings, peak, slowest = (
        [],
        kept.get("peak_mb", 0),
        kept.get("slowest_case_cpu_seconds", [0.0, ""]),
    )
    for former in kept.get("findings", []):
        done = _in_child(former["loader"], seed, former["index"], former["index"] + 1)
        outcomes[former["loader"]] = (
            outcomes[former["loader"]] - Counter(FINDING=1) + done["outcomes"]
        )
        findings += done["findings"]
    starts, until = (
        {loader: found.total() for loader, found in outcomes.items()},
        time.monotonic() + seconds,
    )
    for further in range(0, max(counts.values()), CHUNK):
        for loader, count in counts.items():
            start = starts[loader] + further
            if start >= count or time.monotonic() > until:
                continue
            done = _in_child(loader, seed, start, min(start + CHUNK, count))
            outcomes[loader].update(done["outcomes"])
            findings = findings + done["findings"]
            peak, slowest = max(peak, done["peak_mb"]), max(slowest, done["slowest"])
        total = sum((outcomes[loader] for loader in counts), Counter())
        print(f"{total.total():>8,} cases, {len(findings)} findings", file=sys.stderr, flush=True)
        yield {
            "cases": total.total(),
            "outcomes": dict(total.most_common()),
            "by_loader": {loader: dict(found.most_common()) for loader, found in outcomes.items()},
            "findings": findings,
            "peak_mb": peak,
            "slowest_case_cpu_seconds": slowest,
        }


def _in_child(loader: str, seed: int, start: int, stop: int) -> dict:
    """The cases of one range in a forked child, which writes a line for each; a child that dies is
    a finding.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _work(loader, seed, start, stop, Path(folder), log)
        status, usage = os.wait4(child, 0)[1:]
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    outcomes = Counter(line["outcome"] for line in lines)
    findings = [line for line in lines if line["outcome"] == "FINDING"]
    # killed in the case after the last line, or out of memory there
    if status or len(lines) < stop - start:
        at = start + len(lines)
        findings.append(
            {
                "loader": loader,
                "index": at,
                "outcome": "FINDING",
                "what": f"the child died, status {status}",
            }
        )
        outcomes["FINDING"] += 1
    slowest = max(([line["cpu"], f"{loader} {line['index']}"] for line in lines), default=[0.0, ""])
    return {
        "outcomes": outcomes,
        "findings": findings,
        "peak_mb": usage.ru_maxrss >> 10,
        "slowest": slowest,
    }


def _work(loader: str, seed: int, start: int, stop: int, folder: Path, log: Path) -> None:
    """The child's life. Leaves by `_exit`: nothing of the parent is its to clean up."""
    limit_memory(MEMORY)
    logging.disable(logging.CRITICAL)
    signal.alarm(WALL_SECONDS * 2)
    with log.open("w") as out:
        for index in range(start, stop):
            began = time.process_time()
            line = {"loader": loader, "index": index} | outcome(loader, index, seed, folder)
            line["cpu"] = round(time.process_time() - began, 3)
            out.write(json.dumps(line) + "\n")
            out.flush()
            signal.alarm(WALL_SECONDS)
    os._exit(0)


def limit_memory(more: int) -> None:
    """Lets this process grow by so many bytes of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def outcome(loader: str, index: int, seed: int, folder: Path) -> dict:
    """What became of one case: "used", the class of the AccordError, or a finding."""
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        return {"outcome": run_case(loader, index, seed, folder)}
    except (Exception, Hang) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error}"[:300].encode("ascii", "backslashreplace").decode()
        return {
            "outcome": "FINDING",
            "what": what,
            "at": f"{Path(place.filename).name}:{place.lineno}",
        }
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _hang(*_) -> None:
    raise Hang(f"over {CPU_SECONDS} s of CPU time")


def run_case(loader: str, index: int, seed: int, folder: Path) -> str:
    """One case, made and tried.

    Raises:
      whatever is wrong: the case is a finding.
    """
    rng = random.Random(f"{seed}:{loader}:{index}")
    if loader == "recipe":
        return _refused_or(lambda: try_recipe(*cases.recipe_case(rng), folder))
    if loader == "template":
        return _refused_or(lambda: try_template(cases.template_case(rng), folder))
    data, suffix = cases.data_case(loader, rng)
    options = _options(rng)
    if loader == "saved dataset":
        return try_data(_saved(rng, data, folder), options)
    if loader == "standard input":
        return _from_standard_input(data, options)
    path = folder / f"data{suffix}"
    path.write_bytes(data)
    return try_data(path, options)


def _refused_or(work: Callable[[], None]) -> str:
    try:
        work()
    except AccordError as error:
        _sayable(error)
        return type(error).__name__
    return "used"


def _sayable(error: AccordError) -> None:
    """The words exist, fit a terminal and can be written to a file."""
    said = str(error)
    said.encode("utf-8")
    if not said.strip() or len(said) > 20_000 or any(ord(c) < 32 and c not in "\n\t" for c in said):
        raise Wrong(f"unfit words: {said[:200]!r}")


# ---------------------------------------------------------------- data


def _options(rng: random.Random) -> dict:
    options: dict = {"rows": rng.choice(cases.KINDS)}
    if rng.random() < 0.1:
        options["columns"] = {rng.choice(cases.COLUMNS): rng.choice(cases.COLUMNS)}
    if rng.random() < 0.1:
        options |= {"pairing": rng.choice(["all", "adjacent"]), "margin": rng.choice([0, 1, 1e9])}
    if rng.random() < 0.1:
        options["max_row_bytes"] = rng.choice([1, 60, 1_000])
    if rng.random() < 0.05:
        options["format"] = rng.choice(["hh", "openai", "ranked"])
    return options


def try_data(path: Path | str, options: dict) -> str:
    """Read it; the account balances whether it is used or refused, and counts every row that the
    container gives.
    """
    kept: list[Ledger] = []

    class Kept(Ledger):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            kept.append(self)

    real, reader.Ledger = reader.Ledger, Kept
    try:
        result = _refused_or(lambda: _sound(reader.read(path, **options), options))
    finally:
        reader.Ledger = real
    for ledger in kept:
        _balanced(ledger)
    if (
        kept
        and path != "-"
        and kept[0].rows != _rows_in(path, options.get("max_row_bytes"), kept[0].rows)
    ):
        raise Wrong("the ledger counts other rows than the container gives")
    return result


def _balanced(ledger: Ledger) -> None:
    record = json.loads(json.dumps(ledger.as_dict(), allow_nan=False))
    reasons = sum(record["reasons"].values())
    if not ledger.rows == ledger.used + len(ledger.rejected) == record["used"] + reasons:
        raise Wrong(f"the ledger does not balance: {record}")
    "\n".join(ledger.lines()).encode("utf-8")
    for rejection in ledger.rejected:
        json.dumps(rejection.as_dict(), ensure_ascii=False).encode("utf-8")
        if not (rejection.reason and rejection.says.isprintable() and rejection.origin.line >= 1):
            raise Wrong(f"unfit rejection: {rejection}")


def _sound(dataset: reader.Dataset, options: dict) -> None:
    """Examples are fit to be tokenised, and of the kind asked for."""
    if (
        not dataset.ledger.used
        or dataset.ledger.examples != len(dataset.examples)
        or len(dataset.digest) != 64
    ):
        raise Wrong("a dataset that does not fit its ledger")
    for example in dataset.examples:
        texts = [*(turn.content for turn in example.prompt), *example.completions]
        if type(example) is not reader.ROW_KINDS[options["rows"]] or not all(
            said.strip() for said in example.completions
        ):
            raise Wrong(f"an unfit example: {example!r:.200}")
        for said in texts:
            said.encode("utf-8")


def _rows_in(path: Path | str, limit: int | None, most: int) -> int:
    """How many rows the container gives, up to where it is broken: counted without the reader of
    formats.
    """
    count = 0
    try:
        with locate(path) as source:
            for _, row in islice(source.rows(*[limit] * (limit is not None)), most + 1):
                count += isinstance(row, (RowError, object))
    except AccordError:
        pass
    return count


def _from_standard_input(data: bytes, options: dict) -> str:
    real, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data))
    try:
        return try_data("-", options)
    finally:
        sys.stdin = real


def _saved(rng: random.Random, data: bytes, folder: Path) -> Path:
    """A folder as `save_to_disk` leaves it, its state.json sometimes broken."""
    place = folder / "set"
    place.mkdir(exist_ok=True)
    (place / "data-00000-of-00001.arrow").write_bytes(data)
    state: object = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    state = cases.broken(rng, state) if rng.random() < 0.3 else state
    text = json.dumps(state).encode()
    (place / "state.json").write_bytes(cases.damaged(rng, text) if rng.random() < 0.2 else text)
    return place


# ---------------------------------------------------------------- recipes and templates


def try_recipe(data: bytes, overrides: list[str], folder: Path) -> None:
    """Build a config of it; one that is accepted has an objective, and survives being written and
    read.
    """
    from accord.objectives.configured import resolve_objective

    path = folder / "recipe.yaml"
    path.write_bytes(data)
    config = build(str(path), assignments=overrides)
    objective = resolve_objective(config)
    written = folder / "config.yaml"
    written.write_text(dump(config), encoding="utf-8")
    again = build(str(written))
    if (
        make_config(again.model_dump()) != config
        or resolve_objective(again).options != objective.options
    ):
        raise Wrong("the resolved config, written and read, is another")


def try_template(data: bytes, folder: Path) -> None:
    """Make a template of it, and trees of three conversations; every example is a tree or counted
    as unfit.
    """
    from data.crafted import crafted, pair

    from accord.data.encoding_findings import findings
    from accord.data.templates import make_template
    from accord.data.trees import Limits, encode

    path = folder / "template.jinja"
    path.write_bytes(data)
    template = make_template(crafted(None), str(path))
    examples = [
        pair("Hi"),
        pair("Hi", "Hello", "and now", system="Be kind"),
        pair("x", "", chosen="a", rejected="b"),
    ]
    encoding = encode(examples, template, Limits(200))
    if len(encoding.trees) + len(encoding.unfit) != len(examples):
        raise Wrong("the account of trees does not balance")
    json.dumps([vars(finding) for finding in findings(encoding, template, 0.1, 0.1)])


def show(loader: str, index: int, seed: int) -> None:
    """One case for a person: its bytes, then what happens, with the traceback if there is one."""
    rng = random.Random(f"{seed}:{loader}:{index}")
    makers = {"recipe": cases.recipe_case, "template": cases.template_case}
    print(makers[loader](rng) if loader in makers else cases.data_case(loader, rng))
    with tempfile.TemporaryDirectory() as folder:
        print(run_case(loader, index, seed, Path(folder)))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the small tokenizers of its tests
    main()

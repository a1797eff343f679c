"""Cases of a seed: which fault, where, with which method; each done in one live folder."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.silentbench.lifecycle import sound
from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.in_adapter import ADAPTERS
from benchmarks.silentbench.lifecycle.in_measure import MEASURES
from benchmarks.silentbench.lifecycle.in_model import MODEL
from benchmarks.silentbench.lifecycle.in_run import RUNS
from benchmarks.silentbench.lifecycle.in_setting import SETTINGS
from benchmarks.silentbench.lifecycle.kinds import Inert, Kind, spoil
from benchmarks.silentbench.lifecycle.places import PLACES, Ended, Place
from benchmarks.silentbench.lifecycle.said import Verdict, judge, normal

GROUPS: dict[str, tuple[Kind, ...]] = {
    "model": MODEL,
    "adapter": ADAPTERS,
    "run": RUNS,
    "measuring": MEASURES,
    "settings": SETTINGS,
}
KINDS = tuple(kind for kinds in GROUPS.values() for kind in kinds)
SPEED = re.compile(r"a second|tok/s|about [\d.]+ GB")
SHORT = 300  # characters of a message that are kept in the results


@dataclass(frozen=True)
class Draw:
    """One case before it is done."""

    seed: int
    number: int
    kind: str
    place: str
    method: str
    family: str

    @property
    def group(self) -> str:
        return next(g for g, kinds in GROUPS.items() if any(k.name == self.kind for k in kinds))


def kind_named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def draws(seed: int, cases: int) -> list[Draw]:
    """Draw the cases of a seed: every kind once, in a drawn order, then every kind again. A kind's
    places, methods and families come in a drawn order too, each combination once.
    """
    rng = random.Random(f"lifecycle-{seed}")
    decks = {kind.name: _deck(kind, rng) for kind in KINDS}
    found: list[Draw] = []
    while len(found) < cases and any(decks.values()):
        names = [name for name, deck in decks.items() if deck]
        rng.shuffle(names)
        for name in names[: cases - len(found)]:
            found.append(Draw(seed, len(found), name, *decks[name].pop()))
    return found


def _deck(kind: Kind, rng: random.Random) -> list[tuple[str, str, str]]:
    deck = [(p, m, f) for p in kind.places for m in kind.methods for f in kind.families]
    rng.shuffle(deck)
    # places first: two cases of a kind stand at two places wherever it has two
    order: dict[str, int] = {}
    ranked = []
    for entry in deck:
        order[entry[0]] = order.get(entry[0], 0) + 1
        ranked.append((order[entry[0]], entry))
    return [entry for _, entry in sorted(ranked, key=lambda item: -item[0])]


class Lab:
    """One live folder, in which each case is done, and snapshots of what was done soundly before.

    Runs and adapters hold absolute paths. A snapshot is taken of the live folder and comes back to
    the same path, so that they stay true.
    """

    def __init__(self, work: Path, models: Path):
        self.live, self.kept, self.models = work / "now", work / "kept", models
        self.kept.mkdir(parents=True, exist_ok=True)
        self.twins: dict[str, dict] = {}

    def case(self, draw: Draw) -> Case:
        """Make an empty live folder; the rows of a seed are the same in all its cases."""
        shutil.rmtree(self.live, ignore_errors=True)
        self.live.mkdir(parents=True)
        rng = random.Random(f"{draw.seed}-{draw.number}-{draw.kind}")
        rows = random.Random(draw.seed)
        case = Case(self.live, self.models, rows, method=draw.method, family=draw.family)
        case.rng = rng
        return case

    def set_up(self, case: Case, place: Place, draw: Draw) -> None:
        """Do the place's setup, or bring back the snapshot of the same one."""
        key = f"{place.setup.__name__}-{draw.method}-{draw.family}-{draw.seed}"
        kept, about = self.kept / key, self.kept / f"{key}.json"
        if about.exists():
            shutil.rmtree(self.live)
            shutil.copytree(kept, self.live)
            target = json.loads(about.read_text(encoding="utf-8"))
            case.target, case._model = Path(target) if target else None, self.live / "model"
        else:
            case.copy_model()  # it belongs to the snapshot
            place.setup(case)
            shutil.copytree(self.live, kept, dirs_exist_ok=True)
            about.write_text(json.dumps(str(case.target or "")), encoding="utf-8")
        case.said.clear()  # all of it was said of something sound

    def twin(self, draw: Draw, own_rows: bool) -> dict:
        """Do the same without the fault, once for all cases of a place: what it says without
        numbers and paths, what comes of it, and its alarms, each of which is a false one.
        """
        key = f"{draw.place}-{draw.method}-{draw.family}-{draw.seed}" + "-own" * own_rows
        if key not in self.twins:
            case, place = self.case(draw), PLACES[draw.place]
            case.own_rows = own_rows
            with case.stack, suppress(Ended):
                self.set_up(case, place, draw)
                place.last(case)
            lines = [line for step in case.said for line in step.lines]
            self.twins[key] = {
                "usual": {normal(line) for line in lines},
                "outcome": outcome(case),
                "alarms": [alarm for step in case.said for alarm in sound.alarms_of(step)],
            }
        return self.twins[key]

    def do(self, draw: Draw) -> dict:
        """Inject a fault, give the commands, judge what was said."""
        began, kind, place = time.monotonic(), kind_named(draw.kind), PLACES[draw.place]
        case, drawn = self.case(draw), ""
        try:
            with case.stack:
                drawn, handled = _lived(self, case, kind, place, draw)
            verdict = self._judged(kind, case, draw, handled)
        except Inert as error:
            verdict = Verdict("inert", str(error))
        except Exception:  # a defect of the bench, never counted for or against accord
            verdict = Verdict("bench failed", traceback.format_exc()[-SHORT * 3 :])
        return asdict(draw) | {
            "group": draw.group,
            "drawn": drawn,
            "verdict": verdict.word,
            "loud": verdict.loud,
            "says": verdict.says[:SHORT],
            "alarms": [alarm[:SHORT] for alarm in verdict.alarms[:4]],
            "seconds": round(time.monotonic() - began, 1),
        }

    def _judged(self, kind: Kind, case: Case, draw: Draw, handled: bool) -> Verdict:
        """Judge against the sound twin, where an error has not named the cause already."""
        said, came = list(case.said), outcome(case)
        verdict = judge(kind.cause, said, set(), handled)
        refused = any(step.code not in (0, 75) for step in said)
        if verdict.word == "named" and verdict.loud and refused:
            return verdict
        twin = self.twin(draw, case.own_rows)
        # a setting that changes nothing is the fault itself
        same = kind.between and came == twin["outcome"]
        return judge(kind.cause, said, twin["usual"], handled or same)


def outcome(case: Case) -> list[str]:
    """Describe what came of a case: the figures and texts of its last command but for speeds, and
    the weights and rewards that it wrote. What equals the sound twin's did no harm.
    """
    if not case.said or case.said[-1].code != 0:
        return []
    files = sorted(
        file
        for pattern in ("merged/*.safetensors", "*/adapter/*.safetensors", "scored.jsonl")
        for file in case.folder.glob(pattern)
    )
    weights = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    lines = [line for line in case.said[-1].lines if not SPEED.search(line)]
    return [case.said[-1].words[0], *lines, *weights]


def _lived(lab: Lab, case: Case, kind: Kind, place: Place, draw: Draw) -> tuple[str, bool]:
    """Live through the place with the fault; return what was drawn, and whether all is well."""
    drawn = ""
    try:
        if kind.between:
            lab.set_up(case, place, draw)
            drawn = spoil(kind, case)
        else:
            drawn = spoil(kind, case)
            place.setup(case)
        place.last(case)
    except Ended:
        return drawn, False
    return drawn, bool(kind.handled and kind.handled(case))


def sound_cases(lab: Lab, seed: int, cases: int, done: set[int]) -> Iterator[dict]:
    """Do the sound cases of a seed that are not done yet."""
    for number in range(cases):
        if number in done:
            continue
        began = time.monotonic()
        shutil.rmtree(lab.live, ignore_errors=True)
        lab.live.mkdir(parents=True)
        case, about = sound.make(lab.live, lab.models, seed, number)
        alarms = sound.run(case, about)
        yield {
            "seed": seed,
            "number": number,
            "method": case.method,
            "family": case.family,
            "last": about["last"],
            "shape": about["shape"],
            "machine": about["machine"],
            "settings": {**case.settings, "words": " ".join(case.words)},
            "alarms": [alarm[:SHORT] for alarm in alarms],
            "seconds": round(time.monotonic() - began, 1),
        }

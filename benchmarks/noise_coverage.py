"""Measure how often the audit's noise estimate holds the true share of flipped labels, and how
often it warns of sound files.

    python benchmarks/noise_coverage.py                              # synthetic files alone, seed 0
    python benchmarks/noise_coverage.py --data ../shared/data        # and parts of real files
    python benchmarks/noise_coverage.py --data ../shared/data --fresh --write          # publishes

Synthetic files have words whose worth is known, and people who disagree in five ways. Shares of
labels are flipped, which is the truth; then other defects are planted: copies, contradictions, ties
and a signature phrase at the end of some better answers. The interval must hold the truth in 93 %
of files, in every cell of shape by flips by defects, with room for three standard errors.

Of real files nobody knows the base's own noise ε₀. Parts of them are drawn and flips are added. Two
things are certain then: the upper end must not lie under the flips that were added; and the lower
end must not lie above added + (1 - 2·added)·ε₀, where ε₀ is at most what the estimate gives as the
upper end of the whole file. Parts without added flips count false warnings.

Classifiers are fitted with the probe's folds and penalty by a dual solver, in half the time (its
margins of 1,200 pairs correlate to .999 with the probe's). The seeds of the published table come
from --fresh.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.special import expit

from accord.auditing.checks.noise import accounted_for, flipped_share
from accord.auditing.checks.probes import FOLDS, Probed, fold_of, word_table
from accord.auditing.cleansed import cleanse
from accord.auditing.scan import scan
from accord.auditing.thresholds import limit
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy, clopper_pearson

RESULT = Path(__file__).parent / "results" / "noise_coverage.json"
LEAST = 0.93
FRESH = 10**6  # the first seed of a published table
FLIPS = (0.0, 0.1, 0.2, 0.3)
SIZES = (300, 1_000, 3_000)
PARTS = (80, 160, 320, 640, 1_280, 2_000)
SHAPES = ("agreed", "Bradley-Terry", "heavy-tailed", "unequally sure", "hard pairs")
DEFECTS = ("none", "copies", "contradictions", "ties", "phrase", "all")
REAL = {
    "truthfulqa": "truthfulqa/pairs_train.jsonl",
    "truthfulqa, labelled": "truthfulqa/kto_train.jsonl.gz",
    "hh_helpful": "hh_helpful/train.jsonl.gz",
    "hh_harmless": "hh_harmless/transcripts.jsonl.gz",
    "permissive_mix": "permissive_mix/train.jsonl.gz",
    "permissive_mix, labelled": "permissive_mix/kto_train.jsonl.gz",
    "ultrafeedback": "ultrafeedback_small/pairs_train.jsonl.gz",
}
WORDS, WORTHY = 1_500, 60  # of the vocabulary, and of it those with a worth
PHRASE = "hope this settles the matter"
Rng = np.random.Generator


@dataclass(frozen=True)
class Base:
    """The numbers that the estimate needs of a file."""

    words: sparse.csr_matrix  # [n, V]; a pair is chosen minus rejected
    groups: np.ndarray  # [n]
    labels: np.ndarray  # [n] bool; of rows labelled one by one
    left_out: np.ndarray  # [n] bool
    paired: bool

    @classmethod
    def of(cls, path: Path, sample: int) -> Base:
        table = scan(path, sample=sample)
        rows = table.sample_rows
        return cls(
            word_table(cleanse(table)),
            table.groups[rows],
            table.desirable[rows],
            accounted_for(table),
            table.paired,
        )

    def part(self, rows: np.ndarray) -> Base:
        return Base(
            self.words[rows], self.groups[rows], self.labels[rows], self.left_out[rows], self.paired
        )


def estimate(base: Base, flips: np.ndarray, seed: int) -> Estimate:
    """Estimate the flips of a file in which these labels are turned round, [n] bool."""
    margins = cross_fitted(base, flips, seed)
    if base.paired:
        skill = accuracy(margins, clusters=base.groups.tolist())
    else:
        labels = base.labels ^ flips
        skill = auc_estimate(np.where(labels, margins, -margins), labels, base.groups.tolist())
    probed = Probed(np.arange(len(margins)), margins, skill)
    return flipped_share(probed, base.groups, base.left_out)


def cross_fitted(base: Base, flips: np.ndarray, seed: int) -> np.ndarray:
    """Compute log-odds in favour of each row's label from the other folds, [n]."""
    from sklearn.linear_model import LogisticRegression

    if base.paired:
        labels = np.random.default_rng(seed).random(len(flips)) < 0.5
        words = sparse.diags(np.where(labels ^ flips, 1.0, -1.0)) @ base.words
    else:
        labels, words = base.labels ^ flips, base.words
    words = words.tocsr()
    words = words[:, np.unique(words.indices)]
    folds, odds = fold_of(base.groups, seed), np.zeros(len(flips))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if test.any() and len(np.unique(labels[train])) == 2:
            fit = LogisticRegression(
                fit_intercept=not base.paired, solver="liblinear", dual=True, tol=1e-2
            ).fit(words[train], labels[train])
            odds[test] = fit.decision_function(words[test])
    return np.where(labels, odds, -odds)


# ---------------------------------------------------------------- synthetic files


def preferences(rng: Rng, rows: int, shape: str) -> tuple[np.ndarray, list[list[str]]]:
    """Draw two answers a row and which of them people prefer: True is the first."""
    often = 1 / np.arange(1, WORDS + 1) ** 0.9
    lengths = rng.integers(15, 60, (rows, 2))
    drawn = rng.choice(WORDS, int(lengths.sum()), p=often / often.sum())
    worth = np.zeros(WORDS)
    worth[rng.choice(np.arange(20, 400), WORTHY, replace=False)] = rng.choice([-1, 1], WORTHY)
    ends = np.cumsum(lengths.ravel())
    value = np.add.reduceat(worth[drawn], ends - lengths.ravel()) / np.sqrt(lengths.ravel())
    gap = value.reshape(rows, 2) @ np.array([1.0, -1.0])
    gap /= gap.std()
    texts = [" ".join(f"w{word}" for word in part) for part in np.split(drawn, ends[:-1])]
    answers = [texts[2 * row : 2 * row + 2] for row in range(rows)]
    return rng.random(rows) < _chance(rng, gap, shape), answers


def _chance(rng: Rng, gap: np.ndarray, shape: str) -> np.ndarray:
    """Return how often people prefer the first answer, by how much it is better."""
    if shape == "agreed":
        return (gap > 0).astype(float)
    if shape == "Bradley-Terry":
        return expit(3 * gap)
    if shape == "heavy-tailed":
        return 0.5 + np.arctan(3 * gap) / np.pi
    if shape == "unequally sure":
        return expit(3 * gap * rng.lognormal(0, 1, len(gap)))
    hard = np.abs(gap) < np.quantile(np.abs(gap), 0.4)
    return np.where(hard, 0.5, expit(6 * gap))


def synthetic(rng: Rng, rows: int, shape: str, flips: float, defects: str) -> list[dict]:
    """Make a file with flipped labels and other defects."""
    first, answers = preferences(rng, rows, shape)
    has = lambda defect: defects in (defect, "all")  # noqa: E731
    found = []
    for number, ((one, two), right) in enumerate(zip(answers, first, strict=True)):
        better, worse = (one, two) if right else (two, one)
        if has("phrase") and rng.random() < 0.3:
            better += " " + PHRASE
        if has("ties") and rng.random() < 0.1:
            worse = better.upper() if rng.random() < 0.5 else better + " w3"
            if rng.random() < 0.5:
                better, worse = worse, better
        if rng.random() < flips:
            better, worse = worse, better
        prompt = f"Task {rng.integers(1 << 60):x} number {number} of {rng.integers(1 << 60):x}"
        found.append({"prompt": prompt, "chosen": better, "rejected": worse})
    chosen = rng.random(rows)
    more = [row for row, draw in zip(found, chosen, strict=True) if has("copies") and draw < 0.1]
    if has("contradictions"):
        more += [
            row | {"chosen": row["rejected"], "rejected": row["chosen"]}
            for row, draw in zip(found, chosen, strict=True)
            if draw > 0.92
        ]
    return [*found, *more]


def of_synthetic(times: int, seed: int) -> Iterator[dict]:
    """Yield one record a synthetic file."""
    cells = list(itertools.product(SHAPES, FLIPS, DEFECTS, SIZES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        for turn, (number, (shape, flips, defects, rows)) in itertools.product(
            range(times), enumerate(cells)
        ):
            draw = seed + turn * len(cells) + number
            made = synthetic(np.random.default_rng(draw), rows, shape, flips, defects)
            path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
            base = Base.of(path, 10_000)
            found = estimate(base, np.zeros(len(base.groups), bool), draw)
            yield {
                "shape": shape,
                "flips": flips,
                "defects": defects,
                "rows": rows,
                "low": found.low,
                "high": found.high,
                "held": found.low - 1e-9 <= flips <= found.high + 1e-9,
            }


# ---------------------------------------------------------------- parts of real files


def of_real(data: Path, times: int, seed: int) -> Iterator[dict]:
    """Yield one record a part of a real file."""
    for name, file in REAL.items():
        whole = Base.of(data / file, 6_000)
        nothing = np.zeros(len(whole.groups), bool)
        most = estimate(whole, nothing, seed).high
        for turn, size, flips in itertools.product(range(times), PARTS, FLIPS):
            rng = np.random.default_rng([seed + turn, size, round(100 * flips)])
            part = whole.part(np.sort(rng.permutation(len(whole.groups))[:size]))
            if len(np.unique(part.groups)) < 4 * FOLDS:
                continue  # accord fits no probe on so few prompts
            found = estimate(part, rng.random(len(part.groups)) < flips, seed + turn)
            truth = flips + (1 - 2 * flips) * most
            yield {
                "file": name,
                "flips": flips,
                "rows": size,
                "low": found.low,
                "high": found.high,
                "held": found.low <= truth + 1e-9 and found.high >= flips - 1e-9,
            }


# ---------------------------------------------------------------- the table


def summary(found: Sequence[dict], *keys: str) -> list[dict]:
    """Count, by these keys, how often the interval held and the lower end asked for a warning."""
    cells = sorted({tuple(one[key] for key in keys) for one in found}, key=str)
    out = []
    for cell in cells:
        part = [one for one in found if tuple(one[key] for key in keys) == cell]
        held = float(np.mean([one["held"] for one in part]))
        warned = float(np.mean([one["low"] > limit("noise") for one in part]))
        out.append(
            dict(zip(keys, cell, strict=True))
            | {
                "n": len(part),
                "held": held,
                "held_interval": clopper_pearson(held, len(part)),
                "warned": warned,
                "warned_interval": clopper_pearson(warned, len(part)),
                "width": float(np.mean([one["high"] - one["low"] for one in part])),
                "upper_end": float(np.median([one["high"] for one in part])),
            }
        )
    return out


def record(made: Sequence[dict], real: Sequence[dict], about: dict) -> dict:
    """Build the result: tables of what was drawn."""
    sound = [one for one in real if one["flips"] == 0]
    return about | {
        "least": LEAST,
        "synthetic": {
            "by_flips_and_defects": summary(made, "flips", "defects"),
            "by_shape_and_flips": summary(made, "shape", "flips"),
            "by_rows_and_flips": summary(made, "rows", "flips"),
        },
        "real": {
            "by_flips_and_rows": summary(real, "flips", "rows"),
            "by_file_and_flips": summary(real, "file", "flips"),
            "sound": summary([one | {"of": "all"} for one in sound], "of"),
        },
    }


def table(result: dict) -> str:
    """Render a result for a terminal: one line a cell."""
    lines = [f"first seed {result['first_seed']}, {result['times']} files a cell"]
    for part, tables in ((p, result[p]) for p in ("synthetic", "real")):
        for name, cells in tables.items():
            lines.append(f"{part}, {name.replace('_', ' ')}")
            lines += [f"  {_line(cell, result['least'])}" for cell in cells]
    return "\n".join(lines) + "\n"


def _line(cell: dict, least: float) -> str:
    low, high = cell["warned_interval"]
    about = ", ".join(
        f"{cell[key]}" for key in ("of", "file", "shape", "rows", "flips", "defects") if key in cell
    )
    mark = " <" if cell["held_interval"][1] < least else ""
    return (
        f"{about}: held {cell['held']:.3f} of {cell['n']}, warned {cell['warned']:.3f}"
        f" ({low:.3f} to {high:.3f}), width {cell['width']:.2f}, upper end"
        f" {cell['upper_end']:.2f}{mark}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="synthetic files of each cell")
    parser.add_argument("--parts", type=int, default=15, help="parts of each real file and cell")
    parser.add_argument("--data", type=Path, help="folder with the real files")
    parser.add_argument("--fresh", action="store_true", help="seeds that nothing was tried on")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of fits that stop before they have converged
    seed, start = FRESH if options.fresh else 0, time.monotonic()
    made = list(of_synthetic(options.times, seed))
    about = {"first_seed": seed, "times": options.times, "parts": options.parts}
    if options.write:  # a long run may be stopped before the real files are through
        write(made, [], about | {"seconds": round(time.monotonic() - start)})
    real = list(of_real(options.data, options.parts, seed)) if options.data else []
    about |= {"seconds": round(time.monotonic() - start)}
    if options.write:
        write(made, real, about)
    print(table(record(made, real, about)))


def write(made: Sequence[dict], real: Sequence[dict], about: dict) -> None:
    """Write the result as far as it is drawn."""
    text = json.dumps(record(made, real, about), indent=1)
    RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Overlap of training and held-out file: exact and near prompts, whole rows, and comparisons with
the opposite verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from accord.auditing import minhash
from accord.auditing.checks.integrity import SHOWN, mixed
from accord.auditing.checks.shortcuts import as_dict
from accord.auditing.findings import AuditFinding, Place, grade, out_of, percent
from accord.auditing.measure import COLUMN
from accord.auditing.otherwise import ask_otherwise
from accord.auditing.prompts import hashes, near_links, prompt_arrays
from accord.auditing.scan import BLOCK, Scan
from accord.auditing.thresholds import limit
from accord.errors import plural
from accord.evaluate.intervals import Estimate, clopper_pearson
from accord.types import Example

# measured on four real sets; see prompts.py
RECALL = (
    " About nine in ten prompts with one slip or with polite words are found, six to nine in ten"
    " with two slips; another wording of a short question is not."
)
MATERIAL = 30  # characters of sentences: fewer are a phrase that two people may well write
ANSWERS = 80  # characters of a row's answers: "yes" and "no" stand under many prompts
LONG_ANSWER = 200  # characters of each answer from which on near copies are looked for
CANNED = 2  # different prompts under which the same answers may stand before they are a form letter


@dataclass(frozen=True)
class Compared:
    """Keys and signatures of the rows of a file, to be compared; see the fields of `Scan`."""

    questions: np.ndarray  # [N] uint64
    prompt_signs: np.ndarray  # [N, BINS] uint16
    cores: np.ndarray  # [N] bytes
    asked: np.ndarray  # [N] uint64
    segments: np.ndarray  # [N, SEGMENTS] uint32
    segment_lengths: np.ndarray  # [N, SEGMENTS] uint16
    said: np.ndarray  # [N] bytes
    last_questions: np.ndarray  # [N, 2] uint64
    folded: np.ndarray  # [N, S] uint64
    answer_signs: np.ndarray  # [N, S, BINS] uint16
    characters: np.ndarray  # [N, S] float: length of each answer

    @classmethod
    def of_scan(cls, scan: Scan) -> Compared:
        names = [each.name for each in fields(cls) if each.name != "characters"]
        arrays = {name: getattr(scan, name) for name in names}
        return cls(**arrays, characters=scan.features[:, :, COLUMN["characters"]])

    @classmethod
    def of_examples(cls, examples: Sequence[Example]) -> Compared:
        """Compute what `scan` computes of rows that are in memory, and nothing else."""
        blocks = [_arrays(examples[at : at + BLOCK]) for at in range(0, len(examples), BLOCK)]
        return cls(**{name: np.concatenate([each[name] for each in blocks]) for name in blocks[0]})

    def take(self, rows: np.ndarray) -> Compared:
        """Return some rows, [N] bool or numbers."""
        return Compared(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def __len__(self) -> int:
        return len(self.questions)


def _arrays(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    texts = [text for example in examples for text in example.completions]
    normal = [minhash.normal(text) for text in texts]
    return prompt_arrays([example.prompt for example in examples]) | {
        "folded": hashes(normal).reshape(len(examples), -1),
        "answer_signs": minhash.signatures(normal).reshape(len(examples), -1, minhash.BINS),
        "characters": np.array([len(text) for text in texts], float).reshape(len(examples), -1),
    }


@dataclass(frozen=True)
class Leaks:
    """Held-out rows that are trained on, by the way in which they are, [M] bool each. A prompt
    counts once, where it comes first; answers count under every prompt but the same.
    """

    exact: np.ndarray
    near: np.ndarray
    contained: np.ndarray
    answers: np.ndarray

    @property
    def any(self) -> np.ndarray:
        return self.exact | self.near | self.contained | self.answers


def find_leaks(trained: Compared, held_out: Compared) -> Leaks:
    """Find the held-out rows that are trained on. Runs and audits use it."""
    exact = np.isin(held_out.questions, trained.questions)
    near = near_leaks(trained, held_out) & ~exact
    contained = contained_leaks(trained, held_out) & ~exact & ~near
    return Leaks(exact, near, contained, answer_leaks(trained, held_out) & ~exact)


def leakage(scan: Scan, held_out: Scan) -> list[AuditFinding]:
    """Check the held-out file against the training file."""
    leaks = find_leaks(Compared.of_scan(scan), Compared.of_scan(held_out))
    sides = "pair of answers" if scan.paired else "answer"
    says = {
        "exact": "have a prompt that is trained on",
        "near": "have a prompt that is nearly one that is trained on",
        "contained": "have a last turn, or the question in it, that is trained on with other text"
        " around it",
        "answers": f"have a {sides} that is trained on under another prompt",
    }
    found: list[AuditFinding] = []
    counted, cause = np.zeros(len(held_out), bool), ""
    for name, what in says.items():
        hit = getattr(leaks, name)
        # answers under a near copy of their prompt are one leak with it
        explained = cause if hit.any() and not (hit & ~counted).any() else ""
        found.append(_finding(name, held_out, hit, what, explained))
        cause = cause or (found[-1].check if hit.any() else "")
        counted |= hit
    if scan.paired and held_out.paired and (reversed_ := _reversed(scan, held_out)):
        found.append(reversed_)
    return found


def near_leaks(trained: Compared, held_out: Compared) -> np.ndarray:
    """Mark held-out rows whose prompt is a near copy of a training prompt, [M] bool.

    Prompts that are one form, filled in with different words, are no copies: if a word changes
    between two prompts of one file, then a changed word across the files says nothing either. Nor
    does another number, month or name; see `ask_otherwise`.
    """
    keys, signs, cores, said = (
        np.concatenate([getattr(each, name) for each in (trained, held_out)])
        for name in ("questions", "prompt_signs", "cores", "said")
    )
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    found = near_links(signs[first], cores[first])
    ours = first < len(trained)  # the others stand in the held-out file alone
    inside = ours[found.pairs[:, 0]] == ours[found.pairs[:, 1]]
    form = np.zeros(len(first), bool)
    form[found.pairs[inside & found.changed].ravel()] = True
    sure = ~found.changed | ~form[found.pairs].any(1)
    # a pair costs about 100 µs; two training prompts link no held-out row that is not linked
    asked = sure & ~ours[found.pairs].all(1)
    sure[asked] = ~ask_otherwise(said[first], found.pairs[asked])
    cluster = minhash.clusters(len(first), found.pairs[sure])
    return np.isin(cluster, cluster[ours])[group[len(trained) :]]


# ---------------------------------------------------------------- the last user turn


def contained_leaks(trained: Compared, held_out: Compared) -> np.ndarray:
    """Mark held-out rows whose last user turn is trained on behind other text, [M] bool.

    Either its words are those of a whole turn there, or the sentences and lines of one turn stand
    in the other. What many different prompts have says nothing.
    """
    first = np.unique(trained.questions, return_index=True)[1]
    own = np.unique(held_out.questions, return_index=True)[1]
    turns, counts = np.unique(trained.asked[first], return_counts=True)
    mine, often = np.unique(held_out.asked[own], return_counts=True)
    rare = np.setdiff1d(turns[counts <= _many(len(first))], mine[often > _many(len(own))])
    whole = np.isin(held_out.asked, rare[rare > 0])
    return whole | _by_sentences(trained, held_out, first, own)


def _many(prompts: int) -> int:
    """Return the number of different prompts above which what they share is no sign of a copy."""
    return int(np.clip(limit("generic") * prompts, 5, 50))


def _by_sentences(
    trained: Compared, held_out: Compared, first: np.ndarray, own: np.ndarray
) -> np.ndarray:
    known, counts = np.unique(trained.segments[first], return_counts=True)
    mine, often = np.unique(held_out.segments[own], return_counts=True)
    frequent = np.union1d(known[counts > _many(len(first))], mine[often > _many(len(own))])
    frequent = np.union1d(frequent, [0])
    shared = np.setdiff1d(np.intersect1d(known, mine), frequent)
    theirs, ours = (
        each.segment_lengths * ~np.isin(each.segments, frequent) for each in (held_out, trained)
    )
    match = np.isin(held_out.segments, shared)
    whole = [lengths.sum(1) for lengths in (theirs, ours)]
    rows: dict[int, set[int]] = {}
    for row, at in np.argwhere(np.isin(trained.segments[first], shared)).tolist():
        rows.setdefault(int(trained.segments[first[row], at]), set()).add(int(first[row]))
    out = np.zeros(len(held_out), bool)
    for row in np.flatnonzero((theirs * match).sum(1) >= MATERIAL).tolist():
        together: Counter[int] = Counter()
        for at in np.flatnonzero(match[row]).tolist():
            for other in rows[int(held_out.segments[row, at])]:
                together[other] += int(theirs[row, at])
        out[row] = any(
            common >= max(MATERIAL, limit("contained") * min(whole[0][row], whole[1][other]))
            and _ask_the_same(held_out.last_questions[row], trained.last_questions[other])
            for other, common in together.items()
        )
    return out


def _ask_the_same(one: np.ndarray, two: np.ndarray) -> bool:
    """Tell whether two turns share a question, or one of them has none."""
    return not (one.any() and two.any()) or bool(np.isin(one, two).any())


# ---------------------------------------------------------------- answers


def answer_leaks(trained: Compared, held_out: Compared) -> np.ndarray:
    """Mark held-out rows whose answers, all of them, are those of a training row, whatever the
    prompts, [M] bool. Answers of a few words and those that many prompts have say nothing.
    """
    if trained.folded.shape[1] != held_out.folded.shape[1]:
        return np.zeros(len(held_out), bool)
    keys = [_answers_key(each) for each in (trained, held_out)]
    canned = []
    for each, key in zip((trained, held_out), keys, strict=True):
        different = np.unique(np.stack([key, each.questions], 1), axis=0)[:, 0]
        values, counts = np.unique(different, return_counts=True)
        canned.append(values[counts > CANNED])
    telling = held_out.characters.sum(1) >= ANSWERS
    same = np.isin(keys[1], keys[0]) & ~np.isin(keys[1], np.concatenate(canned))
    short = same & telling & ~(held_out.characters >= LONG_ANSWER).all(1)
    if short.any():
        same &= ~(short & _filled_in(trained, held_out))
    return telling & (same | _nearly(trained, held_out, np.concatenate(canned), keys[0]))


def _filled_in(trained: Compared, held_out: Compared) -> np.ndarray:
    """Mark held-out rows whose answers are a form that others of either file fill in with other
    words, [M] bool: two questions may well have one of them.
    """
    signs, folded = (
        np.concatenate([getattr(each, name)[:, 0] for each in (trained, held_out)])
        for name in ("answer_signs", "folded")
    )
    pairs = minhash.links(np.ascontiguousarray(signs), limit("near_form"))
    form = np.zeros(len(signs), bool)
    form[pairs[folded[pairs[:, 0]] != folded[pairs[:, 1]]].ravel()] = True
    return form[len(trained) :]


def _answers_key(each: Compared) -> np.ndarray:
    """Hash the answers of each row, [N] uint64; exchanging two sides does not change it."""
    return mixed(*np.sort(each.folded, 1).T)


def _nearly(
    trained: Compared, held_out: Compared, canned: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Mark held-out rows with long answers that are nearly those of one training row, [M] bool.

    Answers that are alike within their own file are built alike (a letter, a table), and are left
    out: their likeness says nothing of training.
    """
    out = np.zeros(len(held_out), bool)
    long = [(each.characters >= LONG_ANSWER).all(1) for each in (trained, held_out)]
    long[0] &= ~np.isin(keys, canned)
    rows = [np.flatnonzero(mask) for mask in long]
    if not len(rows[0]) or not len(rows[1]):
        return out
    signs = np.concatenate([trained.answer_signs[rows[0]], held_out.answer_signs[rows[1]]])
    questions = np.concatenate([trained.questions[rows[0]], held_out.questions[rows[1]]])
    pairs = minhash.links(np.ascontiguousarray(signs[:, 0]), limit("near_form"))
    alike = minhash.similarities(signs, pairs)  # [m, S]
    n = len(rows[0])
    across = (pairs[:, 0] < n) & (pairs[:, 1] >= n)
    inside = pairs[~across & (questions[pairs[:, 0]] != questions[pairs[:, 1]])]
    form = np.zeros(len(signs), bool)
    form[inside.ravel()] = True
    close = across & (alike >= limit("near_jaccard")).all(1) & ~form[pairs].any(1)
    out[rows[1][pairs[close, 1] - n]] = True
    return out


def _finding(name: str, held_out: Scan, hit: np.ndarray, what: str, explained: str) -> AuditFinding:
    rows = np.flatnonzero(hit)
    share = len(rows) / len(held_out)
    return AuditFinding(
        f"leakage.{name}",
        "note" if explained else grade(share, limit("leak"), rows=len(rows)),
        f"{out_of(len(rows), len(held_out), 'held-out rows')} {what}",
        {"count": len(rows), "share": share},
        "split again, near copies of a prompt together" if len(rows) else "",
        title=f"Held-out leakage, {name}",
        why="Such rows measure memory: held-out accuracy is too high and the stop too late."
        + (RECALL if name == "near" else ""),
        command="accord split DATA --output split" if len(rows) else "",
        harm=0.0 if explained else share,
        places=tuple(Place(held_out.at(int(row)), what) for row in rows[:SHOWN]),
        explained_by=explained,
    )


def _reversed(scan: Scan, held_out: Scan) -> AuditFinding | None:
    """Measure on how many comparisons that both files hold the two disagree. The share is a
    measured noise rate.
    """
    keys = []
    for each in (scan, held_out):
        keys.append(
            (
                mixed(each.questions, each.folded[:, 0], each.folded[:, 1]),
                mixed(each.questions, each.folded[:, 1], each.folded[:, 0]),
            )
        )
    (ours, turned), (theirs, _) = keys
    same, other = np.isin(ours, theirs), np.isin(turned, theirs)
    both = np.flatnonzero(same | other)
    if not len(both):
        return None
    against = np.flatnonzero(other & ~same)
    n = len(both)
    share = Estimate(len(against) / n, *clopper_pearson(len(against) / n, n), n)
    verdict = "warning" if share.low > limit("noise") else "note" if len(against) else "ok"
    return AuditFinding(
        "labels.second_labelling",
        verdict,
        f"{plural(n, 'comparison stands', 'comparisons stand')} in both files; the two disagree"
        f" on {len(against):,}"
        f" ({percent(share.value)}, {percent(share.low)} to {percent(share.high)})",
        {"estimate": as_dict(share)},
        "settle them before training on either" if len(against) else "",
        title="Two labellings",
        why="Where one file is right, this is the other's share of flipped labels.",
        harm=2 * share.value,
        places=tuple(
            Place(
                scan.at(int(row)),
                "the other file ranks these two answers the other way round",
                int(row),
            )
            for row in against[:SHOWN]
        ),
    )

"""Near-duplicates: the estimate of similarity, what is found, what is not, and that order does not
matter.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from accord.auditing import minhash
from accord.auditing.minhash import (
    BINS,
    SHINGLE,
    clusters,
    links,
    normal,
    signatures,
    similarities,
    similarity,
)

WORDS = [f"word{i}" for i in range(500)]


def text(seed: int, length: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(length))


def jaccard(one: bytes, two: bytes) -> float:
    grams = [{t[i : i + SHINGLE] for i in range(len(t) - SHINGLE + 1)} for t in (one, two)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def test_similarity_estimates_jaccard():
    """Over 200 pairs of all degrees of likeness: mean error under .02, none beyond five standard
    errors.
    """
    pairs = []
    for seed in range(200):
        words = text(seed).split()
        for at in random.Random(seed).sample(range(60), seed % 20):
            words[at] = "changed"
        pairs.append((normal(text(seed)), normal(" ".join(words))))
    true = np.array([jaccard(*pair) for pair in pairs])
    signs = signatures([t for pair in pairs for t in pair])
    error = similarity(signs[::2], signs[1::2]) - true
    assert abs(error.mean()) < 0.02 and np.abs(error).max() < 5 * 0.5 / 8 and true.min() < 0.4


def test_a_text_alone_and_in_company():
    texts = [normal(text(i, 3 + 7 * i)) for i in range(20)]
    assert (signatures(texts) == np.concatenate([signatures([t]) for t in texts])).all()


def test_case_and_blanks_do_not_count():
    assert normal("A  b\n\tC and some more") == normal("a b c AND some more")
    assert len(normal("")) == SHINGLE


def test_short_and_empty_texts_have_signatures():
    signs = signatures([normal(t) for t in ("", "a", "b", "ab")])
    assert signs.shape == (4, 64) and (signs[1] != signs[2]).any()
    assert signatures([]).shape == (0, 64)


def test_links_find_copies_and_leave_the_rest():
    texts = [text(i) for i in range(300)] + [text(i) + " end" for i in range(30)] + [text(7)] * 100
    signs = signatures([normal(t) for t in texts])
    group = clusters(len(texts), links(signs, 0.8))
    assert all(group[i] == group[300 + i] for i in range(30)) and len(set(group)) == 300
    assert len(set(group[330:])) == 1


def test_links_stay_within():
    signs = signatures([normal(text(1))] * 4)
    found = links(signs, 0.8, within=np.array([0, 0, 1, 1]))
    assert found.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("seed", [0, 1])
def test_order_does_not_matter(seed):
    texts = [text(i % 40) + (" x" if i % 3 else "") for i in range(120)]
    order = np.random.default_rng(seed).permutation(120)
    both = []
    for each in (np.arange(120), order):
        normal_texts = [normal(texts[i]) for i in each]
        group = clusters(120, links(signatures(normal_texts), 0.8))
        both.append({frozenset(each[group == g].tolist()) for g in set(group)})
    assert both[0] == both[1]


@pytest.mark.parametrize("band", [3, 4])
@pytest.mark.parametrize("merged", [1, 1 << 21])
def test_links_are_the_pairs_found_by_comparing_in_each_band(band, merged, monkeypatch):
    """As the definition reads: of each run in a band, the first and the neighbour of each row."""
    monkeypatch.setattr(minhash, "MERGED", merged)
    draw = np.random.default_rng(0)
    signs = draw.integers(0, 9, (20, BINS)).astype(np.uint16)[draw.integers(0, 20, 120)]
    other = draw.integers(0, 9, signs.shape).astype(np.uint16)
    signs = np.where(draw.random(signs.shape) < 0.3, other, signs)
    wanted = set()
    for start in range(0, BINS - band + 1, band):
        runs: dict[bytes, list[int]] = {}
        for row in range(len(signs)):
            run = runs.setdefault(signs[row, start : start + band].tobytes(), [])
            wanted |= {(each, row) for each in run[:1] + run[-1:]}
            run.append(row)
    alike = {(i, j) for i, j in wanted if (signs[i] == signs[j]).mean() >= 0.5}
    found = links(signs, 0.5, band=band)
    assert sorted(alike) == [tuple(pair) for pair in found.tolist()] and len(alike) > 50
    parts = similarities(signs, found, chunk=7)
    np.testing.assert_array_equal(parts, similarity(signs[found[:, 0]], signs[found[:, 1]]))

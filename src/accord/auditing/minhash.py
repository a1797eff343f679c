"""Near-duplicate texts among millions: MinHash signatures in numpy, banded hashing, connected
components.

    text ──▶ character 8-grams ──▶ one hash each
        ──▶ the smallest in each of 64 bins ──▶ signature [64]

The share of bins in which two signatures agree estimates the Jaccard similarity of the two sets of
8-grams. One permutation serves all bins, and empty bins borrow from their neighbour. So a text
costs a few nanoseconds per byte.

Sources: Broder 1997 (MinHash); Li, Owen and Zhang 2012, arXiv:1208.1259 (one permutation);
Shrivastava and Li 2014, arXiv:1406.4784 (rotation for empty bins); Li and König 2010,
arXiv:0910.3349 (16 bits of each hash are enough).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BINS = 64
# bins in a band: texts that agree in one whole band are compared. 16 bands find a pair with J = .8
# with p = .9998
ROWS = 4
SHINGLE = 8  # bytes
MERGED = 1 << 21  # pairs that wait to be made one of each: 16 MB
READ = 1 << 16  # bytes of a text that are read; the rest does not count
EMPTY = np.uint32(0xFFFFFFFF)

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_STEP = 0x9E3779B1


def normal(text: str) -> bytes:
    """Normalise a text for comparison: lower case, one blank for each run of blanks, at least one
    shingle long.
    """
    return b" ".join(text[:READ].lower().encode("utf-8", "replace").split())[:READ].ljust(SHINGLE)


def signatures(texts: Sequence[bytes]) -> np.ndarray:
    """Compute MinHash signatures of normalised texts, [n, BINS] uint16."""
    if not texts:
        return np.zeros((0, BINS), np.uint16)
    grams, owner, _ = shingles(texts)
    return signatures_of(grams, owner, len(texts))


def signatures_of(grams: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Compute the signatures of n texts from their shingles' hashes, [n, BINS] uint16."""
    low = np.full(n * BINS, EMPTY)
    np.minimum.at(
        low, owner * BINS + (grams >> np.uint64(58)).astype(np.int64), grams.astype(np.uint32)
    )
    return _filled(low.reshape(-1, BINS)).astype(np.uint16)


def shingles(
    texts: Sequence[bytes], width: int = SHINGLE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash every run of `width` bytes of texts that are at least so long.

    Returns:
      hashes, the number of the text of each, and where each begins in the joined texts, [m] each.
    """
    lengths = np.array([len(text) for text in texts])
    grams = _hash_runs(np.frombuffer(b"".join(texts), np.uint8), width)
    owner = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)[: len(grams)]
    inside = np.ones(len(grams), bool)
    for end in np.cumsum(lengths)[:-1]:
        inside[end - width + 1 : end] = False  # these would reach into the next text
    start = np.flatnonzero(inside)
    return grams[start], owner[start], start


def _hash_runs(buffer: np.ndarray, width: int) -> np.ndarray:
    """Compute a mixed 64-bit hash of each run of `width` bytes."""
    grams = _polynomials(buffer, width)
    grams ^= grams >> np.uint64(32)
    grams *= _MIX
    grams ^= grams >> np.uint64(29)
    grams *= _MIX
    return grams


def _polynomials(buffer: np.ndarray, width: int) -> np.ndarray:
    """Compute the polynomial of each run of bytes in the base, from those of its halves."""
    if width == 1:
        return buffer.astype(np.uint64)
    half = width // 2
    parts = _polynomials(buffer, half)
    grams = parts[:-half] * np.uint64(pow(int(_BASE), half, 2**64)) + parts[half:]
    return grams[:-1] * _BASE + buffer[width - 1 :] if width % 2 else grams


def _filled(low: np.ndarray) -> np.ndarray:
    """Fill each empty bin with the value of the next bin that has one, marked with the distance."""
    out = low.copy()
    for distance in range(1, BINS):
        empty = out == EMPTY
        if not empty.any():
            break
        donor = np.roll(low, -distance, 1)
        take = empty & (donor != EMPTY)
        out[take] = (donor + np.uint32(distance * _STEP % 2**32))[take]
    return out


def similarity(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Estimate the Jaccard similarity of signatures [..., BINS], row by row."""
    return (one == two).mean(-1)


def links(
    signs: np.ndarray, threshold: float, within: np.ndarray | None = None, band: int = ROWS
) -> np.ndarray:
    """Find pairs (i, j) of near-duplicate rows, [m, 2]. The caller takes the transitive closure.

    Rows of different `within` [n] are never compared. `band` is the number of bins in a band, at
    most 4: fewer find less similar pairs, at the price of more comparisons.

    In each band, rows are sorted by their bins. Each row is compared only with the first of
    its run and with its neighbour, so that a thousand copies cost a thousand comparisons.
    """
    # both numbers of a pair in one: a million rows give 10^7 pairs, most of them in many bands
    found: np.ndarray = np.zeros(0, np.uint64)
    new: list[np.ndarray] = []
    for start in range(0, BINS - band + 1, band):
        key = np.zeros(len(signs), np.uint64)
        for column in range(start, start + band):
            key = (key << np.uint64(16)) | signs[:, column].astype(np.uint64)
        if within is not None:
            key = (key ^ within.astype(np.uint64) * _MIX) * _BASE
        order = np.argsort(key, kind="stable")
        same = key[order][1:] == key[order][:-1]
        if not same.any():
            continue
        position = np.arange(len(order))
        leader = np.maximum.accumulate(np.where(np.r_[True, ~same], position, 0))
        later = np.flatnonzero(np.r_[False, same])
        for other in (leader[later], later - 1):
            pairs = np.stack([order[other], order[later]], 1)
            pairs = np.sort(pairs[similarities(signs, pairs) >= threshold], 1).astype(np.uint64)
            new.append(pairs[:, 0] << np.uint64(32) | pairs[:, 1])
            if sum(map(len, new)) > max(MERGED, len(found)):
                found, new = np.unique(np.concatenate([found, *new])), []
    found = np.unique(np.concatenate([found, *new]))
    return np.stack([found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)], 1).astype(np.int64)


def similarities(signs: np.ndarray, pairs: np.ndarray, chunk: int = 1 << 18) -> np.ndarray:
    """Estimate the similarity of each pair of rows [m, 2] of signatures [n, ..., BINS], a part at a
    time, [m, ...].
    """
    out = np.zeros((len(pairs), *signs.shape[1:-1]))
    for at in range(0, len(pairs), chunk):
        part = pairs[at : at + chunk]
        out[at : at + chunk] = similarity(signs[part[:, 0]], signs[part[:, 1]])
    return out


def clusters(n: int, pairs: np.ndarray) -> np.ndarray:
    """Number the connected components; return the number of each row's component, [n]."""
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]

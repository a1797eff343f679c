"""Prompts and answers in each other's columns.

How a prompt begins and ends is learnt from the file itself: a classifier of first and last words,
cross-fitted by prompt, tells prompts from answers. In a row whose texts were exchanged it says the
opposite of both. Where the whole file is exchanged, it has nothing to say; then question marks and
first words of questions do, and only if they are clear.

n rows of the sample.
"""

from __future__ import annotations

import re

import numpy as np
from scipy import sparse

from accord.auditing.checks.integrity import places
from accord.auditing.checks.parts import heaviest
from accord.auditing.checks.probes import FOLDS, fit_linear, fold_of
from accord.auditing.findings import AuditFinding, out_of
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit

CHECK = "integrity.swapped_texts"
FEWEST = 60  # rows, and half as many prompts: fewer teach no classifier
FEWEST_HIT = 5
HASHED = 1 << 16
ENDS = 200  # characters at each end of a text that are read
STRENGTH = 1.0
SURE = 0.5  # log-odds of both texts together in favour of the other's column

ORDERING = (
    "write|give|explain|tell|list|describe|create|make|find|generate|summari[sz]e|translate"
    "|classify|rewrite|suggest|provide|compare|identify|design|develop"
)
ORDERS = re.compile(rf"\s*(?:please\s+)?(?:{ORDERING})\b", re.IGNORECASE)
ASKS = re.compile(
    r"\s*(?:what|who|whom|whose|when|where|why|how|which|can|could|do|does|did|is|are|should|would"
    rf"|will|was|please|{ORDERING}|wer|wie|warum|wann|wo|welche[rsn]?|kann|qu[eé]|qui[eé]n|c[oó]mo"
    r"|cu[aá]l|d[oó]nde|quel(?:le)?s?|comment|pourquoi|quand)\b",
    re.IGNORECASE,
)
QUESTION = ("?", "？", "؟")


def swapped_findings(scan: Scan, seed: int) -> list[AuditFinding]:
    """Find rows, or a whole file, whose prompt and answer stand in each other's columns."""
    if len(scan.sample) < FEWEST or len(np.unique(scan.groups[scan.sample_rows])) < FEWEST // 2:
        return []
    prompts = [each.example.prompt[-1].content for each in scan.sample]
    names = ("chosen", "rejected") if scan.paired else ("answer",)
    columns = [[each.example.completions[at] for each in scan.sample] for at in range(len(names))]
    asking = np.array([_asks(text) for text in prompts])
    found = []
    for name, column in zip(names, columns, strict=True):
        asks = np.array([_asks(text) for text in column])
        whole = _whole(prompts, column)
        hit = np.ones(len(prompts), bool) if whole else _rows(scan, prompts, column, seed)
        # learnt from the file, and seen: the answers ask and the prompts do not
        if hit is None or asks[hit].mean() < limit("swapped_asks"):
            continue
        if asks[hit].mean() - asking[hit].mean() < limit("swapped_gap"):
            continue
        found.append(_finding(scan, name, hit))
    return found


def _asks(text: str) -> bool:
    return text.rstrip()[-3:].rstrip("\"'”)").endswith(QUESTION) or bool(ASKS.match(text[:ENDS]))


def _whole(prompts: list[str], answers: list[str]) -> bool:
    """Tell whether many texts of a column ask and order, and hardly a prompt does. An answer may
    ask back; it does not begin with "Write" or "Explain".
    """
    asking, asks = (np.mean([_asks(text) for text in texts]) for texts in (prompts, answers))
    ordering, orders = (
        np.mean([bool(ORDERS.match(text[:ENDS])) for text in texts]) for texts in (prompts, answers)
    )
    few = limit("swapped_few")
    return bool(
        asks >= limit("swapped_whole") and orders >= few and max(asking, 4 * ordering) <= few
    )


def _rows(scan: Scan, prompts: list[str], answers: list[str], seed: int) -> np.ndarray | None:
    """Return the rows whose two texts are each judged to be of the other column, [n] bool."""
    n = len(prompts)
    folds = fold_of(scan.groups[scan.sample_rows], seed)
    table = _table([*prompts, *answers])
    is_prompt = np.arange(2 * n) < n
    both = np.concatenate([folds, folds])
    odds = np.zeros(2 * n)
    for fold in range(FOLDS):
        train, test = both != fold, both == fold
        if test.any():
            fit = fit_linear(table[train], is_prompt[train], STRENGTH, True)
            odds[test] = fit.decision_function(table[test])
    of_prompt, of_answer = odds[:n], odds[n:]
    wrong_prompt, wrong_answer = of_prompt < 0, of_answer > 0
    hit = wrong_prompt & wrong_answer & (of_answer - of_prompt > SURE)
    # errors of a classifier fall on either text alone; an exchange falls on both
    either = min(wrong_prompt.sum(), wrong_answer.sum())
    if hit.sum() < FEWEST_HIT or hit.sum() < limit("swapped_both") * either:
        return None
    if hit.mean() >= limit("swapped_rows"):
        return hit
    start, end = heaviest(hit - 0.5)
    run = np.zeros(n, bool)
    run[start:end] = hit[start:end]
    return run if run.sum() >= 2 * FEWEST_HIT else None


def _table(texts: list[str]) -> sparse.csr_matrix:
    """Hash the words at both ends of texts, marked by where they stand."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=HASHED, analyzer=_tokens, alternate_sign=False, norm="l2"
    ).transform(texts)


_WORD = re.compile(r"\w+|[^\w\s]")


def _tokens(text: str) -> list[str]:
    first = _WORD.findall(text[:ENDS].lower())
    last = _WORD.findall(text[-ENDS:].lower())
    tokens = [f"^{at} {word}" for at, word in enumerate(first[:2])]
    tokens += [f"^^ {' '.join(first[:2])}", f"$ {last[-1] if last else ''}"] * 2
    return tokens + sorted({*first[:20], *last[-10:]})


def _finding(scan: Scan, name: str, hit: np.ndarray) -> AuditFinding:
    rows = scan.sample_rows[hit]
    share = float(hit.mean())
    of = "answers" if name == "answer" else f"{name} answers"
    counted = out_of(len(rows), len(hit), f"{of}{'' if scan.whole else ' of a sample'}")
    return AuditFinding(
        CHECK,
        "refused" if share >= limit("belonging_unfit") else "warning",
        f"{counted} read like prompts, and their prompts like answers: the two stand in each"
        " other's columns",
        {"count": len(rows), "share": share, "side": name, "whole": bool(hit.all())},
        "put each text back into its column"
        + (f" (--columns prompt={name},{name}=prompt)" if hit.all() and scan.paired else ""),
        title="Prompt and answer exchanged",
        why="The model learns to ask what it should answer.",
        harm=share,
        places=places(scan, rows, "its prompt reads like an answer, its answer like a prompt"),
    )

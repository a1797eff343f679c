"""Amount and variety of the data: number of rows, the gain from more rows, topics of the prompts,
lengths.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from accord.auditing.checks.probes import Probes
from accord.auditing.checks.shortcuts import as_dict
from accord.auditing.findings import AuditFinding, percent
from accord.auditing.measure import COLUMN
from accord.auditing.prompts import prompt_text
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.auditing.verdict import size_word
from accord.errors import plural

TOPICS = 20
CLUSTERED = 4_000  # prompts that are sorted into topics
TOKEN = 4.0  # characters, roughly, where no tokenizer is at hand
LIMITS = (512, 1024, 2048)
SIZES = {
    "small": (f"under {limit('few_pairs'):,.0f}, DPO and its kin overfit within an epoch or two"),
    "very small": (
        f"under {limit('very_few_pairs'):,.0f}, no difference on held-out rows will be significant"
    ),
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
COMMON = frozenset(
    "the a an of and or to in is are was were be been it that this for with on as at by from what"
    " how why who which when where do does did you your i my me we our they their can could would"
    " should will about not no if user assistant system have has had he she his her them there"
    " please some any write tell give following".split()
)


def size(scan: Scan, probes: Probes | None) -> AuditFinding:
    """Note a file of fewer than a few thousand pairs, and tell from the probe's learning curve what
    more pairs would bring. The amount is no fault: it stands beside the verdict.
    """
    n, prompts = len(scan), len(np.unique(scan.questions))
    word = size_word(n)
    says = plural(n, scan.noun[:-1]) + (f" of {prompts:,} prompts" if prompts < n else "")
    if word:
        says += f", {word}: {SIZES[word]}"
    evidence: dict = {"n": n, "prompts": prompts}
    if probes is not None:
        (half, before), (whole, after) = probes.curve[-2:]
        gain = after.value - before.value
        noise = (after.high - after.low) / 4  # a standard error, roughly; the two share their rows
        grows = "still grows: more data would help" if gain > noise else "is flat between them"
        says += (
            f"; a linear probe reaches {before.value:.3f} from {plural(half, 'row')} and"
            f" {after.value:.3f}"
            f" from {whole:,}, and {grows}"
        )
        evidence |= {
            "curve": [{"rows": rows, **as_dict(each)} for rows, each in probes.curve],
            "gain_of_doubling": gain,
        }
    return AuditFinding(
        "diversity.size",
        "note" if word else "ok",
        says,
        evidence,
        (
            "one epoch, and a stop by held-out rows"
            if prompts > 1
            else "rows of other prompts: of one prompt none can be held out"
        )
        if word
        else "",
        title="Number of rows",
        why="Few rows are learnt by heart: the margin grows and nothing carries over.",
        harm=0.3 * max(0.0, 1 - n / limit("few_pairs")),
        aspect="size",
    )


def topics(scan: Scan, seed: int = 0) -> AuditFinding | None:
    """Find topics of the prompts by k-means on TF-IDF of words, and how evenly the topics are
    filled.
    """
    texts = _distinct_prompts(scan)
    if len(texts) < 5 * TOPICS:
        return None
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        table = TfidfVectorizer(
            max_features=20_000, min_df=2, max_df=0.3, sublinear_tf=True
        ).fit_transform(texts)
    except ValueError:  # no word stands in two prompts
        return None
    labels = MiniBatchKMeans(TOPICS, random_state=seed, n_init=3, batch_size=1024).fit_predict(
        table
    )
    sizes = np.bincount(labels, minlength=TOPICS) / len(labels)
    effective = float(np.exp(-(sizes[sizes > 0] * np.log(sizes[sizes > 0])).sum()))
    order = np.argsort(-sizes)[:8]
    words = [set(re.findall(r"[^\W\d_]{3,}", text.lower())) - COMMON for text in texts]
    named = {_name(words, labels, cluster): float(sizes[cluster]) for cluster in order}
    largest = float(sizes.max())
    verdict = "note" if largest > limit("dominant_cluster") else "ok"
    return AuditFinding(
        "diversity.topics",
        verdict,
        f"{effective:.1f} effective topics of {TOPICS} ({plural(len(texts), 'prompt')}, k-means"
        " on words);"
        f" the largest holds {percent(largest)}",
        {"effective": effective, "largest": largest, "topics": named, "prompts": len(texts)},
        "add prompts of the kind that the model will meet" if verdict != "ok" else "",
        title="Topics of the prompts",
        why="What is learnt from narrow prompts need not hold elsewhere.",
        harm=0.1 * largest if verdict != "ok" else 0.0,
    )


def _distinct_prompts(scan: Scan) -> list[str]:
    """Return texts of sampled prompts, one from each cluster of near copies."""
    _, first = np.unique(scan.groups[scan.sample_rows], return_index=True)
    return [
        prompt_text(scan.sample[at].example.prompt)[-2_000:] for at in np.sort(first)[:CLUSTERED]
    ]


def _name(texts: list[set[str]], labels: np.ndarray, cluster: int) -> str:
    """Name a topic by its three most distinctive words: those whose frequency is highest relative
    to all prompts.
    """
    inside: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for words, label in zip(texts, labels, strict=True):
        (inside if label == cluster else outside).update(words)
    most = sorted(
        inside, key=lambda word: (-(inside[word] ** 2) / (inside[word] + outside[word]), word)
    )
    return " · ".join(most[:3]) or "short prompts"


def lengths(scan: Scan) -> AuditFinding:
    """Measure lengths in characters of prompts and of both sides, and the cost of a limit in tokens
    at four characters per token.
    """
    answers = scan.features[:, :, COLUMN["characters"]]
    names = ("chosen", "rejected") if scan.paired else ("completion",)
    sides = {"prompt": scan.prompt_characters} | {
        name: answers[:, at] for at, name in enumerate(names)
    }
    table = {
        name: [int(v) for v in np.quantile(values, QUANTILES)] for name, values in sides.items()
    }
    longest = scan.prompt_characters + answers.max(1)
    lost = {str(most): float((longest > most * TOKEN).mean()) for most in LIMITS}
    says = "median characters: " + ", ".join(
        f"{name} {values[2]:,}" for name, values in table.items()
    )
    if scan.paired:
        longer = float(
            (answers[:, 0] > answers[:, 1]).mean() + 0.5 * (answers[:, 0] == answers[:, 1]).mean()
        )
        says += f"; the chosen answer is the longer one in {percent(longer)}"
    says += (
        "; over a limit of "
        + ", ".join(f"{most} tokens {percent(share)}" for most, share in lost.items())
        + " (at 4 characters a token)"
    )
    default = lost[str(LIMITS[1])]
    return AuditFinding(
        "lengths.characters",
        "note" if default > limit("too_long") else "ok",
        says,
        {
            "quantiles": list(QUANTILES),
            "characters": table,
            "over_limit": lost,
            "histogram": _histograms(sides),
        },
        "raise the length limit, or drop the longest rows" if default > limit("too_long") else "",
        title="Lengths",
        why=(
            f"At the default of {LIMITS[1]:,} tokens these rows would be left out, and training"
            f" refuses from {percent(limit('too_long'))}."
        ),
        command=f"--set data.max_tokens={LIMITS[2]}" if default > limit("too_long") else "",
        harm=0.5 * default,
    )


def _histograms(sides: dict[str, np.ndarray]) -> dict:
    """Count lengths over powers of √2 of characters, for figures."""
    edges = np.round(2 ** np.arange(2, 16.5, 0.5)).astype(int)
    return {
        "edges": edges.tolist(),
        **{
            name: np.histogram(np.clip(values, 4, edges[-1] - 1), edges)[0].tolist()
            for name, values in sides.items()
        },
    }

"""A reward whose truth is known: VADER's compound sentiment of a text. The demonstration uses it,
and so does the reward `vader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accord.environment.installing import install_line
from accord.types import UsageError


def compound(texts: Iterable[str]) -> list[float]:
    """Compute how positive each text is, from -1 to 1. A text without any word of VADER's lexicon
    gets 0.

    Source: Hutto and Gilbert 2014, "VADER: a parsimonious rule-based model for sentiment analysis",
    ICWSM.

    Raises:
      UsageError: the package vaderSentiment is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise UsageError(
            "Scoring sentiment needs the package vaderSentiment, which is not installed.\n"
            f"Install it with: {install_line('vaderSentiment')}"
        ) from error
    analyzer = SentimentIntensityAnalyzer()
    return [analyzer.polarity_scores(text)["compound"] for text in texts]


def vader(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Compute how positive each answer is, from -1 to 1. The prompts are not read."""
    return compound(answers)

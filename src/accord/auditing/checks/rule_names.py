"""Words for the one-feature rules: “fewer digits”, “no refusal”."""

from __future__ import annotations

from accord.auditing.measure import FEATURES

# What the better answer has by the rule "more", and by the rule "less". Others are counted.
WORDS = {
    "bold": ("more bold text", "less bold text"),
    "non-ASCII": ("more non-ASCII characters", "fewer non-ASCII characters"),
    "refusal": ("a refusal", "no refusal"),
    "apology": ("an apology", "no apology"),
    "obliging opener": ("an obliging opener", "no obliging opener"),
    "complete ending": ("a complete ending", "an incomplete ending"),
    "in the prompt's language": (
        "the language of the prompt",
        "another language than the prompt's",
    ),
}
TITLES = {"in the prompt's language": "language", "non-ASCII": "non-ASCII characters"}


def rule_name(feature: str, direction: str) -> str:
    """Name a rule by what the better answer has.

    Args:
      feature: one of FEATURES.
      direction: "more" or "less".
    """
    assert feature in FEATURES
    more, less = WORDS.get(feature, (f"more {feature}", f"fewer {feature}"))
    return more if direction == "more" else less


def rule_title(feature: str) -> str:
    """Name the feature of a rule for a title."""
    return TITLES.get(feature, feature)

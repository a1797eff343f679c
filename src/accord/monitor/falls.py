"""Remedies for chosen answers that fall, in words for the method that a run trains."""

from __future__ import annotations

from accord.monitor.history import History

# What pulls a falling chosen answer harder in a method that holds it, by its closed form.
STRONGER = {
    "rpo": "a higher objective.alpha, or ",
    "dpop": "a higher objective.penalty, or ",
    "apo_zero": "--method dpop or sppo_hard, whose pull does not fade as it falls, or ",
    "sft": "a larger weight of sft, or ",
}


def against_a_fall(h: History) -> str:
    """Say what holds chosen answers here: of a run that has such a method already, what in it is
    stronger.
    """
    facts, usual = h.facts, "a lower learning rate"
    if facts.holds:
        said = "; ".join(f"{name} {what}" for name, what in facts.holds.items())
        more = "".join(STRONGER.get(name, "") for name in facts.holds)
        return f"{said}, and it falls all the same: {more}{usual}"
    beta = "a higher beta, or " * ("beta" in facts.options)
    if not facts.holding:
        return "--method ipo, or " * (facts.pairs and facts.objective != "ipo") + beta + usual
    # ipo holds nothing: in the playground's preset it lost more than dpo (results/remedies.json)
    return (
        "a loss that pulls the chosen answer by itself: --method"
        f" {', '.join(facts.holding)} (accord methods says what each is for);"
        f" {beta.replace(',', '')}{usual} slows the fall"
    )

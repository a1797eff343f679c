"""Is a model that is measured the one that was saved? What training would refuse is said here: the
figures of a broken model look like those of a weak one.
"""

from __future__ import annotations

from collections.abc import Sequence

from accord.models.language import LanguageModel
from accord.models.model_checks import findings_without_rows
from accord.types import Finding, Refused, Tree
from accord.verify.row_lengths import position_findings

# Permitted while training, by name; a measurement says them and goes on.
PERMITTED = ("model.language", "model.layers")


def soundness(model: LanguageModel) -> tuple[str, ...]:
    """Return what should be known of a model before its figures are believed, in words.

    Raises:
      Refused: no figure would mean anything: weights that are not finite, ids without an embedding,
        attention that looks ahead.
    """
    found = findings_without_rows(model)
    broken = [one for one in found if one.refused and one.check not in PERMITTED]
    if broken:
        raise Refused("Not measured, since no figure would mean anything.\n" + _lines(broken))
    told = [one for one in found if one.refused or one.verdict == "warning"]
    return tuple(f"{one.check}: {one.says}" for one in told)


def lengths(model: LanguageModel, trees: Sequence[Tree]) -> tuple[str, ...]:
    """Return what should be known of rows that are longer than the model's positions, in words.

    Raises:
      Refused: the model has no numbers for them, or other ones in every pass.
    """
    found = position_findings(model, trees, "rows", permitted=True)
    broken = [one.says for one in found if one.refused]
    if broken:
        raise Refused(
            "\n".join(("Not measured, since no figure would mean anything.", *broken))
            + "\n  what to do: leave these rows out of the file, or shorten them"
        )
    return tuple(one.says.removesuffix(", as permitted") for one in found if one.verdict == "note")


def _lines(findings: list[Finding]) -> str:
    return "\n".join(f"{one.check}: {one.says}\n  what to do: {one.remedy}" for one in findings)

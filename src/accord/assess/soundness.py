"""Questions to a model before it is measured. Training would refuse some of the answers; they are
said here, since the figures of a broken model look like those of a weak one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.errors import plural
from accord.models.language import LanguageModel
from accord.models.likelihood import language_finding
from accord.models.model_checks import findings_of_weights
from accord.types import Finding, Refused, Tree
from accord.verify.row_lengths import growth_finding, position_findings

FEWEST, ALIKE = 8, 4  # rows of a measurement; rows to one prompt, from which on it is said
# Permitted while training, by name; a measurement says them and goes on.
PERMITTED = ("model.language", "model.layers")


@dataclass(frozen=True)
class Soundness:
    """The knowledge of a model that belongs before its figures, in words."""

    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def soundness(model: LanguageModel) -> Soundness:
    """Ask a model what training asks of it.

    Raises:
      Refused: no figure would mean anything: weights that are not finite, ids without an embedding,
        attention that looks ahead.
    """
    found = findings_of_weights(model)
    broken = [one for one in found if one.refused and one.check not in PERMITTED]
    if broken:
        raise Refused("Not measured, since no figure would mean anything.\n" + _lines(broken))
    loud = [one for one in found if one.refused or one.verdict == "warning"]
    quiet = [one for one in found if one.verdict == "note"]
    warnings, notes = (tuple(f"{one.check}: {one.says}" for one in told) for told in (loud, quiet))
    return Soundness(warnings, notes)


def language(model: LanguageModel, trees: Sequence[Tree]) -> Soundness:
    """Compare what the model gives these rows, and plain English, with what a model gives that
    knows nothing. Rows in a language that only this model speaks settle it as well.
    """
    found = language_finding(model, trees)
    said = (f"{found.check}: {found.says}",)
    if found.verdict == "ok":
        return Soundness((), ())
    return Soundness((), said) if found.verdict == "note" else Soundness(said, ())


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


def growth(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple[str, ...]:
    """Return what should be known of answers that grow over the length at which longrope changes
    its angles, in words: those that are drawn behind it are not the model's own.
    """
    found = growth_finding(model, prompts, max_new_tokens)
    return tuple(f"{one.says}; draw fewer tokens" for one in found if one.refused)


def few_rows(trees: Sequence[Tree]) -> tuple[str, ...]:
    """Return, in words, where the rows are too few or too much alike to tell anything."""
    rows, prompts = len(trees), len({tree.prompt for tree in trees})
    if rows < FEWEST:
        return (f"{rows} rows are too few to measure a model on: the intervals are the answer",)
    if prompts * ALIKE <= rows:
        return (
            f"{plural(rows, 'row repeats', 'rows repeat')} {plural(prompts, 'distinct prompt')},"
            " so the"
            " figures are of"
            f" {plural(prompts, 'observation')}",
        )
    return ()


def _lines(findings: list[Finding]) -> str:
    return "\n".join(f"{one.check}: {one.says}\n  what to do: {one.remedy}" for one in findings)

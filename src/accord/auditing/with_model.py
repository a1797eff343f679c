"""Checks that need a model: tokens of every row, hardness of a sample."""

from __future__ import annotations

from accord.auditing.checks.hardness import ROWS, hardness_findings, read_rows
from accord.auditing.checks.tokens import token_findings, tokenise
from accord.auditing.findings import AuditFinding
from accord.auditing.scan import Scan
from accord.data.containers import Source
from accord.data.templates import make_template
from accord.models.load import load


def model_findings(
    scan: Scan, source: Source, name: str, rows: int | None, seed: int, say
) -> list[AuditFinding]:
    """Build the findings on tokens and hardness.

    Args:
      name: "smollm2" or a folder.
      rows: how many of the sampled rows the model reads; None is `hardness.ROWS`.

    Raises:
      UsageError: no such model.
      Refused: it has no chat template.
    """
    say(f"loading {name}")
    model = load(name)
    template = make_template(model.tokenizer, "auto", generation_eos=model.stop_ids)
    say("tokens of every row")
    tokens = tokenise(source, scan, template, say)
    found = token_findings(scan, tokens, template)
    if not tokens.lengths:
        return found
    most = min(rows or ROWS, len(scan.sample))
    say(f"reading {most:,} of {len(scan):,} rows with the model")
    return found + hardness_findings(scan, read_rows(scan, model, template, most, seed, say))

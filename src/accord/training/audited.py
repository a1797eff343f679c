"""The file audit.json: what an audit of a run's own training rows found, for its report.

The audit looks at no more than `monitor.audit_rows` of them, so that its cost does not grow with
the file. The checks of data.* in preflight.json have already looked at every row.
"""

from __future__ import annotations

from accord.auditing.run import Audit, audit_rows
from accord.runs.files import write_json
from accord.runs.folder import RunFolder
from accord.training.prepared import PreparedRun
from accord.types import Finding

NAME = "audit.json"
VERDICTS = {"fit": "ok", "fit with care": "note", "unfit": "warning"}


def write_audit(ready: PreparedRun, folder: RunFolder) -> list[Finding]:
    """Audit the training rows and keep what was found; return one line of it.

    Prompts that have no answers yet give nothing.
    """
    most, dataset = ready.config.monitor.audit_rows, ready.source.dataset()
    if not most or dataset is None:
        return []
    found = audit_rows(dataset, ready.learner.objective.rows, most, ready.config.train.seed)
    # without the time that it took: a resumed run leaves the same bytes
    kept = {name: value for name, value in found.as_dict().items() if name != "seconds"}
    write_json(folder.path / NAME, kept | {"of": len(dataset)})
    return [finding(found, len(dataset))]


def finding(audit: Audit, rows: int) -> Finding:
    """Put the audit in a line: what was looked at, the verdict, and its reasons."""
    looked = (
        f"{len(audit.scan):,} of {rows:,} rows, drawn by prompt"
        if len(audit.scan) < rows
        else f"all {rows:,} rows"
    )
    worst = [each.title for each in audit.raised if each.verdict == audit.raised[0].verdict]
    says = f"audit of {looked}: {audit.verdict}" + (f" ({'; '.join(worst)})" if worst else "")
    remedy = f"accord audit {audit.scan.name}" if audit.verdict != "fit" else ""
    evidence = {
        "rows": len(audit.scan),
        "of": rows,
        "raised": [each.check for each in audit.raised],
    }
    return Finding("data.audit", VERDICTS[audit.verdict], says, evidence, remedy)

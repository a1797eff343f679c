"""Audit a file with known mistakes, and clean it.

Shows: what `accord audit` finds when you know what is there; `--fix` leaves out what is safe to
leave out and says where it went. Takes: seconds; no model. Expect: duplicates and contradictions
found, the cleaned file shorter by the rows that were spoiled. On the command line: accord audit
FILE --fix cleaned.jsonl
"""

import json
from pathlib import Path

from settings import TRAIN, fresh

import accord

rows = [json.loads(line) for line in Path(TRAIN).read_text(encoding="utf-8").splitlines()]
copied = rows[:4]
contradicted = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[4:7]]
blank = [{**rows[7], "chosen": "  "}]

# rows in memory are audited as their file would be
found = accord.audit(rows + copied + contradicted + blank, fix=fresh("cleaned.jsonl"))
print(f"verdict: {found.verdict}")
for finding in found.raised:  # ordered by harm
    print(f"  {finding.verdict:<8} {finding.check}: {finding.says}")

print("\n".join(found.cleaned.lines()))

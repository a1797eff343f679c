"""KTO from labels: answers marked good or bad one at a time, as thumbs under a chat give them.

Shows: no pairs are needed; how to weigh labels that are not balanced (weight × count of good is 1
to 1.5 of that of bad). Takes: about 2 minutes. Expect: `kl`, KTO's baseline z0, is 0 at the first
update and at least 0 at all others.
"""

import json
from pathlib import Path

from settings import MODEL, STEPS, TRAIN, fresh

import accord

rows = [json.loads(line) for line in Path(TRAIN).read_text(encoding="utf-8").splitlines()]
labels = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in rows]
# half as many
labels += [
    {"prompt": row["prompt"], "completion": row["rejected"], "label": False} for row in rows[::2]
]

result = accord.train(
    model=MODEL,
    data=labels,  # rows in memory; the run keeps them in its folder
    method="kto",
    beta=0.1,
    undesirable_weight=2.0,  # twice, since there are half as many
    steps=STEPS,
    batch_size=16,
    output=fresh("kto-labels"),
)
lines = map(json.loads, (result.folder / "metrics.jsonl").read_text().splitlines())
print("z0:", [round(line["kl"], 4) for line in lines if "kl" in line])

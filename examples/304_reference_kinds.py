"""What the policy is measured against: four kinds of reference, one model.

Shows: adapters switched off, a frozen copy and cached log-probs are the same reference at different
cost, so the losses agree up to rounding; a moving one follows the policy (TR-DPO). Takes: about 6
minutes. Expect: the first three lines alike; the fourth apart once the reference has moved.
"""

import json

from settings import MODEL, STEPS, TRAIN, fresh

import accord

for kind in ("adapter_off", "frozen", "cached", "moving"):
    moving = {"moving.every": max(1, STEPS // 2), "moving.mix": 0.6} if kind == "moving" else {}
    result = accord.train(
        model=MODEL,
        data=TRAIN,
        reference=kind,
        steps=STEPS,
        batch_size=8,
        dtype="float32",
        output=fresh(f"reference-{kind}"),
        set={"monitor.samples": 0, **moving},
    )
    losses = [
        json.loads(line).get("loss")
        for line in (result.folder / "metrics.jsonl").read_text().splitlines()
    ]
    print(f"{kind:<12} last loss {[loss for loss in losses if loss is not None][-1]:.6f}")

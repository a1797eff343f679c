"""Every method in turn on one file.

Shows: one data type and one loop; pairs serve as labels for KTO and as demonstrations for SFT; what
β means for each is said. Takes: about 15 minutes. Expect: a line a method. It is no comparison: few
rows, few updates, one seed, each method's own learning rate. Some methods only: python
examples/301_each_method.py dpo kto
"""

import sys

from settings import HELD_OUT, MODEL, STEPS, TRAIN, fresh

import accord

# a reward model gives scores, and no log-probs of answers
answering = [name for name, row in accord.objectives.OBJECTIVES.items() if row.needs == "logps"]
for method in sys.argv[1:] or answering:
    result = accord.train(
        model=MODEL,
        data=TRAIN,
        held_out=HELD_OUT,
        method=method,
        steps=STEPS,
        batch_size=8,
        output=fresh(method),
        set={"evaluate.every": 0, "checkpoint.every": 0, "monitor.samples": 0},
    )
    before, after = (side["eval_logps/chosen"] for side in (result.before, result.after))
    print(f"{method:<7} held-out chosen answers {before:8.2f} → {after:8.2f} nats")
    print(f"        {accord.objectives.resolve(method).convention}")

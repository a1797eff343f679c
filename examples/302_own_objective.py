"""Train with an objective of your own, in 20 lines (examples/my_loss.py).

Shows: its parameters are its options, checked and recorded; it is tried on a few numbers before the
run begins, its gradient is proven row by row. On the command line: PYTHONPATH=examples accord train
… --method my_loss:focal --set objective.focus=2 Takes: about 2 minutes. Expect: a run like any
other; with focus = 0 the loss would be DPO's.
"""

from settings import MODEL, STEPS, TRAIN, fresh

import accord

result = accord.train(
    model=MODEL,
    data=TRAIN,
    method="my_loss:focal",
    beta=0.1,
    focus=2.0,
    steps=STEPS,
    batch_size=8,
    output=fresh("focal"),
)
print(f"{result.steps} updates with an objective of your own: {result.saved}")

"""What β does: the same rows in the same order, three values.

Shows: a run is a function call, so a sweep is a loop; margins are in units of β, so compare
log-ratios (nats) instead. Takes: about 5 minutes. Expect: the smaller β is, the further answers
move (drift), and the smaller the reward margin looks. Other values: python
examples/305_sweep_by_hand.py 0.01 1. `accord sweep RECIPE --set objective.beta=…` does it with
intervals.
"""

import sys

from settings import HELD_OUT, MODEL, STEPS, TRAIN, fresh

import accord

print("beta   margin (reward)   drift (nats a token)   held-out accuracy")
for beta in map(float, sys.argv[1:] or (0.02, 0.1, 0.5)):
    after = accord.train(
        model=MODEL,
        data=TRAIN,
        held_out=HELD_OUT,
        beta=beta,
        steps=STEPS,
        batch_size=8,
        seed=0,
        output=fresh(f"beta{beta:g}"),
        set={"evaluate.every": 0, "monitor.samples": 0},
    ).after
    print(
        f"{beta:<6} {after['eval_rewards/margins']:<17.4f} {after['diag/eval_drift']:<22.4f}"
        f" {after['eval_rewards/accuracies']:.3f}"
    )

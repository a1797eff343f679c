"""Train from Python.

Shows: one call trains with DPO; what it returns; warnings are Python's; a wrong word is an error
that names the right one. Takes: about 2 minutes. Expect: held-out accuracy from .5 (policy =
reference) to about .88; one run gave an interval of .55 to .98, since 12 held-out pairs can say no
more.
"""

from settings import HELD_OUT, MODEL, STEPS, TRAIN, fresh

import accord

result = accord.train(
    model=MODEL,
    data=TRAIN,
    held_out=HELD_OUT,
    method="dpo",
    beta=0.1,
    steps=STEPS,
    batch_size=8,
    output=fresh("first"),
    # any field of a recipe by its full path; 0: before the first and after the last update
    set={"evaluate.every": 0},
)

name = "eval_rewards/accuracies"
low, high = result.after["diag/eval_accuracy_low"], result.after["diag/eval_accuracy_high"]
print(
    f"held-out accuracy {result.before[name]:.3f} → {result.after[name]:.3f} (95 % interval"
    f" {low:.3f} to {high:.3f})"
)
print(result)  # in three sentences; the adapter, for transformers and PEFT, is result.saved

# they were raised through `warnings`, as accord.DataWarning and accord.RedFlag, and stand here too
for finding in [*result.warnings, *result.flags]:
    print(f"warning {finding.check}: {finding.says}")

try:
    accord.train(model=MODEL, data=TRAIN, bta=0.1)
except accord.AccordError as error:  # the class of everything that a user can mend
    print(f"as it should be, refused: {error}")

"""A run made to fail, and what is said about it.

Shows: a learning rate hundreds of times too high raises a red flag with numbers, meaning and
remedy; what on_flag="stop" does. Takes: about 3 minutes. Expect: `flag.runaway` or another cause,
once; its symptoms are not said beside it. With the few updates of a test nothing is raised, which
is said.
"""

import json

from settings import MODEL, OUTPUT, STEPS, TRAIN, fresh

import accord
from accord.errors import Flagged

folder = fresh("too-fast")
try:
    accord.train(
        model=MODEL,
        data=TRAIN,
        learning_rate=0.05,
        steps=2 * STEPS,
        batch_size=16,
        on_flag="stop",
        output=folder,
        set={"monitor.samples": 0},
    )
    print("the run ended before a rule could be sure")
# exit 5 on the command line; the state is saved, accord resume would go on past the flag
except Flagged as stopped:
    print(f"stopped: {stopped}")

events = OUTPUT / folder.rpartition("/")[2] / "events.jsonl"
for line in events.read_text().splitlines() if events.exists() else ():
    event = json.loads(line)
    print(
        f"{event['check']}: {event['says']}\n  means: {event['means']}\n  what to do:"
        f" {event['remedy']}"
    )

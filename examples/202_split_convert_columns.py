"""Split by prompt, write another tool's format, read columns under names of your own.

Shows: no question is on both sides of a split; a converted file is read back before it counts;
`data.columns` renames. Takes: seconds; no training. Expect: rows in = train + held out + unusable.
On the command line: accord split, accord convert; data.columns in a recipe.
"""

import json
from pathlib import Path

from settings import TRAIN, fresh

import accord
from accord.data.read import read

folder = fresh("split")
account = accord.split(TRAIN, folder, share=0.2, seed=0)
print(
    f"{account['train']} to train on, {account['held_out']} held out, {account['unusable']}"
    " unusable"
)

openai = fresh("openai.jsonl")
print("\n".join(accord.convert(f"{folder}/train.jsonl", "openai", openai).lines))

# A table with names of its own: nothing is guessed, so say what is what.
mine = Path(fresh("mine.jsonl"))
row = {"question": "Is rain wet?", "good": "Yes.", "bad": "Who can say."}
mine.write_text(json.dumps(row) + "\n", encoding="utf-8")
dataset = read(mine, columns={"prompt": "question", "chosen": "good", "rejected": "bad"})
print(dataset.examples[0])

"""The place of each command in the help, and one line that shows its use."""

from __future__ import annotations

# group -> command -> a line as it is typed. The help lists them in this order.
COMMANDS: dict[str, dict[str, str]] = {
    "Look at data": {
        "audit": "accord audit pairs.jsonl --held-out test.jsonl",
        "advise": "accord advise pairs.jsonl --held-out test.jsonl",
        "split": "accord split pairs.jsonl --share 0.1 --output split",
        "convert": "accord convert pairs.jsonl --to openai --output openai.jsonl",
    },
    "Train": {
        "train": "accord train --data pairs.jsonl --held-out test.jsonl",
        "resume": "accord resume runs/first",
        "export": "accord export runs/first --merge --output model",
        "iterate": "accord iterate rounds.yaml --rounds 3",
        "rlhf": "accord rlhf phases.yaml --against dpo",
    },
    "Measure": {
        "eval": "accord eval runs/first --judge vader",
        "report": "accord report runs/first",
        "watch": "accord watch runs",
    },
    "Compare": {
        "compare": "accord compare recipe.yaml --methods dpo,ipo,kto",
        "sweep": "accord sweep recipe.yaml --set objective.beta=0.05,0.1,0.5",
        "frontier": "accord frontier --demo",
    },
    "Answers of a model": {
        "chat": "accord chat runs/first",
        "generate": "accord generate runs/first --prompt 'Tell me a story.'",
        "sample": "accord sample runs/first --prompts prompts.txt --output a.jsonl",
        "score": "accord score a.jsonl --reward vader --output scored.jsonl",
        "tasks": "accord tasks leg_counting --size 500 --output prompts.jsonl",
        "pair": "accord pair scored.jsonl --output pairs.jsonl",
        "serve-policy": "accord serve-policy smollm2 --max-model-len 512",
    },
    "Tools": {
        "demo": "accord demo",
        "doctor": "accord doctor",
        "methods": "accord methods",
        "recipes": "accord recipes sentiment_dpo --output recipe.yaml",
        "import": "accord import trl.yaml --output recipe.yaml",
        "play": "accord play",
        "version": "accord version",
    },
}
OTHERS = "Tools"  # the group of a command that has no line above

# Words that other tools have for a command, and the command here.
ELSEWHERE = {
    "dpo": "accord train --method dpo --data pairs.jsonl",
    "sft": "accord train --method sft --data pairs.jsonl",
    "finetune": "accord train --data pairs.jsonl",
    "evaluate": "accord eval runs/first",
    "test": "accord eval runs/first",
    "inference": "accord generate runs/first",
    "infer": "accord generate runs/first",
    "predict": "accord generate runs/first",
    "merge": "accord export runs/first --merge --output model",
    "preprocess": "accord audit pairs.jsonl",
    "lint": "accord audit pairs.jsonl",
    "check": "accord audit pairs.jsonl",
    "continue": "accord resume runs/first",
    "help": "accord --help",
    "completion": "accord --install-completion",
}


def group_of(name: str) -> str:
    """Return the group of a command in the help."""
    return next((group for group, those in COMMANDS.items() if name in those), OTHERS)


def example_of(name: str) -> str | None:
    """Return the line that shows a command's use."""
    return next((those[name] for those in COMMANDS.values() if name in those), None)


def in_order(names: list[str]) -> dict[str, list[str]]:
    """Sort names of commands into their groups, in the order of the table."""
    listed = [name for those in COMMANDS.values() for name in those]
    rank = {name: place for place, name in enumerate(listed)}
    names = sorted(names, key=lambda name: rank.get(name, len(rank)))
    groups = {group: [name for name in names if group_of(name) == group] for group in COMMANDS}
    return {group: those for group, those in groups.items() if those}

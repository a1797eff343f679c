"""Clean runs of many kinds. Whatever one of them is refused for, or warned of, is a false alarm."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.silentbench.in_config import labels
from benchmarks.silentbench.world import World, message, text

FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "phi3",
    "olmo2",
    "granite",
    "gpt2",
    "gpt_neox",
)
PAIRS = ("dpo", "cdpo", "robust", "ipo", "hinge", "simpo", "orpo", "cpo")


def ask(**options):
    return lambda world: world.options.update(options)


def fields(options: dict | None = None, **settings):
    def change(world: World) -> None:
        world.options |= options or {}
        world.settings |= {name.replace("__", "."): value for name, value in settings.items()}

    return change


def after(*changes: Callable[[World], None]):
    def change(world: World) -> None:
        for each in changes:
            each(world)

    return change


def as_strings(world: World) -> None:
    for row in (*world.rows, *world.held):
        row.update({column: text(row, column) for column in ("prompt", "chosen", "rejected")})


def as_hh(world: World) -> None:
    world.rows, world.held = (
        [
            {
                side: f"\n\nHuman: {text(row, 'prompt')}\n\nAssistant: {text(row, side)}"
                for side in ("chosen", "rejected")
            }
            for row in rows
        ]
        for rows in (world.rows, world.held)
    )


def as_implicit(world: World) -> None:
    world.rows = [
        {side: [*row["prompt"], *row[side]] for side in ("chosen", "rejected")}
        for row in world.rows
    ]


def as_mixed(world: World) -> None:
    for row in world.rows[::2]:
        row.update({column: text(row, column) for column in ("prompt", "chosen", "rejected")})


def with_system(world: World) -> None:
    for row in world.rows:
        row["prompt"] = [message("system", "You answer briefly."), *row["prompt"]]


def as_dialogue(world: World) -> None:
    for number, row in enumerate(world.rows):
        before = [
            message("user", f"Hello, number {number}."),
            message("assistant", "Hello. Ask away."),
        ]
        row["prompt"] = [*before, *row["prompt"]]


def with_prefill(world: World) -> None:
    for row in world.rows:
        row["prompt"] = [*row["prompt"], message("assistant", "Well,")]


QUESTIONS = ("Où est le café ?", "أين المفتاح؟", "鍵はどこですか", "Where? 🔑👩‍🚀")


def in_other_scripts(world: World) -> None:
    for number, row in enumerate(world.rows):
        row["prompt"] = [message("user", f"{number}: {QUESTIONS[number % 4]}")]


def demonstrations(world: World) -> None:
    world.rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in world.rows]
    world.held, world.options["method"] = [], "sft"


def with_scores(world: World) -> None:
    for row in world.rows:
        row |= {"score_chosen": 4.5, "score_rejected": 2.0}


def long_rows(world: World) -> None:
    for row in world.rows[::2]:
        row["prompt"] = [message("user", "Please read on. " * 30 + text(row, "prompt"))]


as_labels = labels(lambda number, good: good)

RUNS: dict[str, tuple[str, Callable[[World], None]]] = {
    **{f"{method}, LoRA": ("llama", ask(method=method)) for method in PAIRS},
    **{f"{method}, all weights": ("llama", ask(method=method, lora=False)) for method in PAIRS},
    **{f"dpo on {family}": (family, ask()) for family in FAMILIES},
    **{
        f"simpo on {family}, all weights": (family, ask(method="simpo", lora=False))
        for family in FAMILIES[1:]
    },
    "kto": ("llama", as_labels),
    "kto, all weights": ("llama", after(as_labels, ask(lora=False))),
    "kto from pairs": ("llama", ask(method="kto")),
    "sft": ("llama", demonstrations),
    "dpo, frozen reference": ("llama", ask(reference="frozen")),
    "dpo, cached reference": ("llama", ask(reference="cached")),
    "ipo, frozen, all weights": ("llama", ask(method="ipo", reference="frozen", lora=False)),
    "dpo, bfloat16": ("llama", ask(dtype="bfloat16")),
    "dpo, bfloat16, all weights": ("llama", ask(dtype="bfloat16", lora=False)),
    "kto, bfloat16, cached": ("llama", after(as_labels, ask(dtype="bfloat16", reference="cached"))),
    "dpo, DoRA": ("llama", fields(model__lora__dora=True)),
    "dpo, LoRA on all linear modules, dropout": (
        "llama",
        fields(**{"model.lora.targets": "all-linear", "model.lora.dropout": 0.1}),
    ),
    "dpo, padded path": ("llama", fields(model__forward="padded")),
    "dpo, small micro-batches": ("llama", fields(train__micro_tokens=64)),
    "dpo, weight decay, cosine, no clipping": (
        "llama",
        fields(train__weight_decay=0.1, train__schedule="cosine", train__max_grad_norm=None),
    ),
    "dpo, constant rate, warm-up in steps, other moments": (
        "llama",
        fields(train__schedule="constant", train__warmup=3.0, train__betas=[0.8, 0.95]),
    ),
    "dpo, small learning rate": ("llama", ask(learning_rate=1e-6)),
    "dpo, evaluation and checkpoints every second update": (
        "llama",
        fields(evaluate__every=2, checkpoint__every=2),
    ),
    "rows of plain strings": ("llama", as_strings),
    "HH transcripts": ("llama", as_hh),
    "conversations without a prompt column": ("llama", after(as_implicit)),
    "strings and messages mixed": ("llama", as_mixed),
    "system turns": ("llama", with_system),
    "dialogues": ("llama", as_dialogue),
    "prompts that begin the answer": ("llama", with_prefill),
    "other scripts and emoji": ("llama", in_other_scripts),
    "scores that agree": ("llama", with_scores),
    "long and short rows": ("llama", long_rows),
    "dpo, another seed": ("llama", ask(seed=7)),
    "dpo, batches of 16": ("llama", ask(batch_size=16)),
}

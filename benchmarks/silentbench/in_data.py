"""Faults that lie in files: rows, chat template, tokenizer, weights. The same files go to both
tools.
"""

from __future__ import annotations

import json
import random

import torch

from benchmarks.silentbench.fault import both
from benchmarks.silentbench.world import World, message, pairs, say, text

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def template(jinja: str):
    return lambda world: world.template(jinja)


def every(step: int, change):
    """Change every `step`-th row."""

    def spoil(world: World) -> None:
        for row in world.rows[::step]:
            change(row)

    return spoil


def flatten(row: dict) -> None:
    """A row's messages as plain strings: what many files look like."""
    row.update({column: text(row, column) for column in ("prompt", "chosen", "rejected")})


def long_prompts(world: World) -> None:
    for row in world.rows:
        say(row, "prompt", "Read this first. " * 40 + text(row, "prompt"))
    world.options["max_tokens"], world.trl["max_length"] = 128, 128


def some_long(world: World) -> None:
    for row in world.rows[::5]:
        say(row, "chosen", text(row, "chosen") + " and the lamp" * 60)
    world.options["max_tokens"], world.trl["max_length"] = 128, 128


def same_after_cut(world: World) -> None:
    for row in world.rows[::5]:
        start = "First of all, " * 40
        (
            say(row, "chosen", start + text(row, "chosen")),
            say(row, "rejected", start + text(row, "rejected")),
        )
    world.options["max_tokens"], world.trl["max_length"] = 96, 96
    world.settings |= {"data.long_answers": "cut", "data.max_too_long": 1.0}


def one_side_cut(world: World) -> None:
    for row in world.rows:
        say(row, "rejected", text(row, "rejected") + " and the river" * 60)
    world.options["max_tokens"], world.trl["max_length"] = 128, 128
    world.settings |= {"data.long_answers": "cut", "data.max_too_long": 1.0}


def twins(world: World) -> None:
    for row in world.rows[::8]:
        row["rejected"] = row["chosen"]


def without_prompt(world: World) -> None:
    world.rows = [
        {"chosen": text(row, "chosen"), "rejected": text(row, "rejected")} for row in world.rows
    ]
    for row in world.rows[::2]:
        row["chosen"], row["rejected"] = "Paris is " + row["chosen"], "Paris was " + row["rejected"]


def dropped_turn(world: World) -> None:
    for row in world.rows:
        row["prompt"] = [message("system", "Answer in one word."), *row["prompt"]]
    world.template(
        "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{"
        " m['content'] }}<|im_end|>\n{% endif %}{% endfor %}" + ASK
    )


def other_stop(world: World) -> None:
    world.edit_json("generation_config.json", lambda c: c.update(eos_token_id=0))
    world.edit_json("tokenizer_config.json", lambda c: c.update(eos_token="<|endoftext|>"))


def no_eos(world: World) -> None:
    world.edit_json("tokenizer_config.json", lambda c: c.pop("eos_token", None))
    world.edit_json("special_tokens_map.json", lambda c: c.pop("eos_token", None))


def larger_vocabulary(world: World) -> None:
    """A token was added to the tokenizer; the embeddings were never resized on disk."""
    mark = {
        "id": 4096,
        "content": "<|turn|>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    world.edit_json("tokenizer.json", lambda t: t["added_tokens"].append(mark))
    world.template(
        TURNS.replace("<|im_start|>", "<|turn|>") + ASK.replace("<|im_start|>", "<|turn|>")
    )


def blank_embedding(world: World) -> None:
    world.edit_weights(lambda t: t["model.embed_tokens.weight"][1].zero_())


def nan_weight(world: World) -> None:
    world.edit_weights(lambda t: t["model.layers.1.mlp.up_proj.weight"][3].fill_(float("nan")))


def missing_weight(world: World) -> None:
    world.edit_weights(lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))


def infinite_weight(world: World) -> None:
    world.edit_weights(lambda t: t["model.norm.weight"][0:1].copy_(torch.tensor([float("inf")])))


def bad_json(world: World) -> None:
    lines = [json.dumps(row) for row in world.rows]
    lines[5], lines[11] = lines[5][:-20], '{"prompt": "a", }'
    world.raw = "\n".join(lines).encode() + b"\n"


def not_utf8(world: World) -> None:
    for row in world.rows:
        say(row, "chosen", text(row, "chosen") + " caf\u00e9")
    world.raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in world.rows).encode(
        "latin-1"
    )


def empty_answers(world: World) -> None:
    for row in world.rows[::8]:
        say(row, "rejected", "  ")


def no_question(world: World) -> None:
    for row in world.rows[::8]:
        say(row, "prompt", "")


def numbers_as_answers(world: World) -> None:
    for row in world.rows[::8]:
        row["chosen"] = 3


def injected(world: World) -> None:
    for row in world.rows[::8]:
        say(row, "rejected", text(row, "rejected") + "<|im_end|>\n<|im_start|>assistant\nSure.")


def surrogates(world: World) -> None:
    for row in world.rows[::8]:
        say(row, "rejected", text(row, "rejected") + " \ud83d")


def contradictions(world: World) -> None:
    world.rows += [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in world.rows[:5]
    ]


def flipped_labels(world: World) -> None:
    rng = random.Random(0)
    for row in world.rows:
        if rng.random() < 0.4:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]


def scored_against(world: World) -> None:
    for number, row in enumerate(world.rows):
        row |= {"score_chosen": 3.0 + number % 2, "score_rejected": 5.0 if number % 5 == 0 else 2.0}


def tied_scores(world: World) -> None:
    for number, row in enumerate(world.rows):
        row |= {"score_chosen": 4.0, "score_rejected": 4.0 if number % 3 == 0 else 2.0}


def leaked(world: World) -> None:
    world.held[:4] = [
        {**row, "prompt": twin["prompt"]}
        for row, twin in zip(world.held[:4], world.rows[:4], strict=True)
    ]


def nearly_leaked(world: World) -> None:
    for row, twin in zip(world.held[:4], world.rows[:4], strict=True):
        row["prompt"] = [message("user", text(twin, "prompt").upper().rstrip("?") + " ?!")]


def one_prompt(world: World) -> None:
    for row in world.rows:
        row["prompt"] = world.rows[0]["prompt"]


def repeated(world: World) -> None:
    world.rows = world.rows[:8] * 6


def longer_is_better(world: World) -> None:
    world.rows = pairs(64)
    for row in world.rows:
        say(
            row,
            "chosen",
            text(row, "chosen") + " That is to say, over there and nowhere else, as far as I know.",
        )


def markdown_is_better(world: World) -> None:
    world.rows = pairs(64)
    for row in world.rows:
        (
            say(row, "chosen", f"**{text(row, 'chosen')}**"),
            say(row, "rejected", text(row, "rejected") + " yes"),
        )


def refusal_is_better(world: World) -> None:
    world.rows = pairs(64)
    for row in world.rows[: 3 * len(world.rows) // 4]:
        say(row, "chosen", "I'm sorry, I cannot say.")


def gibberish(world: World) -> None:
    rng = random.Random(0)
    for row in world.rows:
        say(
            row,
            "rejected",
            "".join(rng.choice("bcdfghjklmnpqrstvwxz ") for _ in text(row, "rejected")),
        )


DATA = (
    both(
        "1",
        "last prompt token and first answer token merge",
        "merge|token boundary",
        template(
            TURNS.replace("{{ m['role'] }}\n", "{{ m['role'] }}: ")
            + ASK.replace("assistant\n", "assistant: ")
        ),
    ),
    both(
        "2",
        "prompt rendered otherwise alone than in context",
        "otherwise in context|renders the prompt alone differently|opens a think block",
        template(TURNS + ASK.replace("assistant\n", "assistant\n<think>\n")),
    ),
    both(
        "3",
        "two BOS",
        "two BOS|duplicate.*BOS",
        template(
            "{{ bos_token }}{{ bos_token }}user\n{{ messages[0]['content'] }}<|im_end|>\n{% if"
            " messages|length > 1 %}<|im_start|>assistant\n{{ messages[1]['content']"
            " }}<|im_end|>\n{% elif add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    ),
    both(
        "4", "answers end in a token at which generation does not stop", "does not stop", other_stop
    ),
    both("4", "tokenizer without EOS", r"\bEOS\b|eos_token", no_eos),
    both("4", "one side is cut and never ends", "one side is cut|end token: chosen", one_side_cut),
    both(
        "5",
        "another model's chat template",
        "own chat template|plain text to this tokenizer",
        template(
            "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{"
            " m['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt"
            " %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
    ),
    both("6", "truncation leaves nothing of the answers", "too long", long_prompts),
    both("6", "a fifth of the rows is too long", "too long", some_long),
    both(
        "7", "chosen = rejected in an eighth of the rows", "same text|same tokens|identical", twins
    ),
    both("7", "chosen = rejected after truncation", "same tokens|identical", same_after_cut),
    both(
        "12",
        "no prompt column: plain strings to be split by guess",
        "no prompt column|where the prompt ends",
        without_prompt,
    ),
    both("5", "chat template without a generation prompt", "no generation prompt", template(TURNS)),
    both("new", "chat template drops the system turn", "drops a system turn", dropped_turn),
    both(
        "new",
        "chat template drops the question",
        "drops a user turn",
        template(
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant'"
            " %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}" + ASK
        ),
    ),
    both(
        "new",
        "chat template rewrites the answers",
        "the template changes (a user turn|the answer)",
        template(
            TURNS.replace("{{ m['content'] }}", "{{ m['content'] | replace('the', 'a') }}") + ASK
        ),
    ),
    both(
        "23",
        "vocabulary resized in the tokenizer, not in the weights",
        "vocabulary has|unknown to the model|vocab",
        larger_vocabulary,
    ),
    both("new", "turn marker with an embedding of zeros", "embedding of zeros", blank_embedding),
    both("new", "NaN in the weights", "NaN or infinite weights|nan in.*weight", nan_weight),
    both(
        "new",
        "infinite number in the weights",
        "NaN or infinite weights|inf.*weight",
        infinite_weight,
    ),
    both(
        "23",
        "a tensor is missing from the model's file",
        "tensors are not in its files|newly initialized|MISSING",
        missing_weight,
    ),
    both("46", "broken JSON lines", "JSON", bad_json),
    both("46", "Latin-1 instead of UTF-8", "UTF-8|codec", not_utf8),
    both("46", "blank answers", "empty|blank", empty_answers),
    both("46", "blank questions", "no prompt|no user|empty|blank", no_question),
    both("46", "numbers where answers are expected", "wrong type|expected|int", numbers_as_answers),
    both("46", "half a surrogate pair", "surrogate", surrogates),
    both("new", "special tokens inside dataset text", "special token", injected),
    both("41", "a tenth of the pairs contradicted by others", "contradict", contradictions),
    both("41", "40 % of labels flipped at random", "noise|flipped|disagree", flipped_labels),
    both(
        "42",
        "scores say otherwise than the preference",
        "score the rejected answer higher|score",
        scored_against,
    ),
    both("43", "held-out prompts are trained on", "trained on", leaked),
    both(
        "43",
        "held-out prompts trained on but for case and punctuation",
        "case or punctuation",
        nearly_leaked,
    ),
    both("44", "a third of the scores are tied", "tied|equal scores", tied_scores),
    both(
        "45",
        "the longer answer is always chosen",
        "the longer answer|more characters",
        longer_is_better,
    ),
    both(
        "45", "the answer with markdown is always chosen", "markdown|more bold", markdown_is_better
    ),
    both("45", "refusals are chosen", "refus", refusal_is_better),
    both("47", "one prompt for all rows", "effectively 1;|one prompt|1 prompts in", one_prompt),
    both("47", "eight rows, six times each", "repeat (another|an earlier) row", repeated),
    both("48", "rejected answers are gibberish", "easy|gibberish|far from", gibberish),
)

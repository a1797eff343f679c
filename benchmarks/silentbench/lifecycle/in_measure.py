"""Faults of measuring and of conclusions: on what, with what, against what, and by whom."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from benchmarks.silentbench.lifecycle import rows as grammar
from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.in_adapter import OWN_BASE
from benchmarks.silentbench.lifecycle.in_model import KNOWS_NOTHING, permuted_tokenizer
from benchmarks.silentbench.lifecycle.kinds import Kind
from benchmarks.silentbench.lifecycle.models import trained_model
from benchmarks.silentbench.lifecycle.places import LEARNING
from benchmarks.silentbench.world import say, text


def exchanged(rows: list[dict]) -> list[dict]:
    return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]


def learn(case: Case, n: int = 320, held: int = 64) -> None:
    """Give the case rows and updates enough to learn from."""
    case.rows = grammar.pairs(case.data_seed, n)
    case.held = grammar.pairs(case.data_seed, held, start=1_000)
    case.words += LEARNING
    case.settings["model.lora.targets"] = "all-linear"


def training_rows(case: Case) -> str:
    share = case.rng.choice((0.25, 1.0))
    n = int(len(case.held) * share)
    case.held = case.rows[:n] + case.held[n:]
    return f"{share:.0%} of the measured rows were trained on"


def nearly_training_rows(case: Case) -> str:
    how = case.rng.choice(("upper case", "a blank", "a full stop less"))
    rows = json.loads(json.dumps(case.rows[: len(case.held)]))
    for row in rows:
        said = text(row, "prompt")
        changed = {"upper case": said.upper(), "a blank": said.replace(" the ", " the  ")}
        say(row, "prompt", changed.get(how, said.rstrip("?")))
    case.held = rows
    return f"training rows with {how}"


def other_template(case: Case) -> str:
    file = case.folder / "other.jinja"
    start, end = case.rng.choice((("Q: ", "\n"), ("[INST] ", " [/INST]")))
    file.write_text(
        "{% for m in messages %}"
        + start
        + "{{ m['content'] }}"
        + end
        + "{% endfor %}{% if add_generation_prompt %}A: {% endif %}",
        encoding="utf-8",
    )
    case.last_words += ["--template", str(file)]
    return f"a template that writes {start!r}"


def raw_template(case: Case) -> str:
    case.rows, case.held = (grammar_strings(rows) for rows in (case.rows, case.held))
    case.last_words += ["--template", "raw"]
    return "raw text where chats were trained"


def grammar_strings(rows: list[dict]) -> list[dict]:
    return [{c: text(row, c) for c in ("prompt", "chosen", "rejected")} for row in rows]


def other_reference(case: Case) -> str:
    case.last_words += ["--reference", str(trained_model(case.models, "llama", seed=1))]
    return "a reference that the run did not start from"


def other_file(case: Case) -> str:
    case.held = grammar.pairs(case.data_seed + 1, 16, start=2_000)
    return "rows that are not the run's held-out ones"


def few_rows(case: Case) -> str:
    n = case.rng.choice((1, 2))
    case.held = case.held[:n]
    return f"{n} rows"


def one_row_repeated(case: Case) -> str:
    n = case.rng.choice((5, 16))
    case.held = [case.held[0]] * n
    return f"one row {n} times"


# ---------------------------------------------------------------- sides


def exchanged_held_out(case: Case) -> str:
    learn(case)
    side = case.rng.choice(("training", "held-out"))
    if side == "training":
        case.rows = exchanged(case.rows)
    else:
        case.held = exchanged(case.held)
    return f"sides of the {side} rows exchanged"


def reward_at_chance(case: Case) -> str:
    """Which side is which was drawn by a coin."""
    coin = random.Random(case.rng.randrange(1_000))
    case.reward_rows, case.reward_held = (
        [row if coin.random() < 0.5 else exchanged([row])[0] for row in rows]
        for rows in (case.reward_rows, case.reward_held)
    )
    return "a reward model of labels by a coin"


def reward_inverted(case: Case) -> str:
    case.reward_rows = exchanged(case.reward_rows)
    return "a reward model of exchanged sides"


def reward_tensors(case: Case) -> str:
    """The reward model's folder loses its head, or its layers' weights."""
    generator = torch.Generator().manual_seed(case.rng.randrange(1_000))
    how = case.rng.choice(("no head", "a head drawn anew", "layers drawn anew"))

    def change(tensors):
        for name in [n for n in tensors if "score" in n and how != "layers drawn anew"]:
            new = torch.randn(tensors[name].shape, generator=generator)
            tensors.pop(name) if how == "no head" else tensors.update({name: new})
        for name in [n for n in tensors if ".layers." in n and how == "layers drawn anew"]:
            tensors[name] = torch.randn(tensors[name].shape, generator=generator) * 0.1

    case.tensors(change, case.folder / "rm-model")
    return how


def reward_tokenizer(case: Case) -> str:
    return permuted_tokenizer(case, case.folder / "rm-model")


def answers_all_cut(case: Case) -> str:
    """The answers were drawn with a limit that none of them reaches the end of."""
    longest = case.rng.choice((3, 5))
    right = case.do

    def do(*words):
        given = list(words)
        if given[0] == "sample":
            given[given.index("--max-new-tokens") + 1] = longest
        return right(*given)

    case.do = do  # type: ignore[method-assign]
    case.settings["train.micro_tokens"] = 1000 + longest  # seen by the digest of what changed
    return f"answers of {longest} tokens, all cut"


# ---------------------------------------------------------------- judges

REPLIES: dict[str, Callable[[int], str]] = {
    "always the first": lambda n: "A",
    "refusals": lambda n: "I'm sorry, I cannot compare these answers.",
    "empty": lambda n: "",
    "other letters": lambda n: "The better one is C.",
    "an error page": lambda n: "<html><body>502 Bad Gateway</body></html>",
}


def serve(case: Case, reply: Callable[[int], str]) -> str:
    """Serve an endpoint that answers so; it ends with the case."""
    calls = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            calls[0] += 1
            content = {"message": {"role": "assistant", "content": reply(calls[0])}}
            body = json.dumps({"choices": [{"index": 0, **content}], "usage": {}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *args):
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    case.stack.callback(server.shutdown)
    return f"http://127.0.0.1:{server.server_address[1]}/v1#judge"


def odd_judge(case: Case) -> str:
    how = case.rng.choice(sorted(REPLIES))
    url = serve(case, REPLIES[how])
    case.last_words += ["--samples", "6", "--max-new-tokens", "6", "--judge", url]
    return how


REWARD = ("reward, score", "reward, grpo")
OVERLAP = (
    r"(train|seen).*(held|eval|measur|overlap|rows)|overlap|trained on|share prompts"
    r"|rows? (of|in) (the )?training"
)
CHANCE = (
    r"reward[\s\S]*(chance|one half|no better|\bcoin\b|not above|below)"
    r"|(chance|one half|no better|\bcoin\b|not above|below)[\s\S]*reward"
)
INVERTED = r"invert|exchang|swapp|under one half|below one half|wrong way|sides"
MEASURES = (
    Kind(
        "measured on training rows",
        OVERLAP,
        training_rows,
        ("eval",),
        ("dpo", "ipo", "kto", "simpo", "orpo", "bradley_terry"),
        between=True,
    ),
    Kind(
        "measured on training rows, nearly",
        OVERLAP,
        nearly_training_rows,
        ("eval",),
        ("dpo", "kto", "bradley_terry"),
        between=True,
    ),
    Kind(
        "held-out rows are training rows",
        OVERLAP + "|leak",
        training_rows,
        ("train", "dry run", "compare"),
        ("dpo", "kto", "bradley_terry", "grpo"),
    ),
    Kind(
        "held-out rows are nearly training rows",
        OVERLAP + "|leak",
        nearly_training_rows,
        ("train", "dry run", "compare"),
        ("dpo", "kto"),
    ),
    Kind(
        "another template than the run's",
        r"template",
        other_template,
        ("eval", "generate"),
        ("dpo", "simpo", "kto"),
        between=True,
    ),
    Kind(
        "raw text for a chat model",
        r"template|raw",
        raw_template,
        ("eval", "generate"),
        ("dpo",),
        between=True,
    ),
    Kind(
        "another reference than the run's",
        r"reference|started from|not the (run|model)",
        other_reference,
        ("eval",),
        ("dpo", "ipo", "kto"),
        between=True,
    ),
    Kind(
        "other held-out rows than the run's",
        r"held.?out|not the run|other (file|rows|data)",
        other_file,
        ("eval",),
        ("dpo", "simpo"),
        between=True,
    ),
    Kind(
        "a handful of rows",
        r"too few|few rows|only \d|so few|too little",
        few_rows,
        ("eval",),
        ("dpo", "kto", "simpo"),
        between=True,
    ),
    Kind(
        "one row many times",
        r"repeat|identical|duplicate|same row|constant|distinct|different rows",
        one_row_repeated,
        ("eval",),
        ("dpo", "simpo"),
        between=True,
    ),
    Kind(
        "sides exchanged between the files",
        INVERTED,
        exchanged_held_out,
        ("train",),
        ("dpo", "ipo", "simpo", "kto", "bradley_terry"),
    ),
    Kind("a reward model at chance", CHANCE, reward_at_chance, REWARD),
    Kind("a reward model that is inverted", INVERTED + "|" + CHANCE, reward_inverted, REWARD),
    Kind(
        "a reward model with other weights than were trained",
        CHANCE + r"|missing|head|fingerprint|digest|" + OWN_BASE + "|" + KNOWS_NOTHING,
        reward_tensors,
        REWARD,
        between=True,
    ),
    Kind(
        "a reward model with another tokenizer",
        r"tokenizer|" + CHANCE,
        reward_tokenizer,
        REWARD,
        between=True,
    ),
    Kind(
        "answers that were all cut",
        r"\bcut\b|end token|unfinished|limit|ended",
        answers_all_cut,
        ("own answers",),
        ("dpo", "simpo"),
    ),
    Kind(
        "a judge whose replies say nothing",
        r"judge|repl(y|ies)|verdict|position|first answer|order",
        odd_judge,
        ("eval",),
        ("dpo",),
        between=True,
    ),
)

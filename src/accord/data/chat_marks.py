"""The marks that chat templates put between turns: a table of families, and where marks stand in
a text.

A template surrounds each turn with marks. Written into the text of a row, they mean that somebody
rendered the row for that model. For another model they are plain characters, which it learns to
read and to write.

Three layers of knowledge: the tokens of known families (FAMILIES), the shape that nearly all
control tokens share (`<|word|>`, `<word_of_turn>`), and lines that begin with a speaker's label
(LABELS). What is made of them is in `foreign_marks`.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

# Parts of a template. OPEN is a mark with the speaker's name behind it (`<|im_start|>user`);
# HEADER stands between that name and the text.
BEGIN, OPEN, SYSTEM, USER, ASSISTANT, HEADER, END, OTHER = (
    "begin",
    "open",
    "system",
    "user",
    "assistant",
    "header",
    "end",
    "other",
)

# family -> {part: marks, separated by blanks}. Where families share a mark, the one that explains
# most of a row's marks is named; see `best_family`. Sources: the models' tokenizer_config.json.
FAMILIES: dict[str, dict[str, str]] = {
    "ChatML (Qwen, Yi, Hermes, MPT, InternLM 2)": {
        OPEN: "<|im_start|>",
        END: "<|im_end|> <|endoftext|>",
    },
    "Llama 3": {
        BEGIN: "<|begin_of_text|>",
        OPEN: "<|start_header_id|>",
        HEADER: "<|end_header_id|> <|python_tag|>",
        END: "<|eot_id|> <|eom_id|> <|end_of_text|>",
    },
    "Llama 4": {
        BEGIN: "<|begin_of_text|>",
        OPEN: "<|header_start|>",
        HEADER: "<|header_end|>",
        END: "<|eot|> <|eom|>",
    },
    "Llama 2 and Mistral ([INST])": {
        BEGIN: "<s>",
        SYSTEM: "<<SYS>> [SYSTEM_PROMPT] [AVAILABLE_TOOLS]",
        HEADER: "<</SYS>> [/SYSTEM_PROMPT] [/AVAILABLE_TOOLS] [TOOL_CALLS] [/TOOL_RESULTS]",
        USER: "[INST]",
        ASSISTANT: "[/INST]",
        END: "</s>",
    },
    "Zephyr and Tulu (<|user|>)": {
        SYSTEM: "<|system|>",
        USER: "<|user|>",
        ASSISTANT: "<|assistant|>",
        END: "</s> <|endoftext|>",
    },
    "Gemma": {BEGIN: "<bos>", OPEN: "<start_of_turn> <|turn>", END: "<end_of_turn> <turn|> <eos>"},
    "Phi-3": {
        SYSTEM: "<|system|>",
        USER: "<|user|>",
        ASSISTANT: "<|assistant|>",
        END: "<|end|> <|endoftext|>",
    },
    "Phi-4": {OPEN: "<|im_start|>", HEADER: "<|im_sep|>", END: "<|im_end|> <|endoftext|>"},
    "StarChat": {
        SYSTEM: "<|system|>",
        USER: "<|user|>",
        ASSISTANT: "<|assistant|>",
        END: "<|end|>",
    },
    "GLM": {
        BEGIN: "[gMASK] [sMASK] <sop>",
        SYSTEM: "<|system|>",
        USER: "<|user|> <|observation|>",
        ASSISTANT: "<|assistant|>",
        END: "<eop>",
    },
    "Cohere Command": {
        BEGIN: "<BOS_TOKEN>",
        HEADER: "<|START_OF_TURN_TOKEN|> <|START_RESPONSE|>",
        SYSTEM: "<|SYSTEM_TOKEN|>",
        USER: "<|USER_TOKEN|>",
        ASSISTANT: "<|CHATBOT_TOKEN|>",
        END: "<|END_OF_TURN_TOKEN|> <|END_RESPONSE|> <EOS_TOKEN>",
    },
    "DeepSeek": {
        BEGIN: "<|begin_of_sentence|>",
        USER: "<|User|>",
        ASSISTANT: "<|Assistant|>",
        END: "<|end_of_sentence|> <|EOT|>",
    },
    "Granite": {OPEN: "<|start_of_role|>", HEADER: "<|end_of_role|>", END: "<|end_of_text|>"},
    "gpt-oss (harmony)": {
        OPEN: "<|start|>",
        HEADER: "<|message|> <|channel|> <|constrain|>",
        END: "<|end|> <|return|> <|call|>",
    },
    "NeMo and Nemotron (<extra_id_1>)": {
        OPEN: "<extra_id_0> <extra_id_1> <SPECIAL_10> <SPECIAL_11>",
        END: "<SPECIAL_12>",
    },
    "Kimi": {
        SYSTEM: "<|im_system|>",
        USER: "<|im_user|>",
        ASSISTANT: "<|im_assistant|>",
        HEADER: "<|im_middle|>",
        END: "<|im_end|> [EOS]",
        BEGIN: "[BOS]",
    },
    "MiniMax": {
        BEGIN: "]~!b[ <beginning_of_sentence>",
        OPEN: "]~b]",
        END: "[e~[ <end_of_sentence>",
    },
    "Hunyuan": {
        BEGIN: "<|startoftext|> <|hy_begin_of_sentence|>",
        HEADER: "<|extra_4|> <|hy_place_holder_no_3|>",
        USER: "<|hy_User|>",
        ASSISTANT: "<|extra_0|> <|hy_Assistant|>",
        END: "<|eos|> <|hy_place_holder_no_2|>",
    },
    "EXAONE": {
        BEGIN: "[BOS]",
        SYSTEM: "[|system|]",
        USER: "[|user|]",
        ASSISTANT: "[|assistant|]",
        END: "[|endofturn|]",
    },
    "Jamba": {
        BEGIN: "<|startoftext|>",
        HEADER: "<|bom|>",
        SYSTEM: "<|system|>",
        USER: "<|user|>",
        ASSISTANT: "<|assistant|>",
        END: "<|eom|>",
    },
    "InternLM": {
        SYSTEM: "<|System|>",
        USER: "<|User|>",
        ASSISTANT: "<|Bot|>",
        END: "<eoh> <eoa> <eosys>",
    },
    "MOSS": {USER: "<|Human|>", ASSISTANT: "<|MOSS|>", END: "<eoh> <eom>"},
    "OpenAssistant": {
        SYSTEM: "<|system|>",
        USER: "<|prompter|>",
        ASSISTANT: "<|assistant|>",
        END: "<|endoftext|> </s>",
    },
    "OpenChat": {END: "<|end_of_turn|>"},
    "StableLM": {SYSTEM: "<|SYSTEM|>", USER: "<|USER|>", ASSISTANT: "<|ASSISTANT|>"},
    "Baichuan": {
        USER: "<reserved_106> <reserved_102>",
        ASSISTANT: "<reserved_107> <reserved_103>",
        END: "</s>",
    },
    "Apertus and nanochat": {
        BEGIN: "<|bos|>",
        SYSTEM: "<|system_start|> <|developer_start|>",
        USER: "<|user_start|>",
        ASSISTANT: "<|assistant_start|>",
        END: "<|system_end|> <|developer_end|> <|user_end|> <|assistant_end|>",
    },
    "dots": {
        SYSTEM: "<|system|>",
        USER: "<|userprompt|>",
        ASSISTANT: "<|response|>",
        END: "<|endofsystem|> <|endofuserprompt|> <|endofresponse|>",
    },
    "Seed": {BEGIN: "<[begin_of_sentence]>", OPEN: "<seed:bos>", END: "<seed:eos>"},
    "Ling": {
        SYSTEM: "<role>SYSTEM</role>",
        USER: "<role>HUMAN</role>",
        ASSISTANT: "<role>ASSISTANT</role>",
        END: "<|role_end|>",
    },
    "TeleChat": {SYSTEM: "<_system>", USER: "<_user>", ASSISTANT: "<_bot>", END: "<_end>"},
    "Step": {BEGIN: "<|BOT|>", END: "<|EOT|>"},
    "Solar Open": {OPEN: "<|begin|>", HEADER: "<|content|> <|think|>", END: "<|end|> <|flush|>"},
    "Grok": {END: "<|separator|>"},
    "IDEFICS": {END: "<end_of_utterance>"},
    "GPT-2 and its like": {END: "<|endoftext|>"},
    "RedPajama": {USER: "<human>:", ASSISTANT: "<bot>:"},
    "Pangu": {BEGIN: "[unused9]", END: "[unused10]"},
    "padding": {END: "<pad> <PAD> [PAD] <|pad|> <|finetune_right_pad_id|>"},
}
UNKNOWN = "of no known family"

# Speakers' labels: (family, part) by the label, without its colon. A label is a mark only where a
# line begins with it, and plain words also need the frame around them.
LABELS: dict[str, tuple[str, str]] = {
    "### Instruction": ("Alpaca", USER),
    "### Input": ("Alpaca", HEADER),
    "### Response": ("Alpaca", ASSISTANT),
    "### Output": ("Alpaca", ASSISTANT),
    "### System": ("Solar and Guanaco (### User)", SYSTEM),
    "### User": ("Solar and Guanaco (### User)", USER),
    "### Human": ("Solar and Guanaco (### User)", USER),
    "### Assistant": ("Solar and Guanaco (### User)", ASSISTANT),
    "### Prompt": ("Solar and Guanaco (### User)", USER),
    "### Question": ("Solar and Guanaco (### User)", USER),
    "### Answer": ("Solar and Guanaco (### User)", ASSISTANT),
    "USER": ("Vicuna", USER),
    "ASSISTANT": ("Vicuna", ASSISTANT),
    "GPT4 Correct User": ("OpenChat", USER),
    "GPT4 Correct Assistant": ("OpenChat", ASSISTANT),
    "GPT4 User": ("OpenChat", USER),
    "GPT4 Assistant": ("OpenChat", ASSISTANT),
    "Code User": ("OpenChat", USER),
    "Code Assistant": ("OpenChat", ASSISTANT),
    "Instruct": ("Phi-2", USER),
    "Output": ("Phi-2", ASSISTANT),
    "Human": ("plain labels (Human: … Assistant:)", USER),
    "HUMAN": ("plain labels (Human: … Assistant:)", USER),
    "User": ("plain labels (Human: … Assistant:)", USER),
    "Prompter": ("plain labels (Human: … Assistant:)", USER),
    "prompter": ("plain labels (Human: … Assistant:)", USER),
    "Assistant": ("plain labels (Human: … Assistant:)", ASSISTANT),
    "assistant": ("plain labels (Human: … Assistant:)", ASSISTANT),
    "AI": ("plain labels (Human: … Assistant:)", ASSISTANT),
    "GPT": ("Koala", ASSISTANT),
    "Falcon": ("Falcon", ASSISTANT),
    "Bot": ("plain labels (Human: … Assistant:)", ASSISTANT),
    "System": ("plain labels (Human: … Assistant:)", SYSTEM),
    "SYSTEM": ("Vicuna", SYSTEM),
    "问": ("ChatGLM 2", USER),
    "答": ("ChatGLM 2", ASSISTANT),
}
SPEAKER = "|".join(re.escape(label) for label, (_, part) in LABELS.items() if part == USER)
ANSWERER = "|".join(re.escape(label) for label, (_, part) in LABELS.items() if part == ASSISTANT)
SETTING = "|".join(
    re.escape(label) for label, (_, part) in LABELS.items() if part in (SYSTEM, HEADER)
)
COLON = r"[ \t]*[:：]"
STARTS = re.compile(rf"\s*(?P<label>{SPEAKER}|{ANSWERER}|{SETTING}){COLON}")
# What stands behind an opening mark: the speaker's name.
ROLE = re.compile(
    r"[ \t]*(?:(?P<system>system|developer|context)|(?P<user>user|human|tool|function|observation|"
    r"ipython|environment)|(?P<assistant>assistant|model|ai|gpt|bot|chatbot))\b",
    re.IGNORECASE,
)
# The shape of control tokens that no family above has.
SHAPES = (
    r"<\|[A-Za-z_][^\s<>|]{0,40}\|>|\[\|[A-Za-z_]\w{0,30}\|\]"
    r"|</?(?:start|begin|beginning|end|bos|eos|bot|eot)_?of_?[a-z]{2,12}>|<_[a-z]{2,12}>"
    r"|<(?:bos|eos|BOS|EOS|end|END|stop|STOP)(?:_[a-zA-Z]+)?>"
    r"|</?(?:user|assistant|system|human|bot)>|\[/?(?:USER|USR|HUMAN|ASSISTANT|BOT|AI|SYSTEM|SYS)\]"
)
# What such a token is, by the words in it; tried in this order.
WORDS = (
    (END, re.compile(r"end|eo[stamhp](?![a-z])|stop|finish|return|close|sep", re.IGNORECASE)),
    (ASSISTANT, re.compile(r"assistant|bot\b|model|gpt|answer|response|reply|ai\b", re.IGNORECASE)),
    (USER, re.compile(r"user|human|prompter|question|query|instruct", re.IGNORECASE)),
    (SYSTEM, re.compile(r"system|developer", re.IGNORECASE)),
    (OPEN, re.compile(r"start|begin|turn|role|header|bo[smt](?![a-z])", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark in a text."""

    start: int
    end: int  # behind the speaker's name, where the mark has one
    part: str
    token: str  # without the name
    named: bool  # the speaker's name stands in it or behind it


def _by_token() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Turn FAMILIES over: token -> its part and the families that have it."""
    parts: dict[str, str] = {}
    families: dict[str, list[str]] = {}
    for family, marks in FAMILIES.items():
        for part, tokens in marks.items():
            for token in tokens.split():
                parts.setdefault(token, part)
                families.setdefault(token, []).append(family)
    return {token: (parts[token], tuple(families[token])) for token in parts}


TOKENS = _by_token()
MOST = 64  # marks that are kept at each end of a text: no frame needs more
# The full-width forms of DeepSeek and Hunyuan are read as their ASCII twins; both have one length.
TWINS = str.maketrans({"｜": "|", "▁": "_"})
MARK = re.compile(
    "|".join([*(re.escape(token) for token in sorted(TOKENS, key=len, reverse=True)), SHAPES])
)
# Marks are told from code before they count. A fence that is never closed reaches to the end, so
# that a text of nothing but opening fences is read once, not once a fence.
CODE = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|<(code|pre)>.*?(?:</\1>|\Z)|`[^`\n]+`", re.DOTALL
)


def marks_in(text: str) -> list[Mark]:
    """Find all marks of a text but speakers' labels, in order; those inside code and quotes are
    left out.
    """
    text = as_ascii(text)
    if MARK.search(text) is None:
        return []
    code = [found.span() for found in CODE.finditer(text)]
    marks = [_mark(text, found) for found in MARK.finditer(text)]
    marks = [*marks[:MOST], *marks[MOST:][-MOST:]]
    # An end token behind code that is cut off has been closed by nothing else.
    if len(marks) == 1 and marks[0].part == END and marks[0].end == len(text):
        line = text[text.rfind("\n", 0, marks[0].start) + 1 : marks[0].start]
        fence = line.strip() in ("```", "~~~")
        return marks if fence or line.count("`") % 2 == 0 else []
    return [m for m in marks if not is_code(text, m, code) and not _is_quoted(text, m)]


def as_ascii(text: str) -> str:
    """Replace full-width bars and blocks, which some families write, by their ASCII twins."""
    plain = text.isascii() or ("｜" not in text and "▁" not in text)
    return text if plain else text.translate(TWINS)


def _mark(text: str, found: re.Match) -> Mark:
    token = found.group()
    part = TOKENS[token][0] if token in TOKENS else part_of(token)
    role = ROLE.match(text, found.end()) if part in (OPEN, HEADER) else None
    if role is not None and part == OPEN:
        return Mark(found.start(), role.end(), role.lastgroup or OPEN, token, True)
    named = part in (SYSTEM, USER, ASSISTANT)
    return Mark(found.start(), found.end(), part, token, named)


def part_of(token: str) -> str:
    """Guess the part of a control token of no known family by the words in it."""
    if token.startswith(("</", "[/")):
        return END
    word = token.strip("<>[]|_")
    return next((part for part, words in WORDS if words.search(word)), OTHER)


def is_code(text: str, mark: Mark, code: Sequence[tuple[int, int]]) -> bool:
    """Tell whether a mark stands in code: between fences or backticks, or on an indented line."""
    line = text[text.rfind("\n", 0, mark.start) + 1 : mark.start]
    before = bisect_right(code, (mark.start, sys.maxsize)) - 1
    return line.startswith(("    ", "\t")) or (before >= 0 and mark.start < code[before][1])


def _is_quoted(text: str, mark: Mark) -> bool:
    """Tell whether a mark is named in quotes or brackets, as texts about it do."""
    before = text[mark.start - 1 : mark.start] if mark.start else ""
    after = text[mark.end : mark.end + 1]
    if before in tuple("\"'“‘«(`\\") and after in tuple("\"'”’»)`,.;:?!\\"):
        return bool(before and after)
    return (bool(after) and after in "\"'”’»`") or before in tuple("“‘«")


def best_family(marks: Sequence[Mark]) -> str:
    """Name the family that explains a row's marks best: marks that few families share count
    more.
    """
    scores: dict[str, float] = {}
    for token in dict.fromkeys(mark.token for mark in marks):
        families = TOKENS[token][1] if token in TOKENS else ()
        for family in families:
            scores[family] = scores.get(family, 0.0) + 1 / len(families)
    order = list(FAMILIES)
    return max(scores, key=lambda name: (scores[name], -order.index(name))) if scores else UNKNOWN

"""Conversations rendered as other models' chat templates do it, and texts that talk about such
templates.

The renderings are written from the models' own templates, independently of the table that is
tested.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from conftest import WORDS

Turns = list[tuple[str, str]]  # (role, text); the last one is the user's


@dataclass(frozen=True)
class Style:
    """One template: how a prompt opens, how each turn is written, what invites and ends an
    answer.
    """

    family: str  # the beginning of the name that a finding gives it
    turns: dict[str, str]  # role -> the turn, with {}; without "system" it goes into the user's
    ask: str = ""  # what invites the answer
    end: str = ""  # what ends it
    begin: str = ""

    def prompt(self, turns: Turns) -> str:
        out = self.begin
        held = ""
        for role, text in turns:
            if role == "system" and "system" not in self.turns:
                held = text + "\n\n"
                continue
            out += self.turns[role].format(held + text)
            held = ""
        return out + self.ask


def heads(user: str, assistant: str, system: str | None = None, tail: str = "") -> dict[str, str]:
    found = {"user": user + "{}" + tail, "assistant": assistant + "{}" + tail}
    return found | ({"system": system + "{}" + tail} if system is not None else {})


def by_role(pattern: str, **names: str) -> dict[str, str]:
    """The same pattern for each role; `names` renames roles."""
    roles = ("system", "user", "assistant")
    return {role: pattern.replace("ROLE", names.get(role, role)) for role in roles}


STYLES = {
    "chatml": Style(
        "ChatML",
        by_role("<|im_start|>ROLE\n{}<|im_end|>\n"),
        "<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "chatml, generation prompt left out": Style(
        "ChatML", by_role("<|im_start|>ROLE\n{}<|im_end|>\n"), "", "<|im_end|>\n"
    ),
    "llama 2": Style(
        "Llama 2", {"user": "<s>[INST] {} [/INST]", "assistant": " {} </s>"}, "", " </s>"
    ),
    "llama 2, system": Style(
        "Llama 2",
        {
            "system": "<s>[INST] <<SYS>>\n{}\n<</SYS>>\n\n[/INST] Yes. </s>",
            "user": "<s>[INST] {} [/INST]",
            "assistant": " {} </s>",
        },
        "",
        " </s>",
    ),
    "mistral": Style(
        "Llama 2 and Mistral",
        {"user": "[INST] {} [/INST]", "assistant": "{}</s>"},
        "",
        "</s>",
        "<s>",
    ),
    "tekken": Style(
        "Llama 2 and Mistral",
        {
            "system": "[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]",
            "user": "[INST]{}[/INST]",
            "assistant": "{}</s>",
        },
        "",
        "</s>",
        "<s>",
    ),
    "llama 3": Style(
        "Llama 3",
        by_role("<|start_header_id|>ROLE<|end_header_id|>\n\n{}<|eot_id|>"),
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|begin_of_text|>",
    ),
    "llama 4": Style(
        "Llama 4",
        by_role("<|header_start|>ROLE<|header_end|>\n\n{}<|eot|>"),
        "<|header_start|>assistant<|header_end|>\n\n",
        "<|eot|>",
        "<|begin_of_text|>",
    ),
    "gemma": Style(
        "Gemma",
        {
            "user": "<start_of_turn>user\n{}<end_of_turn>\n",
            "assistant": "<start_of_turn>model\n{}<end_of_turn>\n",
        },
        "<start_of_turn>model\n",
        "<end_of_turn>",
        "<bos>",
    ),
    "phi-3": Style("Phi-3", by_role("<|ROLE|>\n{}<|end|>\n"), "<|assistant|>\n", "<|end|>"),
    "phi-4": Style(
        "Phi-4",
        by_role("<|im_start|>ROLE<|im_sep|>{}<|im_end|>"),
        "<|im_start|>assistant<|im_sep|>",
        "<|im_end|>",
    ),
    "zephyr": Style("Zephyr", by_role("<|ROLE|>\n{}</s>\n"), "<|assistant|>\n", "</s>"),
    "tulu": Style("Zephyr", by_role("<|ROLE|>\n{}\n"), "<|assistant|>\n", "<|endoftext|>"),
    "vicuna": Style(
        "Vicuna",
        {"system": "{} ", "user": "USER: {} ", "assistant": "ASSISTANT: {}</s>"},
        "ASSISTANT:",
        "</s>",
    ),
    "alpaca": Style(
        "Alpaca", heads("### Instruction:\n", "### Response:\n", "", "\n\n"), "### Response:\n"
    ),
    "alpaca, preamble": Style(
        "Alpaca",
        heads("### Instruction:\n", "### Response:\n", "", "\n\n"),
        "### Response:",
        "</s>",
        "Below is an instruction that describes a task. Write a response that appropriately"
        " completes the request.\n\n",
    ),
    "guanaco": Style(
        "Solar and Guanaco", heads("### Human: ", "### Assistant: ", None, "\n"), "### Assistant:"
    ),
    "solar": Style(
        "Solar and Guanaco",
        heads("### User:\n", "### Assistant:\n", "### System:\n", "\n\n"),
        "### Assistant:\n",
    ),
    "command-r": Style(
        "Cohere",
        {
            role: f"<|START_OF_TURN_TOKEN|><|{name}_TOKEN|>{{}}<|END_OF_TURN_TOKEN|>"
            for role, name in (("system", "SYSTEM"), ("user", "USER"), ("assistant", "CHATBOT"))
        },
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
    ),
    "deepseek": Style(
        "DeepSeek",
        {
            "system": "{}",
            "user": "<｜User｜>{}",
            "assistant": "<｜Assistant｜>{}<｜end▁of▁sentence｜>",
        },
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜>",
    ),
    "glm": Style("GLM", by_role("<|ROLE|>\n{}"), "<|assistant|>\n", "<|user|>", "[gMASK]<sop>"),
    "chatglm 2": Style("ChatGLM 2", {"user": "问：{}\n\n", "assistant": "答：{}\n\n"}, "答：", ""),
    "internlm": Style(
        "InternLM",
        {"user": "<|User|>:{}<eoh>\n", "assistant": "<|Bot|>:{}<eoa>\n"},
        "<|Bot|>:",
        "<eoa>",
    ),
    "openchat": Style(
        "OpenChat",
        {
            "user": "GPT4 Correct User: {}<|end_of_turn|>",
            "assistant": "GPT4 Correct Assistant: {}<|end_of_turn|>",
        },
        "GPT4 Correct Assistant:",
        "<|end_of_turn|>",
    ),
    "openassistant": Style(
        "OpenAssistant",
        {"user": "<|prompter|>{}<|endoftext|>", "assistant": "<|assistant|>{}<|endoftext|>"},
        "<|assistant|>",
        "<|endoftext|>",
    ),
    "granite": Style(
        "Granite",
        by_role("<|start_of_role|>ROLE<|end_of_role|>{}<|end_of_text|>\n"),
        "<|start_of_role|>assistant<|end_of_role|>",
        "<|end_of_text|>",
    ),
    "harmony": Style(
        "gpt-oss",
        {
            "system": "<|start|>system<|message|>{}<|end|>",
            "user": "<|start|>user<|message|>{}<|end|>",
            "assistant": "<|start|>assistant<|channel|>final<|message|>{}<|end|>",
        },
        "<|start|>assistant",
        "<|return|>",
    ),
    "nemo": Style(
        "NeMo",
        {
            "system": "<extra_id_0>System\n{}\n",
            "user": "<extra_id_1>User\n{}\n",
            "assistant": "<extra_id_1>Assistant\n{}\n",
        },
        "<extra_id_1>Assistant\n",
        "\n<extra_id_1>",
    ),
    "kimi": Style(
        "Kimi",
        by_role("<|im_ROLE|>ROLE<|im_middle|>{}<|im_end|>"),
        "<|im_assistant|>assistant<|im_middle|>",
        "<|im_end|>",
    ),
    "minimax": Style(
        "MiniMax", by_role("]~b]ROLE\n{}[e~[\n", assistant="ai"), "]~b]ai\n", "[e~[", "]~!b["
    ),
    "hunyuan": Style(
        "Hunyuan",
        {
            "system": "<|startoftext|>{}<|extra_4|>",
            "user": "<|startoftext|>{}<|extra_0|>",
            "assistant": "{}<|eos|>",
        },
        "",
        "<|eos|>",
    ),
    "exaone": Style(
        "EXAONE",
        {
            "system": "[|system|]{}[|endofturn|]\n",
            "user": "[|user|]{}\n",
            "assistant": "[|assistant|]{}[|endofturn|]\n",
        },
        "[|assistant|]",
        "[|endofturn|]",
    ),
    "jamba": Style(
        "Jamba",
        by_role("<|bom|><|ROLE|> {}<|eom|>"),
        "<|bom|><|assistant|>",
        "<|eom|>",
        "<|startoftext|>",
    ),
    "apertus": Style(
        "Apertus",
        by_role("<|ROLE_start|>{}<|ROLE_end|>"),
        "<|assistant_start|>",
        "<|assistant_end|>",
    ),
    "ling": Style(
        "Ling",
        {
            role: f"<role>{name}</role>{{}}<|role_end|>"
            for role, name in (("system", "SYSTEM"), ("user", "HUMAN"), ("assistant", "ASSISTANT"))
        },
        "<role>ASSISTANT</role>",
        "<|role_end|>",
    ),
    "seed": Style(
        "Seed", by_role("<seed:bos>ROLE\n{}<seed:eos>"), "<seed:bos>assistant\n", "<seed:eos>"
    ),
    "phi-2": Style("Phi-2", {"user": "Instruct: {}\n", "assistant": "Output: {}\n"}, "Output:", ""),
    "rwkv": Style(
        "plain labels",
        {"user": "User: {}\n\n", "assistant": "Assistant: {}\n\n"},
        "Assistant:",
        "\n\nUser:",
    ),
    "falcon": Style(
        "Falcon", {"user": "User: {}\n", "assistant": "Falcon: {}\n"}, "Falcon:", "\nUser:"
    ),
    "unknown": Style(
        "of no known family",
        by_role("<|zq_ROLE|>\n{}<|zq_end|>\n"),
        "<|zq_assistant|>\n",
        "<|zq_end|>",
    ),
    "unknown, of turn": Style(
        "of no known family",
        by_role("<begin_of_msg>ROLE\n{}<end_of_msg>\n"),
        "<begin_of_msg>assistant\n",
        "<end_of_msg>",
    ),
}
# Where nothing ends an answer, or only a label does, an answer carries no end token.
WITH_END = [name for name, style in STYLES.items() if "<" in style.end or "[" in style.end]


def sentence(rng: random.Random, length: int | None = None) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length or rng.randint(3, 12)))


def conversation(rng: random.Random) -> Turns:
    """One to three questions, some with a system turn."""
    turns = [("system", sentence(rng).capitalize() + ".")] if rng.random() < 0.4 else []
    for _ in range(rng.choice((0, 0, 1, 2))):
        turns += [
            ("user", sentence(rng).capitalize() + rng.choice("?.")),
            ("assistant", sentence(rng).capitalize() + "."),
        ]
    return [*turns, ("user", sentence(rng).capitalize() + rng.choice(("?", ".", "?\nIn a word.")))]


def plain_row(rng: random.Random) -> dict:
    """A row without any mark, whose texts are unlike."""
    return {
        "prompt": f"{sentence(rng).capitalize()} {rng.getrandbits(40):x}?",
        "chosen": f"Yes, {sentence(rng)}.",
        "rejected": f"No, {sentence(rng)}!",
    }


# ---------------------------------------------------------------- texts about marks

NAMES = (
    "<|im_end|>", "<|im_start|>", "<|endoftext|>", "</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>",
    "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<eos>",
    "<｜end▁of▁sentence｜>", "<|channel|>", "<|return|>", "<extra_id_1>", "### Response:",
    "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
QUESTIONS: tuple[Callable[[str, str], str], ...] = (
    lambda a, b: f"What does {a} do?",
    lambda a, b: f"{a} or {b}, which one ends a turn?",
    lambda a, b: f"{a} is printed at the end of every answer. Why?",
    lambda a, b: f"Why does my model print {a} after each answer",
    lambda a, b: f"Explain the difference between {a} and {b}.",
    lambda a, b: f"Explain {a}",
    lambda a, b: f"{a} vs {b}",
    lambda a, b: f"What is {a}",
    lambda a, b: f"How do I strip {a}, {b} and similar tokens from text in Python?",
    lambda a, b: f'My tokenizer has "{a}" as its EOS. Should I add "{b}"?',
    lambda a, b: f"The template is:\n```\n{a}user\nHello{b}\n{a}assistant\n```\nIs it right?",
    lambda a, b: f"```\n{a}user\n{{{{ prompt }}}}{b}\n```",
    lambda a, b: f"Is this ChatML?\n\n    {a}user\n    Hello{b}\n",
    lambda a, b: f"In this log, what went wrong?\nUser: root\nHost: box\nStatus: {a}",
)
ANSWERS: tuple[Callable[[str, str], str], ...] = (
    lambda a, b: f"The token {a} ends a turn, and {b} starts one.",
    lambda a, b: f"It is called {a}",
    lambda a, b: f"Every turn ends with {a}",
    lambda a, b: f"The answer is short: {a}",
    lambda a, b: f"`{a}` closes a turn.",
    lambda a, b: f"{a} marks the start of a turn; {b} marks its end.",
    lambda a, b: f"Use this:\n```\n{a}user\nHello{b}\n```",
    lambda a, b: f"Use this:\n\n{a}user\nHello{b}",
    lambda a, b: f'Set eos_token="{a}" and pad_token="{b}".',
    lambda a, b: f"There are two: {a} and {b}",
    lambda a, b: f"You want to stop at {a}.",
    lambda a, b: f"text.replace('{a}', '').replace('{b}', '')",
    lambda a, b: f"- {a}\n- {b}\n- none of these",
    lambda a, b: f"Write the prompt in this format:\n\nHuman: hello {a}\n\nAssistant: hi",
    lambda a, b: f"1. {a}: ends a turn.\n2. {b}: starts one.",
)


def row_about_marks(rng: random.Random) -> dict:
    """A question about marks, with two answers about them."""
    a, b = rng.sample(NAMES, 2)
    one, two = rng.sample(ANSWERS, 2)
    return {"prompt": rng.choice(QUESTIONS)(a, b), "chosen": one(a, b), "rejected": two(b, a)}


# Written by hand, after the generator's sentences had been used to tune the rules.
ABOUT_MARKS = (
    (
        "I fine-tuned a model and it keeps generating <|im_end|>"
        " <|im_start|>user at the end of replies. How can I stop it?"
    ),
    "<s>[INST] {prompt} [/INST] — is this the right format for Llama 2?",
    "<s>[INST] Hello [/INST] is what I send, but the reply is empty",
    (
        "<|im_start|>user\nHello<|im_end|>\nThis is what vLLM sends to my model."
        " Why is there no system prompt?"
    ),
    "To end the turn, the model emits <|im_end|>. Nothing else is needed.",
    "Sure! The special token is:\n\n<|im_end|>",
    "It's </s>",
    "Generation stops once the model outputs </s>",
    "It stops at </s>",
    "The EOS string of Mistral is </s>",
    "Just use </s>",
    "You need <|eot_id|>",
    "Llama 3 uses <|eot_id|>, Llama 2 </s>",
    "In HTML, <s>this</s> is struck out.",
    "The <s> tag strikes text out; close it with </s>",
    "`<|im_end|>`",
    '"<|im_end|>"',
    "Answer: <|im_end|>",
    "<|im_end|>!",
    'Set `stop=["<|im_end|>", "</s>"]` and it works.',
    (
        "A ChatML conversation is a sequence of messages, each opened by"
        " <|im_start|>{role} and closed by <|im_end|>."
    ),
    "def render(m):\n    return f\"<|im_start|>{m['role']}\\n{m['content']}<|im_end|>\"",
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "Convert this to the Alpaca format:\n### Instruction:\nAdd two numbers\n### Response:",
    "The Alpaca format has ### Instruction: and ### Response: headings.",
    "### Instructions:\n1. Preheat the oven.\n2. Bake.",
    "Here is a short dialogue.\n\nUser: Hi there!\nAssistant: Hello! How can I help?",
    "Use these credentials.\nUser: admin\nPassword: secret",
    "Write a conversation between a human and an AI.",
    "Human: a member of the species Homo sapiens.",
    'The format of Anthropic\'s prompts is "\\n\\nHuman: question\\n\\nAssistant:".',
    "<|user|> and <|assistant|> are the markers of Zephyr.",
    "[INST] marks the beginning of the user's text.",
    "<start_of_turn>model is how Gemma opens an answer.",
    "<|begin_of_text|> is added by the tokenizer, so do not write it twice.",
    (
        "What is the difference between <|endoftext|> and <|im_end|> in"
        " Qwen2.5, and which should be the pad token"
    ),
    "Can you explain <<SYS>> and <</SYS>>?",
    "Tokens: <|im_start|>, <|im_end|>, <|endoftext|>",
    "| token | id |\n|---|---|\n| <|im_start|> | 1 |\n| <|im_end|> | 2 |",
    "<|im_start|> = 1\n<|im_end|> = 2",
    "1. <|im_start|>\n2. <|im_end|>",
    "list |> List.map f <| xs",
    "a <|> b <|> c",
    "The operator <|> is alternative.",
    "It prints <|im_end|>\nand goes on.",
    "Yes: </s>",
    "The token is </s>.",
    "That would be <eos>",
    "That'd be <|eot_id|>",
    "Q: What is BOS? A: <s>",
    "The pad token defaults to <pad>, the end token to </s>",
    "Gemma's turns look like <start_of_turn>user ... <end_of_turn>",
    "The model sees \n<|user|>\nyour question\n<|assistant|>\nand continues from there.",
    "Zephyr looks like this:\n<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>",
    "Here it is, in full.\n\n<|system|>\nYou are kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\n",
)

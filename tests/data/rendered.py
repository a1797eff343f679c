"""Conversations rendered as other models' chat templates do it.

The renderings are written from the models' own templates, independently of the table that is
tested.
"""

from __future__ import annotations

import random
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


# Renderings that no style above has, written after the rules: (prompt, answer); {Q} and {A} stand
# for a question and its answer.
RENDERED_OTHERWISE = (
    ("<|human|>\n{Q}\n<|bot|>\n", "{A}"),
    ("<s>Human: {Q}\n</s><s>Assistant: ", "{A}"),
    ("<|begin▁of▁sentence|>User: {Q}\n\nAssistant:", "{A}"),
    ("<｜begin▁of▁sentence｜>User: {Q}\n\nAssistant:", "{A}"),
    ("### Question:\n{Q}\n\n### Answer:\n", "{A}"),
    ("<user>{Q}</user><assistant>", "{A}"),
    ("<|USER|>{Q}<|ASSISTANT|>", "{A}"),
    ("[USER] {Q} [ASSISTANT]", "{A}"),
    ("<|start_header_id|>user<|end_header_id|>\n\n{Q}", "{A}"),
    ("<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n<think>\n", "{A}"),
    ("System: You are kind.\n\nUser: {Q}\n\nAssistant:", "{A}"),
    ("A chat between a curious human and an AI.\n\nHuman: {Q}\n\nAssistant:", "{A}"),
    ("<|system|>\nYou are kind.\n<|end|>\n<|user|>\n{Q}\n<|end|>\n<|assistant|>", "{A}"),
    ("<s><|user|>\n{Q}<|end|>\n<|assistant|>\n", "{A}"),
    ("<|endoftext|>{Q}", "{A}"),
    ("<s>{Q}</s>", "{A}"),
    ("<bos>{Q}", "{A}"),
    ("<|begin_of_text|>{Q}", "{A}"),
    ("{Q}</s>", "{A}"),
    ("{Q} </s>", "{A}"),
    ("{Q}<|eot_id|>", "{A}"),
    ("{Q} [/INST]", "{A}"),
    ("{Q}\n\n### Response:", "{A}"),
    ("{Q}\n<|assistant|>\n", "{A}"),
    ("{Q} ASSISTANT:", "{A}"),
    ("[Round 1]\n\n问：{Q}\n\n答：", "{A}"),
    ("<|im_start|>user<|im_sep|>{Q}<|im_end|><|im_start|>assistant<|im_sep|>", "{A}"),
    ("<reserved_106>{Q}<reserved_107>", "{A}"),
    ("USER: {Q}\nASSISTANT:", "{A}"),
    ("### USER: {Q}\n### ASSISTANT:", "{A}"),
    ("<|start_of_turn|>user\n{Q}<|end_of_turn|>\n", "{A}"),
    ("{Q}", "Assistant: {A}"),
    ("{Q}", "<|assistant|>\n{A}"),
    ("{Q}", " {A} </s>"),
    ("{Q}", "{A}<|im_end|>\n<|endoftext|>"),
    ("{Q}", "{A}</s></s></s>"),
    ("{Q}", "{A}<pad><pad>"),
    ("{Q}", "{A}\n\n### Instruction:\nNext one"),
    ("{Q}", "{A}\n\nHuman: thanks!\n\nAssistant: Welcome."),
    ("{Q}", "{A}\nUser: And the sea?"),
    ("{Q}", "{A}<|user|>And the sea?"),
    ("{Q}", "{A}[INST] And the sea? [/INST] South."),
    ("{Q}", "{A} USER: And? ASSISTANT: Yes."),
    ("{Q}", "{A}\n### Human: And?"),
    ("{Q}", "{A}\n<|im_start|>user\nAnd?"),
    ("{Q}", "{A}<start_of_turn>user\nAnd?"),
    ("{Q}", "[/INST] {A}"),
    ("{Q}", "<s> {A}</s>"),
    ("{Q}", "{A}\n</s>"),
    ("{Q}", "<pad>{A}"),
    ("{Q}", "{A}[EOS]"),
    ("{Q}", "{A}<EOS>"),
    ("{Q}", "{A}<end>"),
    ("{Q}", "{A}<|end|>"),
    ("{Q}", "{A}</assistant>"),
    ("{Q}", "<|channel|>final<|message|>{A}<|return|>"),
    (
        "{Q}",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{A}",
    ),
    ("{Q}", "{Q}\n{A}"),
    ("{Q}", "Question: {Q}\nAnswer: {A}"),
    ("{Q}", "**{Q}**\n\n{A}"),
)

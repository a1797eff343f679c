"""Texts that talk about chat templates and their marks, generated and written by hand."""

from __future__ import annotations

import random
from collections.abc import Callable

NAMES = (
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "</s>",
    "<s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|channel|>",
    "<|return|>",
    "<extra_id_1>",
    "### Response:",
    "<|END_OF_TURN_TOKEN|>",
)
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
    "Does Qwen add <|endoftext|> after <|im_end|>?",
    "When I print tokenizer.eos_token I get </s>. Is this correct?",
    "Why do I see [/INST] in the output?",
    "My prompt begins with <|begin_of_text|>, is that right?",
    "I get 'Hello!<|eot_id|>' as the output, how to drop the tail?",
    "Please list the special tokens of Llama 3 such as <|eot_id|> and <|start_header_id|>",
    "Set tokenizer.pad_token to <pad>",
    "Is it [INST] or [INST]\\n?",
    "<|im_end|>?",
    "What's </s>?",
    "what is <|im_sep|>",
    "Difference of <eos> and </s>",
    "Use <|eot_id|> as a stop string.",
    "The stop string should be <|eot_id|>.",
    "Llama 3: <|eot_id|>\nMistral: </s>\nGemma: <end_of_turn>",
    "The three end tokens are:\n\n* Llama 3: <|eot_id|>\n* Mistral: </s>",
    "Gemma closes each turn with <end_of_turn>\n\nLlama with <|eot_id|>",
    "In ChatML you'd write <|im_start|>user\\nHi<|im_end|>",
    "Regex: <\\|im_end\\|>",
    "s.split('</s>')[0]",
    "if text.endswith('<|im_end|>'): text = text[:-10]",
    "Because the tokenizer does not know <|im_end|>, it is split into six pieces",
    'As the docs say: "<s>[INST] Hi [/INST]"',
    "A: </s>",
    "`</s>`.",
    'It\'s probably "</s>"',
    "Yes, with <|im_end|>",
    "The answer ends in </s>",
    "The output should end in </s> but does not.",
    "Try this template:\n\n### Instruction:\n{instruction}\n\n### Response:\n{response}",
    "The first line is ### Instruction: and the last is ### Response:",
    "To be precise, it's <|im_start|>assistant",
    "The model then continues after <|im_start|>assistant",
    "Vicuna uses USER: and ASSISTANT: as its labels",
    'The format is "USER: hi ASSISTANT: hello</s>"',
    "HTML: <s>old</s> new",
    "He wrote <s>two</s>",
    "~~two~~ or <s>two</s>?",
    "SSML needs <s>one sentence</s>",
)

"""Chat templates that were written to be tried: faithful ones, and ones with one habit each."""

from __future__ import annotations

E = "<end>"
EACH = "{% for m in messages %}"
OPEN = "{% if add_generation_prompt %}assistant:{% endif %}"


def turn(content: str = "m.content", role: str = "m.role") -> str:
    return "{{ " + role + " }}:{{ " + content + " }}" + E


def chat(body: str, before: str = "", opening: str = OPEN) -> str:
    return f"{before}{EACH}{body}{{% endfor %}}{opening}"


LAST = "loop.last"
THOUGHT = (
    "{% set t = m.reasoning_content or '' %}{% if t %}<think>\n{{ t }}\n</think>\n\n{% endif %}"
)
# Qwen3's habit: a block is taken out of earlier answers, and written, perhaps empty, into the last
QWEN3 = """{% for m in messages %}{% set text = m.content %}{% set thought = '' %}\
{% if m.role == 'assistant' %}\
{% if m.reasoning_content %}{% set thought = m.reasoning_content %}\
{% elif '</think>' in text %}\
{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}\
{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}\
assistant:{% if loop.last or thought and false %}<think>\n{{ thought }}\n</think>\n\n{% endif %}\
{{ text }}<end>{% else %}{{ m.role }}:{{ m.content }}<end>{% endif %}{% endfor %}\
{% if add_generation_prompt %}assistant:\
{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}\
{% endif %}"""
TOOLS = "{% if tools %}tools:{{ tools | tojson }}<end>{% endif %}"
DOCUMENTS = (
    "{% if documents %}{% for d in documents %}doc:{{ d.title }}|{{ d.text }}<end>{% endfor %}"
    "{% endif %}"
)
CALLS = (
    "{% if m.tool_calls %}{% for c in m.tool_calls %}call:{{ c.function.name }}"
    "({{ c.function.arguments | tojson }}){% endfor %}{% endif %}"
)

# Templates that write every text as it is. Some refuse rows; that is no change.
FAITHFUL = {
    "plain": chat(turn()),
    "newline behind the end": chat(turn() + "\n"),
    "prefix space": chat("{{ m.role }}: {{ m.content }}" + E, opening=OPEN.replace(":", ": ")),
    "default system": chat(
        turn(), "{% if messages[0].role != 'system' %}system:Be kind.<end>{% endif %}"
    ),
    "no system": chat(
        "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + turn()
    ),
    "strict alternation": chat(
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
        + turn()
    ),
    "date": chat(turn(), "system:Today is {{ strftime_now('%d %B %Y') }}.<end>"),
    "generation blocks": chat(
        "{% if m.role == 'assistant' %}assistant:{% generation %}{{ m.content }}<end>"
        "{% endgeneration %}{% else %}" + turn() + "{% endif %}"
    ),
    "reasoning": chat("{{ m.role }}:" + THOUGHT + "{{ m.content }}" + E),
    "tools and documents": chat("{{ m.role }}:{{ m.content }}" + CALLS + E, TOOLS + DOCUMENTS),
    "think opened": chat(
        turn(), opening="{% if add_generation_prompt %}assistant:<think>\n{% endif %}"
    ),
    "no end": chat("{{ m.role }}:{{ m.content }}\n"),
}

# Templates with a habit that changes or loses text, in some rows or in all.
CHANGING = {
    "trims": chat(turn("m.content | trim")),
    "trims answers": chat(turn("(m.content | trim) if m.role == 'assistant' else m.content")),
    "folds blanks": chat(turn("m.content.split() | join(' ')")),
    "joins lines": chat(turn("m.content.splitlines() | join(' ')")),
    "lower-cases": chat(turn("m.content | lower")),
    "truncates": chat(turn("m.content[:40]")),
    "truncates words": chat(turn("m.content | truncate(30)")),
    "escapes": chat(turn("m.content | e")),
    "JSON": chat(turn("m.content | tojson")),
    "replaces": chat(turn("m.content | replace('a', 'o')")),
    "drops system": chat("{% if m.role != 'system' %}" + turn() + "{% endif %}"),
    "drops tool": chat(
        "{% if m.role in ('system', 'user', 'assistant') %}" + turn() + "{% endif %}"
    ),
    "drops history": chat(
        "{% if loop.revindex <= 2 or m.role == 'system' %}" + turn() + "{% endif %}"
    ),
    "drops earlier answers": chat(
        "{% if m.role != 'assistant' or loop.last %}" + turn() + "{% endif %}"
    ),
    "system last": (
        "{% for m in messages if m.role != 'system' %}"
        "{% if loop.revindex == 2 %}{% for s in messages if s.role == 'system' %}"
        "{{ s.role }}:{{ s.content }}<end>{% endfor %}{% endif %}" + turn() + "{% endfor %}" + OPEN
    ),
    "writes twice": chat(turn() + "{% if m.role == 'user' %}again:{{ m.content }}<end>{% endif %}"),
    "reverses history": (
        "{% for m in messages[:-1] | reverse %}" + turn() + "{% endfor %}"
        "{% set m = messages[-1] %}" + turn() + OPEN
    ),
    "adds to answers": chat(
        "{{ m.role }}:{% if m.role == 'assistant' %}Sure! {% endif %}{{ m.content }}" + E
    ),
    "adds to some": chat(
        "{{ m.role }}:{% if 'a' in m.content %}(with a) {% endif %}{{ m.content }}" + E
    ),
    "think emptied": QWEN3,
    "think stripped": chat(
        "{{ m.role }}:{{ m.content.split('</think>')[-1] }}" + E,
        opening="{% if add_generation_prompt %}assistant:<think>\n{% endif %}",
    ),
    "think required": chat(
        "{% if m.role == 'assistant' and '</think>' not in m.content %}"
        "{{ raise_exception('thinking is required') }}{% endif %}" + turn()
    ),
    "empty think always": chat(
        "{{ m.role }}:{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content }}" + E
    ),
    "runs together": "{% for m in messages %}{{ m.content }}{% endfor %}",
}
EVERY = FAITHFUL | CHANGING

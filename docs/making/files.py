"""Files of the repository on a page: code, recipes, examples."""

from __future__ import annotations

import ast
import re

from making.text import ROOT, block, plain

LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".jsonl": "json"}


def code(name: str) -> str:
    """A file as it stands, with its name above."""
    file = ROOT / name
    return f"`{name}`\n\n" + block(file.read_text(encoding="utf-8"), LANGUAGES[file.suffix])


def recipes() -> str:
    """Every recipe: what its header promises, and the recipe."""
    return "\n\n".join(
        _recipe(file.name, file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "src/accord/recipes").glob("*.yaml"))
    )


def _recipe(name: str, text: str) -> str:
    lines = text.splitlines()
    length = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = [line.removeprefix("#").strip() for line in lines[:length]]
    train = next(line for line in header if line.startswith("accord train "))
    says = "\n".join(f"- {plain(line)}" for line in header if line and line != train)
    command = f"accord recipes {name.removesuffix('.yaml')} --output {name}\n{train}"
    recipe = block("\n".join(lines[length:]), "yaml")
    return f"### {name}\n\n{says}\n\n{block(command, 'bash')}\n\n{recipe}"


def examples() -> str:
    """Every numbered example: its title, what its header says, how to run it."""
    scripts = sorted(
        path for path in (ROOT / "examples").iterdir() if re.match(r"\d{3}_", path.name)
    )
    return "\n\n".join(_example(path.name, path.read_text(encoding="utf-8")) for path in scripts)


def _example(name: str, text: str) -> str:
    if name.endswith(".py"):
        title, _, header = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    else:
        lines = [
            line.removeprefix("#").strip() for line in re.findall(r"^#(?!!).*", text, re.MULTILINE)
        ]
        title, header = lines[0], "\n".join(lines[1:])
    program = "python" if name.endswith(".py") else "bash"
    said = [
        f"- **{word}** {plain(' '.join(rest.split()))}"
        for word, rest in re.findall(
            r"(Shows|Takes|Expect): (.*?)(?=\s(?:Takes|Expect):|\Z)", header, re.DOTALL
        )
    ]
    return (
        f"### {name.partition('_')[0]}: {plain(title)}\n\n"
        + "\n".join(said)
        + f"\n\n{block(f'{program} examples/{name}', 'bash')}"
    )

"""Chat templates of model families in wide use, rebuilt from what each is known to write.

None is a copy. Each keeps its family's habits: what it trims, where the system text goes, which
thinking it takes out, how it writes tools, whether it writes the date.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "families_jinja"
FAMILIES = {file.stem: file.read_bytes().decode() for file in sorted(FOLDER.glob("*.jinja"))}

# control tokens that templates put together from a role
CONTROL = (
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|observation|>",
    "[|user|]",
    "[|assistant|]",
)

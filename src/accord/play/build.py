"""The playground as one file: the page's ES modules and style inside its HTML, with a policy that
allows nothing else.

The modules under `page/` are read by a browser or by node as they are. Inlining needs little: each
module becomes a function that returns what it exports, in the order of their imports. This file
knows the forms of `import` and `export` that the page uses; any other is an error here, not a
broken page.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from pathlib import Path

from accord.errors import CheckpointError, UsageError

PAGE = Path(__file__).parent / "page"
ENTRY = "main.js"
IMPORT = re.compile(r"^import \{([^}]*)\} from '([^']+)';\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def write_page(output: str | None, cache: Path) -> Path:
    """Write the page; return its absolute path.

    Args:
      output: the file to write; in the cache if None.

    Raises:
      UsageError: `output` is a folder. CheckpointError: the file cannot be written.
    """
    file = (Path(output).expanduser() if output else cache / "play.html").absolute()
    if file.is_dir():
        raise UsageError(
            f"--output {file}: this is a folder; give the file to write, such as"
            f" {file / 'play.html'}."
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f".staging-{file.name}")
        staged.write_text(page(), encoding="utf-8", newline="\n")
        staged.replace(file)
    except OSError as error:
        raise CheckpointError(
            f"{file}: {error.strerror}. Give another place with --output FILE."
        ) from error
    return file


def page() -> str:
    """Return the whole page as one HTML document that loads nothing."""
    style, script = (PAGE / "style.css").read_text(encoding="utf-8"), bundle(ENTRY)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src"
        " data: blob:; base-uri 'none'; form-action 'none'"
    )
    shell = (PAGE / "index.html").read_text(encoding="utf-8")
    parts = {"csp": policy, "style": style, "script": script}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], shell)


def bundle(entry: str) -> str:
    """Return one script of a module and all that it imports, each before the module that needs
    it.
    """
    done: dict[str, str] = {}
    _collect(entry, done, ())
    text = "'use strict';\nconst modules = {};\n" + "".join(done.values())
    assert "</script" not in text.lower(), "a module would end its own script element"
    return text


def _collect(name: str, done: dict[str, str], above: tuple[str, ...]) -> None:
    """Put a module after its imports into `done`: name -> its text as a function."""
    assert name not in above, f"modules import each other: {' -> '.join((*above, name))}"
    if name in done:
        return
    source = (PAGE / name).read_text(encoding="utf-8")
    needs = {
        path: posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        for _, path in IMPORT.findall(source)
    }
    for need in needs.values():
        _collect(need, done, (*above, name))
    done[name] = _as_function(name, source, needs)


def _as_function(name: str, source: str, needs: dict[str, str]) -> str:
    exports = ", ".join(EXPORT.findall(source))
    body = IMPORT.sub(
        lambda match: f"const {{{match[1]}}} = modules['{needs[match[2]]}'];\n", source
    )
    body = EXPORT.sub("", body)
    left = re.search(r"^\s*(import|export)\b.*$", body, re.MULTILINE)
    assert left is None, f"{name}: a form that the page does not use: {left[0]}"
    return f"modules['{name}'] = (() => {{\n{body}return {{ {exports} }};\n}})();\n"


def _hash(text: str) -> str:
    """Return the content-security-policy's name for an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

"""Read every data file of a folder, encode it under several chat templates, and report what is
used, named, changed and refused; then the cost of the check of template fidelity.

    python benchmarks/reading.py --data ../shared/data     # results in
                                                           # benchmarks/results/reading.json

Exit code 0 means that no file was refused, neither while it was read nor under the model's own
chat template. Under the others refusals are expected: each has one habit of a template in wide use
that changes what a row says. Costs are processor time (`time.process_time`), measured in turns in
one process: `encode` as it is and the decoding of its sample, against `encode` without the
comparison, which renders and tokenises. Compare ratios; the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from accord.auditing.run_rows import foreign_marks, foreign_marks_of_prompts
from accord.data.containers import locate
from accord.data.encoding_findings import findings
from accord.data.ledger import Ledger
from accord.data.prompts import read_prompts
from accord.data.read import Dataset, read, stream
from accord.data.roundtrip_checks import roundtrip_findings
from accord.data.rows import Rows
from accord.data.templates import Template, make_template
from accord.data.tokenizer_text import Unfit
from accord.data.trees import Encoding, Limits, encode
from accord.models.embedded import embedded_folder
from accord.types import DataError, Example, Finding

RESULT = Path(__file__).parent / "results" / "reading.json"
ENDINGS = (".jsonl", ".jsonl.gz")
WHOLE = Limits(max_tokens=1 << 24)  # lengths are no question here: nothing is cut
MAX_UNFIT = 0.001  # the default of data.max_rejected
OTHERS = 2_000  # rows of a file under templates that are not the model's own, spread evenly
PART = 100  # rows between two turns of a measurement
ROWS = 10_000  # rows of which the cost is reported; those of smaller files are repeated
COSTS = ("permissive_mix/train", "truthfulqa/kto_train", "hh_helpful/train")
# What the check of fidelity must cost at most, as a share of tokenising the rows
GOAL = 0.15

TURN = "<|im_start|>{{ ROLE }}\n{{ TEXT }}<|im_end|>\n"
ANSWER = "{% if add_generation_prompt %}<|im_start|>assistant\nOPENED{% endif %}"


def _chat(role: str, text: str, before: str = "", inside: str = "", opened: str = "") -> str:
    turn = TURN.replace("ROLE", role).replace("TEXT", text)
    turn = turn.replace("\n{{", f"\n{inside}{{{{", 1)
    body = f"{{% for m in messages %}}{turn}{{% endfor %}}"
    return before + body + ANSWER.replace("OPENED", opened)


# The habit of a template in wide use, written with the embedded model's own marks.
TEMPLATES = {
    "Llama 3: trims every turn": _chat("m.role", "m.content | trim"),
    "Gemma: merges the system turn, trims": _chat(
        "m.role",
        "(system if loop.first else '') + (m.content | trim)",
        "{% set system = '' %}{% if messages[0].role == 'system' %}"
        "{% set system = (messages[0].content | trim) + '\n\n' %}"
        "{% set messages = messages[1:] %}{% endif %}",
    ),
    "Qwen3: an empty think block": _chat(
        "m.role",
        "m.content",
        inside="{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}",
        opened="{% if enable_thinking is defined and not enable_thinking %}"
        "<think>\n\n</think>\n\n{% endif %}",
    ),
}
OWN = "own"


@dataclass(frozen=True)
class File:
    """One data file as it was read: rows, or prompts without answers."""

    ledger: Ledger
    dataset: Dataset | None
    questions: Sequence = ()
    kind: str = "prompts"


def data_files(folder: Path) -> list[Path]:
    """List the data files below a folder."""
    return sorted(each for each in folder.rglob("*") if each.name.endswith(ENDINGS))


def name_of(file: Path, folder: Path) -> str:
    """Return a file's name without the folder and its endings."""
    return str(file.relative_to(folder)).removesuffix(".gz").removesuffix(".jsonl")


def read_file(path: Path) -> File:
    """Read a file as the kind of rows that most of it holds; as prompts where it holds no answers.

    Raises:
      DataError: accord refuses to read it.
    """
    with locate(path) as source:
        found = stream(source)
        for _ in islice(found, 200):
            pass
        kinds = found.kinds
    if not kinds:
        asked = read_prompts(str(path))
        return File(asked.ledger, None, asked.prompts)
    kind = kinds.most_common(1)[0][0]
    dataset = read(path, kind)
    return File(dataset.ledger, dataset, kind=kind)


def account(file: File) -> dict:
    """Return what became of a file's rows, columns and keys."""
    found = file.ledger.as_dict()
    columns = found["columns"]
    return {
        "kind": file.kind,
        "rows": found["rows"],
        "used": found["used"],
        "examples": found["examples"],
        "rejected": found["reasons"],
        "formats": dict(file.ledger.formats),
        "columns": columns | {"used": list(columns["used"])},
        "message_keys": found["message_keys"],
        "notes": found["notes"],
    }


def templates_of(tokenizer_at: Callable[[], PreTrainedTokenizerBase]) -> dict[str, Template]:
    """Make the template of each name, with a tokenizer of its own."""
    made = {OWN: make_template(tokenizer_at(), "auto")}
    for name, text in TEMPLATES.items():
        tokenizer = tokenizer_at()
        tokenizer.chat_template = text
        made[name] = make_template(tokenizer, "auto")
    return made


def spread(items: Sequence, most: int) -> list:
    """Choose at most so many, from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[k * len(items) // most] for k in range(most)]


def under(file: File, template: Template, most: int | None) -> dict:
    """Encode a file under a template; return what changed, what did not fit, and refusals."""
    if file.dataset is None:
        return _prompts_under(file, template, most)
    examples = spread(file.dataset.examples, most or len(file.dataset.examples))
    encoding = encode(examples, template, WHOLE)
    found = findings(encoding, template, MAX_UNFIT, 1.0)
    if encoding.trees:
        found += roundtrip_findings(encoding, template, template.end_ids, MAX_UNFIT)
        found.append(_marks(file.dataset, encoding))
    return {
        "rows": len(examples),
        "trees": len(encoding.trees),
        "unfit": dict(encoding.reasons.most_common()),
        "changed": {cause: each.rows for cause, each in encoding.account.changed.items()},
        "shapes": len(encoding.account.shapes),
        "warnings": _said(found, "warning"),
        "refused": _said(found, "refused"),
    }


def _marks(dataset: Dataset, encoding: Encoding) -> Finding:
    return foreign_marks(Rows(dataset, encoding), "rows")


def _prompts_under(file: File, template: Template, most: int | None) -> dict:
    questions = spread(file.questions, most or len(file.questions))
    unfit: Counter = Counter()
    for question in questions:
        try:
            template.question(question.turns, question.inputs)
        except Unfit as problem:
            unfit[problem.reason] += 1
    found = [foreign_marks_of_prompts(questions, "prompts", allowed=False)]
    too_many = sum(unfit.values()) > MAX_UNFIT * len(questions)
    refused = {"prompts": "; ".join(unfit)} if too_many else {}
    return {
        "rows": len(questions),
        "unfit": dict(unfit.most_common()),
        "warnings": _said(found, "warning"),
        "refused": refused | _said(found, "refused"),
    }


def _said(found: Sequence[Finding], verdict: str) -> dict[str, str]:
    return {each.check: each.says for each in found if each.verdict == verdict}


# ---------------------------------------------------------------- what the check costs


@contextmanager
def without_comparison() -> Iterator[None]:
    """Leave out the comparison of texts; rendering and tokenising stay."""
    kept = Template._compared
    Template._compared = lambda *_, **__: ([], None, 0)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Template._compared = kept  # type: ignore[method-assign]


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cost(
    examples: Sequence[Example], template_at: Callable[[], Template], repeats: int, rows: int = ROWS
) -> dict:
    """Measure the check of fidelity against the encoding without it, in turns."""
    chosen = list(islice(cycle(examples), rows))
    encode(chosen[:PART], template_at(), WHOLE)  # caches of the libraries
    found = [_repeat(chosen, template_at(), number) for number in range(repeats)]
    plain, compared, decoded = (median(column) for column in zip(*found, strict=True))
    shares = [(with_it - without + ends) / without for without, with_it, ends in found]
    return {
        "rows": len(chosen),
        "distinct_rows": min(len(examples), len(chosen)),
        "repeats": repeats,
        "seconds_tokenising": round(plain, 2),
        "seconds_comparison": round(compared - plain, 2),
        "seconds_decoding": round(decoded, 2),
        "share": round(median(shares), 4),
        "shares": [round(each, 4) for each in shares],
        "goal": GOAL,
    }


def _repeat(rows: Sequence[Example], template: Template, number: int) -> tuple[float, float, float]:
    """Measure once: seconds without the comparison, with it, and of the decoding.

    The two take turns every PART rows, and begin in turns: what else the machine does changes over
    seconds, and would be larger than what is measured. The template is new, so that the learning of
    its constants counts.
    """
    plain = compared = 0.0
    for at in range(0, len(rows), PART):
        part = rows[at : at + PART]
        order = (True, False) if (at // PART + number) % 2 else (False, True)
        for check in order:
            if check:
                compared += seconds(lambda part=part: encode(part, template, WHOLE))
                continue
            with without_comparison():
                plain += seconds(lambda part=part: encode(part, template, WHOLE))
    encoding = encode(rows, template, WHOLE)
    ends = template.end_ids
    return plain, compared, seconds(lambda: roundtrip_findings(encoding, template, ends, MAX_UNFIT))


# ---------------------------------------------------------------- the whole


def measure(folder: Path, tokenizer_at: Callable[[], PreTrainedTokenizerBase]) -> dict:
    """Return the account of every file, under every template."""
    made, files = templates_of(tokenizer_at), {}
    for path in data_files(folder):
        name = name_of(path, folder)
        try:
            file = read_file(path)
        except DataError as error:
            files[name] = {"refused": str(error).replace(str(folder), "DIR")}
            continue
        by_template = {
            each: under(file, template, None if each == OWN else OTHERS)
            for each, template in made.items()
        }
        files[name] = account(file) | {"templates": by_template}
        print(name, {each: sorted(found["refused"]) for each, found in by_template.items()})
        sys.stdout.flush()
    return files


def refused_in(files: dict) -> dict[str, dict | str]:
    """Return the files that were refused, while they were read or under their own template."""
    found = {
        name: file.get("refused") or file["templates"][OWN]["refused"]
        for name, file in files.items()
    }
    return {name: why for name, why in found.items() if why}


def measure_costs(folder: Path, template_at: Callable[[], Template], repeats: int) -> dict:
    """Return what the check costs on each of COSTS."""
    found = {}
    for path in data_files(folder):
        name = name_of(path, folder)
        if name not in COSTS:
            continue
        dataset = read_file(path).dataset
        assert dataset is not None, "the files of COSTS hold answers"
        found[name] = cost(dataset.examples, template_at, repeats)
        print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of data files")
    parser.add_argument("--only", choices=("files", "cost"), help="one part; the other is kept")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each cost")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    model = embedded_folder()

    def tokenizer_at() -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(model)

    out: Path = options.output
    result = json.loads(out.read_text("utf-8")) if options.only and out.is_file() else {}
    if options.only != "cost":
        files = measure(options.data, tokenizer_at)
        result |= {
            "model": "SmolLM2-135M-Instruct",
            "templates": [OWN, *TEMPLATES],
            "rows": sum(file.get("rows", 0) for file in files.values()),
            "used": sum(file.get("used", 0) for file in files.values()),
            "refused_files": refused_in(files),
            "files": files,
        }
        out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if options.only != "files":
        result["cost"] = measure_costs(
            options.data, lambda: make_template(tokenizer_at(), "auto"), options.repeats
        )
        out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    refused = result.get("refused_files", {})
    print(f"{result.get('rows', 0):,} rows; refused: {sorted(refused) or 'none'}")
    raise SystemExit(bool(refused))


if __name__ == "__main__":
    main()

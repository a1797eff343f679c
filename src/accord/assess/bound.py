"""Comparison of what a model was made with and what it is measured with: tokenizer and template.

Other token ids give other numbers without an error, so another vocabulary is refused. Another
template may be meant, so it is reported.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from accord.data.tokenizer_digest import tokenizer_digest
from accord.errors import first_line
from accord.models.language import LanguageModel
from accord.runs.lineage import recorded, run_of
from accord.types import AccordError, Refused

# texts on which two tokenizers of one vocabulary are compared: merges and normalisers differ there
PROBES = (
    "Hello, World!  How are you?",
    "naïve café\n\n12,345.67 = x² → ✓",
    " \tdef f(x):\n  return x",
)
FILES = ("tokenizer.json", "tokenizer_config.json")


def own_tokenizer(model: LanguageModel, folder: Path) -> tuple[str, ...]:
    """Hold the tokenizer of a base against the one that was saved beside an adapter; take the
    adapter's chat template where it is another.

    Returns:
      what differs, in words.

    Raises:
      Refused: the adapter's tokenizer gives other token ids.
    """
    if not any((folder / name).is_file() for name in FILES):
        return ()  # other tools save none; the base's it is
    try:
        saved = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # whatever transformers raises
        return (
            f"{folder}: its tokenizer cannot be read ({first_line(error)}); the base's is used",
        )
    own = model.tokenizer
    if difference := _other_ids(saved, own):
        raise Refused(
            f"{folder} was trained with another tokenizer than its base {model.source} has now:"
            f" {difference}.\nToken ids would mean something else than in training. Put the base's"
            " tokenizer back as it was; the one that was trained with lies in"
            f" {folder}."
        )
    if saved.chat_template and saved.chat_template != own.chat_template:
        own.chat_template = saved.chat_template
        return (
            f"the chat template of {model.source} is not the one saved with {folder}; the saved one"
            " is used, as in training",
        )
    return ()


def _other_ids(saved: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase) -> str:
    """Say how two tokenizers give other ids; empty where they do not."""
    one, other = saved.get_vocab(), own.get_vocab()
    if one != other:
        apart = sorted(token for token in {*one, *other} if one.get(token) != other.get(token))
        return (
            f"{len(apart):,} of {len(one):,} tokens have another id or are missing, such as"
            f" {apart[0]!r:.40} ({one.get(apart[0])} then, {other.get(apart[0])} now)"
        )
    if saved.eos_token != own.eos_token:
        return f"its end token was {saved.eos_token!r:.40} and is {own.eos_token!r:.40}"
    for text in PROBES:
        if saved(text)["input_ids"] != own(text)["input_ids"]:
            return f"the same vocabulary, and other tokens for {text!r:.40}"
    return ""


def template_of_record(name: str, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    """Choose the template for weights that are opened by themselves: the one that was asked for,
    else that of the run which made them, else "auto".

    Returns:
      the template, and in words where it is not the one of training.
    """
    then = _trained_template(name)
    if wanted is not None:
        return wanted, other_template(name, wanted, then)
    if then in (None, "", "auto"):
        return "auto", ()
    assert then is not None, "an absent one was dealt with"
    if then != "raw" and not Path(then).expanduser().is_file():
        return "auto", (
            f"{name} was trained with the template {then}, which is not there any more; its"
            " tokenizer's own is used, and the figures may be of other text. Name it: --template"
            " FILE",
        )
    return then, ()


def other_template(name: str, wanted: str | None, then: str | None) -> tuple[str, ...]:
    """Say where a template that was asked for is not that of training."""
    if wanted is None or not then or wanted == then:
        return ()
    return (
        f"--template {wanted}, and {name} was trained with {then}: it is measured on text of"
        " another form than it was trained on",
    )


def _trained_template(name: str) -> str | None:
    made = run_of(name)
    if made is not None:
        try:
            return made.config().data.template
        except AccordError:  # a run of another version
            pass
    record = recorded(Path(name).expanduser())
    return record.template if record is not None else None


def other_than_recorded(model: LanguageModel, name: str) -> tuple[str, ...]:
    """Say where a model's folder has another tokenizer than was written down when it was saved."""
    record = recorded(Path(name).expanduser())
    if record is None or not record.tokenizer:
        return ()
    if record.tokenizer == tokenizer_digest(model.tokenizer):
        return ()
    return (
        f"{name}: its tokenizer or chat template is not the one that it was saved with (sha256"
        f" {record.tokenizer[:16]} then), so figures may be of other tokens. Another version of"
        " tokenizers can be the cause as well",
    )

"""The models of a conversation: the one that is talked to, and the one that it is compared with.

The reference is the same network with its adapters off where there are adapters. Otherwise it is a
second model in memory, loaded when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from operator import add

from accord.assess.bound import other_template
from accord.assess.chat.conversation import Answer
from accord.assess.generation import Sampling
from accord.assess.opened import OpenModel, open_model, open_start_of
from accord.data.templates import make_template
from accord.data.tokenizer_digest import tokenizer_digest
from accord.errors import AccordError
from accord.models import fingerprint, provenance
from accord.models.language import LanguageModel
from accord.models.load import load
from accord.runs.folder import RunFolder
from accord.runs.made_by import config_with_base
from accord.sampling.growing_text import GrowingText
from accord.sampling.kept_row import KeptRow, Token
from accord.sampling.sampler import Prompt
from accord.types import UsageError

TUNED, BASE = "tuned", "base"


class Side:
    """A model that answers, with the keys and values of what it has computed."""

    def __init__(
        self,
        name: str,
        says: str,
        model: LanguageModel,
        inside: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self.name, self.says, self.model, self.inside = name, says, model, inside
        self.row = KeptRow(model, inside)
        self._fingerprint = ""

    def answer(self, prompt: Prompt, sampling: Sampling, row: int) -> GrowingAnswer:
        """Begin an answer."""
        drawn = self.row.draw(prompt, **sampling.options(), row=row)
        return GrowingAnswer(drawn, self.model.tokenizer)

    def fingerprint(self) -> str:
        """Hash the weights, once: they do not change while one talks to them."""
        if not self._fingerprint:
            self._fingerprint = fingerprint.weights(self.model.network)
        return self._fingerprint


class GrowingAnswer:
    """An answer that grows as it is read: iterate over it for its pieces of text."""

    def __init__(self, drawn: Iterator[Token], tokenizer):
        self._drawn, self._text = drawn, GrowingText(tokenizer)
        self._logps: list[float] = []
        self.ended = self.interrupted = False

    def __iter__(self) -> Iterator[str]:
        for token in self._drawn:
            self._logps.append(token.logp)
            self.ended = token.ends
            yield self._text.add(token.id)

    def stop(self) -> None:
        """Draw no further token."""
        self.interrupted = not self.ended

    def rest(self) -> str:
        """Return the last piece of text: no further token comes."""
        return self._text.finish()

    def answer(self) -> Answer:
        logprob = reduce(add, self._logps, 0.0)  # one after the other, as `Sample.logprob`
        return Answer(self._text.text, len(self._logps), logprob, self.ended, self.interrupted)


def open_chat(
    name: str, *, dtype: str | None, template: str | None, checkpoint: str | None
) -> OpenModel:
    """Open the model to talk to. A chat model may be given raw text here, since nothing is trained.

    Raises:
      AccordError: nothing usable there.
    """
    raw = template == "raw"
    opened = open_model(
        name, dtype=dtype, template=None if raw else template, checkpoint=checkpoint
    )
    if raw and opened.template.kind != "raw":
        opened.template = make_template(
            opened.model.tokenizer, "raw", generation_eos=opened.model.stop_ids, allow_raw=True
        )
        opened.warnings += other_template(name, "raw", opened.config.data.template)
    return opened


def began_elsewhere(opened: OpenModel) -> bool:
    """Tell whether a model is known to have been trained from another one."""
    if opened.model.has_adapters or opened.run is not None:
        return True
    record = provenance.read(opened.model.folder)
    return record is not None and bool(record.base)


def reference_of(opened: OpenModel) -> Side:
    """Return the model that this one began as.

    Raises:
      UsageError: it is not known, or not there any more.
    """
    model = opened.model
    if model.has_adapters:
        began = "the adapter it started from" if model.has_reference_adapter else "adapters off"
        return Side(BASE, f"{began}; the same weights in memory", model, model.as_reference)
    other = _load_start(opened)
    if other.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise UsageError(
            f"/compare: {other.source} has another vocabulary than {opened.name}, so the two cannot"
            " be given the same prompt."
        )
    size = sum(tensor.nbytes for tensor in other.network.state_dict().values())
    return Side(BASE, f"{other.source}; a second model, {size / 1e6:,.0f} MB more memory", other)


def _load_start(opened: OpenModel) -> LanguageModel:
    """Load the model that a run of all weights started from, or the base of a merged export."""
    dtype = str(opened.model.dtype).removeprefix("torch.")
    if opened.run is not None:
        return _start_of_run(opened.run, dtype)
    record = provenance.read(opened.model.folder)
    if record is None or not record.base:
        raise UsageError(
            f"/compare: {opened.name} is a model by itself: nothing says what it was trained from."
            " Compare a run's folder, an adapter, or what accord export wrote."
        )
    try:
        return load(
            record.base,
            dtype=dtype,
            device=str(opened.model.device),
            quantize=record.quantize_settings,
        )
    except AccordError as error:
        raise UsageError(
            f"/compare: {opened.name} was trained from {record.base}, which does not load here:"
            f" {error}"
        ) from error


def _start_of_run(run: RunFolder, dtype: str) -> LanguageModel:
    config = config_with_base(run)
    spec = config.model.model_copy(update={"dtype": dtype})
    return open_start_of(config.model_copy(update={"model": spec})).model


def provenance_of(opened: OpenModel, sides: tuple[Side, ...], sampling: Sampling) -> dict:
    """Record what the answers of a conversation depend on; see `generation.provenance`. It holds no
    path, because a file of answers is made to be shared.
    """
    tuned = sides[-1]
    own = {
        "model": tuned.fingerprint(),
        "weights": opened.weights,
        "tokenizer": tokenizer_digest(opened.model.tokenizer),
        "dtype": str(opened.model.dtype).removeprefix("torch."),
        "prompts": None,
        **sampling.options(),
    }
    if len(sides) == 1:
        return own
    other = sides[0]
    same = other.model is tuned.model
    return own | {"reference": "adapters off" if same else other.fingerprint()}

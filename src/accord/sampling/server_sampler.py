"""A sampler that draws by a vLLM server, and knows by which weights.

    weights moved? ─▶ publish them ─▶ probe: the server's log-probs against the trainer's ─▶ draw

Before the first update the server is tried with the model that the policy starts from, and with a
policy that was nudged on purpose: fresh adapters change nothing, so that only such a one shows that
the server applies them. After each synchronisation a few answers are drawn and their log-probs
computed here too. A gap is explained by hypotheses that are measured (sampling/gap.py); a version
that did not arrive is published once more, and refused if that does not help.

While the policy trains, the server can draw what is asked for later (`begin`): the requests are
made by threads, and `sample` under the same weights finds their answers.

Answer i is drawn with a seed of its own, made of (seed, first_row + i). Whether a server's answer
then depends on its neighbours is the server's affair: its batches' rounding does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from accord import compat
from accord.config.sampler_section import SamplerConfig
from accord.distributed.world import World
from accord.errors import plural
from accord.forward.choose import Forward
from accord.models.parts import local
from accord.sampling.background import Background
from accord.sampling.explanations import DTYPE, Probed, Question, hypotheses, other_weights
from accord.sampling.gap import Verdict, find_cause, measure_gap
from accord.sampling.local import check_options
from accord.sampling.policy_sync import PolicySync
from accord.sampling.sampler import Prompt, Sample
from accord.sampling.server_client import NotServed, ServerClient
from accord.sampling.server_protocol import Completion, Draw, row_seed
from accord.sampling.server_words import explain, other_base, summarise
from accord.sampling.weights_digest import weights_digest
from accord.types import Finding, Refused, UsageError

PROBE_TOKENS = 16  # of each probed answer
PROBE_SEED = 24  # of their draws: the same questions after each synchronisation
PUBLISHED = 2  # times that a version is published before its absence is an error
# the trial's policy must differ from the base by so many bounds, to be told from it
NUDGED = 5.0
NUDGES = 14  # doublings of its distance at most


@dataclass
class ServerSampler:
    """A sampler that uses a server."""

    sync: PolicySync
    forward: Forward  # the trainer's own path: what the server's log-probs are compared with
    world: World
    settings: SamplerConfig
    probes: Sequence[Prompt]
    temperature: float  # of the run's draws
    record: Callable[[dict], None]  # keeps what a probe found
    tell: Callable[[str], None]  # says something to the user
    max_gap: float  # nats a token between server and trainer, over which the cause is looked for
    corrected: bool = False  # True: the run weighs answers by what two kernels differ by
    longest: int | None = None  # tokens that the server takes, prompt and answer
    _published: str = ""  # digest of the weights that the server has
    _former: dict[str, Tensor] | None = field(default=None, repr=False)
    _asleep: bool = field(init=False)
    _restored: bool = False
    _held: bool = False  # inside `as_begun`: the policy is the one that the server has
    # (version, draw) -> its answer, asked for before it is needed; on the first rank alone
    _begun: dict[tuple[str, Draw], Future[Completion]] = field(default_factory=dict, repr=False)
    _pool: Background | None = field(default=None, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        # a run before this one, or this one before it was killed, may have left it so
        self._asleep = self.settings.sleep

    @property
    def client(self) -> ServerClient:
        return self.sync.client

    def policy_version(self) -> str:
        return self._published if self._held else weights_digest(self.sync.masters)

    @property
    def joint(self) -> bool:
        return True

    def rest(self) -> None:
        """Let the server sleep, if it is to."""
        if self.settings.sleep and not self._asleep:
            self.world.on_first(self.client.sleep)
            self._asleep = True

    def _wake(self) -> None:
        if self._asleep:
            self.world.on_first(self.client.wake_up)
            self._asleep = False

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        first_row: int = 0,
    ) -> list[Sample]:
        """Draw one answer to each prompt; see `Sampler.sample`.

        Raises:
          UsageError: an option out of its range, a prompt too long, or the server does not answer.
          Refused: what the server computes is not this policy; says what it is, where that shows.
        """
        check_options(self.forward.model.network, prompts, max_new_tokens, temperature, top_p)
        self.require_room(max(map(len, prompts), default=0), max_new_tokens)
        if not prompts:
            return []
        self._synchronise()
        draws = draws_of(prompts, seed, first_row, max_new_tokens, temperature, top_p)
        found = self._draw_by_this_version(draws)
        return [
            Sample(c.tokens, self._text(c.tokens, special=False), c.finish_reason, c.logps)
            for c in found
        ]

    # ------------------------------------------------------------ while the policy trains

    def begin(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        first_row: int = 0,
    ) -> bool:
        """Have the server draw answers that `sample` is asked for later; see `Sampler.begin`.

        Raises:
          UsageError, Refused: as `sample`, where it shows before an answer is there.
        """
        if self.settings.sleep:
            return False
        self.require_room(max(map(len, prompts), default=0), max_new_tokens)
        self._synchronise()
        if self.world.first:
            self._pool = self._pool or Background(self.settings.workers)
            name, version = self.sync.name, self.sync.version
            for draw in draws_of(prompts, seed, first_row, max_new_tokens, temperature, 1.0):
                self._begun[version, draw] = self._pool.submit(self._ask, name, draw)
        return True

    @contextmanager
    def as_begun(self) -> Iterator[None]:
        """Put the policy back to the weights that the server has; see `Sampler.as_begun`."""
        assert self._former is not None, "begin published them"
        with other_weights(self.forward.model, self._former):
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def close(self) -> None:
        """Ask for nothing more, and wait for nothing."""
        if self._pool is None:
            return
        self._pool.close()
        if self._begun:
            self._begun.clear()
            self.client.close()  # the requests under way end in an error that nobody reads

    def _ask(self, name: str, draw: Draw) -> Completion:
        model = self.forward.model
        return self.client.complete(name, draw, model.stop_ids, model.vocabulary_rows)

    def _text(self, ids: Sequence[int], *, special: bool = True) -> str:
        decoded: Any = self.forward.model.tokenizer.decode(
            list(ids), skip_special_tokens=not special
        )
        return decoded

    def _draw_by_this_version(self, draws: Sequence[Draw]) -> list[Completion]:
        """Draw answers, all of them by the version that is published now."""
        for _ in range(self.settings.attempts):
            found = self._draw(self.sync.name, draws)
            kept = self.sync.kind == "adapter" or self.world.on_first(self.sync.present)
            if not kept:  # whole weights have one name: these answers may be another version's
                # nor can what was asked for before: a later piece would find it under this version
                self._begun.clear()
                self.world.on_first(self._restore)
                self._restored = True
            if self._lost():  # in the middle: is what came back this policy?
                self._require_fine(self._probe(self.sync.name, self._former))
            if kept:
                return found
        raise UsageError(
            f"The server at {self.client.name} loses the policy's weights each time that answers"
            " are drawn. Does it restart, or does another run use it? Each run needs its own."
        )

    # ------------------------------------------------------------ before the first update

    def prove(self) -> list[Finding]:
        """Try the server before anything is trained: it serves the model that the policy starts
        from, tokenises as it does, and takes a policy's weights.

        Raises:
          UsageError, Refused: it does not; says why, and the command that mends it.
        """
        self._wake()
        self._require_tokenizer()
        found = [self._prove_base()] if self.sync.kind == "adapter" else []
        return [*found, self._prove_arrival()]

    def _prove_base(self) -> Finding:
        """Compare the model without its adapter, here and there."""
        verdict = self._base_gap()
        if not verdict.fine:
            raise Refused(
                explain(verdict, "the model that the policy starts from", self.client.name)
                if verdict.causes
                else other_base(verdict, self.sync.base, self.client.name)
            )
        return Finding(
            "sampler.base", "ok", summarise(verdict, f"{self.sync.base} without adapters")
        )

    def _base_gap(self) -> Verdict:
        layers = compat.adapter_layers(self.forward.model.network)
        with compat.without_adapters(layers):
            return self._probe(self.sync.base, None, bare=True)

    def _prove_arrival(self) -> Finding:
        """Publish a policy that was nudged on purpose, and take it back: the server must compute
        that one, and not the one before.
        """
        model = self.forward.model
        own = {name: local(p).detach().clone() for name, p in model.trainable().items()}
        with other_weights(model, self._nudged(own)):
            nudged = {n: local(p).detach().float() for n, p in model.trainable().items()}
            # fresh adapters are the base: that it is served is "adapter not applied"
            former = own if self.sync.kind == "weights" else None
            verdict = self._published_and_probed(nudged, former)
            self._require_fine(verdict)
        self.world.on_first(self.sync.withdraw)
        self._published = ""
        return Finding(
            "sampler.sync", "ok", summarise(verdict, "a policy that was nudged on purpose")
        )

    def _nudged(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move trainable weights at random, until log-probs of the probe move by several bounds."""
        generator = torch.Generator().manual_seed(PROBE_SEED)
        noise = {
            name: torch.randn(p.shape, generator=generator).to(p)
            * p.float().square().mean().sqrt().clamp_min(0.01).to(p)
            for name, p in own.items()
        }
        answers = self._draw_probe(self.sync.base)
        question = Question(self.forward, answers)
        before = question.under()
        for doubling in range(NUDGES):
            values = {name: p + noise[name] * (0.005 * 2**doubling) for name, p in own.items()}
            with other_weights(self.forward.model, values):
                moved = measure_gap(question.under(), before, 0.0).mean
            if moved >= NUDGED * self.max_gap:
                break
        return values

    def require_room(self, prompt: int, new: int) -> None:
        """Check that a prompt and its answer fit into the server.

        Args:
          prompt, new: tokens.

        Raises:
          UsageError: they do not.
        """
        if self.longest is not None and prompt + new > self.longest:
            raise UsageError(
                f"The server at {self.client.name} takes {plural(self.longest, 'token')}, and a"
                f" prompt of {prompt:,} with an answer of {new:,} needs {prompt + new:,}.\nStart it"
                f" with --max-model-len {prompt + new} (accord serve-policy --max-model-len"
                f" {prompt + new}), or lower rollouts.max_new_tokens."
            )

    def _require_tokenizer(self) -> None:
        """Compare the server's tokenizer with the policy's, on the probe's own texts."""
        own = self.forward.model.tokenizer
        texts = [self._text(prompt) for prompt in self.probes[:2]]
        found = self.world.on_first(
            lambda: [self.client.tokenize(self.sync.base, text) for text in texts]
        )
        for text, there in zip(texts, found, strict=True):
            here = own(text, add_special_tokens=False)["input_ids"]
            if here != there:
                raise Refused(
                    f"other tokenizer: the server at {self.client.name} makes"
                    f" {plural(len(there), 'token')} of a prompt, and the policy's tokenizer"
                    f" {plural(len(here), 'other')}. The ids of one would be other words to the"
                    " other.\n"
                    "Start the server with the policy's own model and tokenizer: accord"
                    " serve-policy prints the command."
                )

    # ------------------------------------------------------------ versions

    def _synchronise(self) -> None:
        """Have the server compute with the weights as they stand."""
        if self._held:
            return
        self._wake()
        digest = self.policy_version()
        if digest == self._published:
            return
        for attempt in range(PUBLISHED):
            verdict = self._published_and_probed(self.sync.masters, self._former)
            if verdict.fine:
                break
            if attempt + 1 < PUBLISHED:
                names = " or ".join(w.hypothesis.name for w in verdict.causes) or "a gap"
                self.tell(f"! sampler: {names} after {self.sync.name}; it is published once more")
        self._require_fine(verdict)
        self._published = digest
        self._former = {
            name: local(p).detach().to("cpu", copy=True)
            for name, p in self.forward.model.trainable().items()
        }

    def _published_and_probed(
        self, weights: Mapping[str, Tensor], former: Mapping[str, Tensor] | None
    ) -> Verdict:
        digest, masters = weights_digest(weights), self.sync.masters
        self.sync.masters = weights
        try:
            name = self.world.on_first(lambda: self.sync.publish(digest))
        finally:
            self.sync.masters = masters
        self.sync.name = name  # on every rank
        return self._probe(name, former)

    def _lost(self) -> bool:
        """Tell whether the server lost the version since it was last asked, on any rank."""
        lost, self._restored = self._restored, False
        return any(self.world.gather(lost))

    def _restore(self) -> None:
        with self._lock:
            if not self.sync.present():
                self.tell(f"! sampler: the server lost {self.sync.name}; it is loaded again")
                self.sync.restore()
            self._restored = True

    # ------------------------------------------------------------ probes

    def _draw_probe(self, name: str) -> list[Probed]:
        tokens = min(PROBE_TOKENS, (self.longest or 1 << 30) - max(map(len, self.probes)))
        draws = [
            Draw(prompt, row_seed(PROBE_SEED, i), tokens, self.temperature, 1.0)
            for i, prompt in enumerate(self.probes)
        ]
        found = self._draw(name, draws)
        return [Probed(d.prompt, c.tokens, c.logps) for d, c in zip(draws, found, strict=True)]

    def _probe(self, name: str, former: Mapping[str, Tensor] | None, bare: bool = False) -> Verdict:
        """Compare the server's log-probs of a few answers with those of the weights as they stand
        here.
        """
        question = Question(
            self.forward,
            self._draw_probe(name),
            self.temperature,
            1.0,
            former,
            bare,
            lambda prompt: self.client.templated(self.sync.base, self._text(prompt)),
        )
        drawn, trained, bound = question.drawn, question.under(), self.max_gap
        over = measure_gap(drawn, trained, bound).mean > bound
        verdict = find_cause(drawn, trained, hypotheses(question, over=over), bound)
        if self.world.first:
            self.record(
                {"version": name}
                | {"gap": verdict.gap.mean, "worst": verdict.gap.worst, "over": verdict.gap.over}
                | {
                    "tokens": verdict.gap.tokens,
                    "cause": [w.hypothesis.name for w in verdict.causes],
                }
                | {"weighed": {w.hypothesis.name: w.as_dict() for w in verdict.weighed}}
            )
        return verdict

    def _require_fine(self, verdict: Verdict) -> None:
        """Raise what a probe found, if it is not this policy.

        Raises:
          Refused: with the cause, where one is found.
        """
        if verdict.fine:
            return
        if not verdict.causes and self.sync.kind == "adapter":
            base = self._base_gap()  # with the adapter's part left out, is there still a gap?
            if not base.fine and not base.causes:
                raise Refused(other_base(base, self.sync.base, self.client.name))
        says = explain(verdict, self.sync.name, self.client.name)
        if not (self.corrected and all(w.hypothesis.name == DTYPE for w in verdict.causes)):
            raise Refused(says)
        self.tell(f"! sampler: {says.splitlines()[0]} rollouts.correction weighs it.")

    # ------------------------------------------------------------ drawing

    def _draw(self, name: str, draws: Sequence[Draw]) -> list[Completion]:
        """Draw answers by the first rank, for all ranks."""

        def work() -> list:
            found = self._draw_here(name, draws)
            return [[list(c.tokens), list(c.logps), c.finish_reason] for c in found]

        return [
            Completion(tuple(ids), tuple(logps), end)
            for ids, logps, end in self.world.on_first(work)
        ]

    def _draw_here(self, name: str, draws: Sequence[Draw]) -> list[Completion]:
        def one(draw: Draw) -> Completion:
            begun = self._begun.pop((self.sync.version, draw), None)
            if begun is not None and name == self.sync.name:
                with suppress(NotServed):
                    return begun.result()
            for _ in range(self.settings.attempts):
                try:
                    return self._ask(name, draw)
                except NotServed:
                    if name != self.sync.name or self.sync.kind != "adapter":
                        break
                    self._restore()
            raise UsageError(
                f"The server at {self.client.name} does not serve {name!r}. Is another model behind"
                " this address? accord serve-policy prints the command."
            )

        pool = ThreadPoolExecutor(self.settings.workers)
        try:
            return list(pool.map(one, draws))
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure the others are not asked for


def draws_of(
    prompts: Sequence[Prompt],
    seed: int,
    first_row: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
) -> list[Draw]:
    """Return the draws of answers, each with its own seed; see `Sampler.sample`."""
    return [
        Draw(prompt, row_seed(seed, first_row + i), max_new_tokens, temperature, top_p)
        for i, prompt in enumerate(prompts)
    ]

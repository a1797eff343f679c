"""A language model's score as a reward, from any OpenAI-compatible endpoint.

    accord score answers.jsonl --reward judge --set judge.url=http://127.0.0.1:8000/v1 --set
    judge.model=NAME --output scored.jsonl

A reply that is no score, a refusal, no reply, a score beyond the scale: each is a missing reward
with its reason, never a low score. Scores are cached on disk by content (address, model, rubric,
scale, both texts), so that an answer is paid for once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.environment.installing import install_line
from accord.rewards.judges.asking import Failed, NoReply
from accord.rewards.judges.grading import RUBRIC, Grading
from accord.rewards.reward import Conversation, Rewards, prompt_text
from accord.types import UsageError

KEY = "ACCORD_JUDGE_KEY"
GIVE_UP = 3  # calls in a row without one reply, after which no more are waited for
VARIABLE = re.compile(r"[A-Z_a-z][A-Z_a-z0-9]{0,63}")


def is_address(name: str) -> bool:
    """Tell whether the name of a reward or a judge is an address."""
    return name.startswith(("http://", "https://"))


def split_address(name: str) -> tuple[str, str | None]:
    """Split URL#MODEL into the URL and the model; the model is None if it is not named.

    Raises:
      UsageError: a user name, a password or a query stands in it (not shown: it may be a secret).
    """
    url, _, model = name.partition("#")
    if "@" in url or "?" in url:
        raise UsageError(
            "The judge's address holds a user name, a password or a query. Give the key in the"
            f" variable {KEY}."
        )
    return url, model or None


class JudgeReward:
    """The reward "judge", or a reward that is named by its address.

    Args:
      url: the address, such as http://127.0.0.1:8000/v1.
      model: a model that the endpoint serves.
      rubric: the criteria, in words.
      lowest, highest: the scale that the judge is asked for; the reward is the score as it stands.
      api_key_env: the environment variable that holds the key.
      timeout: seconds for one reply.
      retries: attempts after the first one that failed.
      workers: questions at a time.
      max_tokens: limit of a reply.
      cache: folder of the scores that are kept; None: accord's own.
      name: in records.

    Raises:
      UsageError: an address that is none, or httpx is not installed.
      ValueError: another option is out of its range.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        rubric: str = RUBRIC,
        lowest: float = 1.0,
        highest: float = 10.0,
        api_key_env: str = KEY,
        timeout: float = 60.0,
        retries: int = 3,
        workers: int = 4,
        max_tokens: int = 1024,
        cache: str | None = None,
        name: str = "judge",
    ):
        self.name, self.grading = name, Grading(rubric, lowest, highest)
        _check_key(api_key_env)
        for name, value, smallest in (
            ("retries", retries, 0),
            ("workers", workers, 1),
            ("max_tokens", max_tokens, 1),
        ):
            if value < smallest:
                raise ValueError(f"{name} = {value}, and it must be at least {smallest}")
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout = {timeout}, and it must be seconds above 0")
        try:
            from accord.rewards.judges.endpoint import Endpoint, Settings, Wanted
        except ImportError as error:
            raise UsageError(
                f"The reward 'judge' needs {error.name}: {install_line('accord[judge]')}"
            ) from error
        settings = Settings(
            url,
            model,
            timeout,
            retries + 1,
            workers=workers,
            max_tokens=max_tokens,
            key=api_key_env,
        )
        self.endpoint = Endpoint(
            settings, Path(cache).expanduser() if cache else judge_cache(), option="judge.url"
        )
        self.wanted = Wanted("score", self.grading.read, repr)
        self._silent = 0  # calls in a row without one reply

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        """Ask the endpoint for a score of each answer.

        Raises:
          UsageError: the endpoint refuses every question, or has not replied to any for a while.
        """
        chats = [
            self.grading.messages(prompt_text(prompt), answer)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        found = self.endpoint.ask(chats, self.wanted)
        failures = {i: str(one) for i, one in enumerate(found) if isinstance(one, Failed)}
        self._silent = (
            self._silent + 1 if found and all(isinstance(one, NoReply) for one in found) else 0
        )
        if self._silent == GIVE_UP:
            raise UsageError(
                f"The judge {self.endpoint.name} has not replied in {GIVE_UP} calls in a row"
                f" ({failures[0]}).\nOnce it does, the same command goes on where it stood."
            )
        return Rewards.of([None if isinstance(one, Failed) else one for one in found], failures)

    def account(self) -> dict:
        """Return the requests, attempts and tokens so far."""
        return dict(self.endpoint.usage.counts)


def _check_key(variable: str) -> None:
    """Check that the variable of the API key has a valid name, and a value if it was named.

    Raises:
      UsageError: no name of a variable (it may be a key itself, so it is not shown), or a
        named variable that is not set.
    """
    if not VARIABLE.fullmatch(variable):
        raise UsageError(
            "judge.api_key_env: expected the name of an environment variable that holds the key,"
            " such as MY_KEY; never the key."
        )
    if variable != KEY and variable not in os.environ:
        raise UsageError(
            "judge.api_key_env: there is no environment variable of that name. Set it, or leave the"
            " option out."
        )


def judge_cache() -> Path:
    """Return the default folder of cached replies."""
    from accord.forward import reference

    return reference.cache_root().parent / "judge"

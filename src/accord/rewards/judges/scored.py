"""A judge of pairs from any reward: the answer with the higher reward is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.rewards.judges.asking import CUT
from accord.rewards.judges.verdict import TRIAL, Contest, Judged, by_scores
from accord.rewards.reward import Reward
from accord.types import Turn, UsageError


@dataclass(frozen=True)
class ScoredJudge:
    """Compare two answers by their rewards. If one has no reward there is no verdict, and the
    contest is counted with the reason.
    """

    name: str
    reward: Reward
    remote: bool = False  # the reward is a language model behind an address

    def try_out(self) -> list[str]:
        """Have a remote reward score one plain question's answers before anything is measured.
        Others need columns of their own rows, and are on this machine.

        Raises:
          UsageError: an answer without a score.
        """
        if not self.remote:
            return []
        turns = (Turn("user", TRIAL.prompt),)
        found = self.reward([turns] * 2, [TRIAL.one, TRIAL.other], [{}] * 2)
        if found.failures:
            remedy = (
                "The reply reached its limit of tokens before its end; a model that thinks first"
                " needs more (default 1024): --judge-set judge.max_tokens=4096."
                if any(CUT in reason for reason in found.reasons)
                else 'Expected {"score": NUMBER}, or words such as "Score: 8". Is the server up,'
                " does it serve that model, and is the model one that follows instructions?"
            )
            raise UsageError(
                f"The judge {self.name} was tried with one plain question before anything was"
                f" measured, and gave no score: {'; '.join(found.reasons)}.\n{remedy}"
            )
        good, bad = found.values.tolist()
        if good > bad:
            return []
        return [
            f"! the judge {self.name} was tried with one plain question: it gave the right answer"
            f" {good:g} and a senseless one {bad:g}. Do not trust its win rates unread."
        ]

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        """Judge every contest by the rewards of its two answers.

        Raises:
          UsageError: the reward can score no contest.
        """
        turns = [contest.turns or (Turn("user", contest.prompt),) for contest in contests]
        rows = [contest.row for contest in contests]
        ours = self.reward(turns, [contest.one for contest in contests], rows)
        theirs = self.reward(turns, [contest.other for contest in contests], rows)
        failures = ours.reasons + theirs.reasons
        judged = by_scores(ours.values.tolist(), theirs.values.tolist(), failures)
        if account := self.reward.account():
            judged.account["reward"] = account
        if contests and not judged.places:
            said = "".join(f"\n{words}" for words in account.get("said", {}).values())
            raise UsageError(
                f"The judge {self.name} can score none of {len(contests):,} contests:"
                f" {'; '.join(failures)}.{said}"
            )
        return judged

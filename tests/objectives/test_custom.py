"""An objective of one's own: "module:function"."""

import textwrap

import pytest
import torch
from objectives.rows import pairs

from accord.objectives import resolve
from accord.types import LabelledLogps, Logps, UsageError
from accord.verify.certificate import certify


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module of one function and gives its objective name; each test has a module of its
    own.
    """
    monkeypatch.syspath_prepend(tmp_path)

    def write(body, module):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(body))
        return f"{module}:mine"

    return write


SQUARED = '''
    def mine(policy, reference, *, beta=0.1, power=2, clip=False, mode="plain"):
        """Squared distance of the scaled margin to one."""
        h = policy.chosen.sum - reference.chosen.sum - policy.rejected.sum + reference.rejected.sum
        return (beta * h - 1) ** power
'''


def test_a_bare_tensor_is_enough(write):
    bound = resolve(write(SQUARED, "custom_squared"), {"beta": 0.5})
    assert (bound.rows, bound.reference, bound.denominator, bound.couples_batch) == (
        "pairs",
        True,
        "rows",
        False,
    )
    assert bound.options == {"beta": 0.5, "power": 2.0, "clip": False, "mode": "plain"}
    assert bound.losses(pairs([-1.0], [-5.0]), pairs([-1.0], [-1.0])).losses.tolist() == [1.0]
    assert (
        bound.source == "Squared distance of the scaled margin to one."
        and bound.at_reference is None
    )
    assert "no closed form" in bound.convention and bound.learning_rate == 1e-4
    policy, reference = (
        Logps(torch.tensor([-1.0]), torch.ones(1)),
        Logps(torch.tensor([-3.0]), torch.ones(1)),
    )
    assert bound.reward(policy, reference).tolist() == [1.0]  # β · log-ratio


def test_rows_and_reference_are_read_from_the_signature(write):
    name = write(
        """
        from __future__ import annotations
        from accord.types import LabelledLogps, LossOutput

        def mine(policy: LabelledLogps, weight=2.0):
            sign = policy.desirable.to(policy.completion.sum) * 2 - 1
            return LossOutput(-sign * weight * policy.completion.mean)
        """,
        "custom_labelled",
    )
    bound = resolve(name)
    assert (bound.rows, bound.reference) == ("labelled", False)
    rows = LabelledLogps(
        Logps(torch.tensor([-4.0, -4.0]), torch.tensor([2, 2])), torch.tensor([True, False])
    )
    assert bound.losses(rows).losses.tolist() == [4.0, -4.0]
    assert bound.reward(rows.completion).tolist() == [-2.0, -2.0]  # no reference: the mean log-prob
    assert certify(bound, lambda p, r, c: bound.losses(p, r, **c).losses).verdict == "ok"


def test_no_gradient_reaches_the_reference_though_the_function_lets_it(write):
    bound = resolve(write(SQUARED, "custom_leaky"))
    at = torch.tensor([-1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        bound.losses(pairs([-1.0], [-2.0]), pairs(at, at)).losses.sum().backward()


def test_the_certificate_uses_differences_and_says_so(write):
    bound = resolve(write(SQUARED, "custom_certified"))
    finding = certify(bound, lambda p, r, c: bound.losses(p, r, **c).losses)
    assert finding.verdict == "ok"
    assert (
        finding.evidence["against"] == "finite differences" and "finite differences" in finding.says
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda bound: lambda p, r, c: -bound.losses(p, r).losses,
        lambda bound: lambda p, r, c: bound.losses(p, r).losses.detach() + 0 * p.chosen.sum,
        lambda bound: lambda p, r, c: resolve("ipo").losses(p, r).losses,
    ],
    ids=["flipped", "no gradient", "ipo runs"],
)
def test_the_certificate_refuses_another_step(write, wrong):
    bound = resolve(write(SQUARED, "custom_certified"))
    assert certify(bound, wrong(bound)).refused


WRONG = {
    "returns a mean": (
        "def mine(policy): return -policy.chosen.sum.mean()",
        r"shape \(\) for 3 rows",
    ),
    "returns a number": ("def mine(policy): return 1.0", "returned float"),
    "raises": ("def mine(policy): return policy.choosen.sum", "AttributeError.*choosen"),
    "detached": (
        "def mine(policy): return -policy.chosen.sum.detach()",
        "nothing would be learned",
    ),
    "compares": (
        "def mine(policy): return (policy.chosen.sum < policy.rejected.sum).float()",
        "nothing would be",
    ),
    "not finite": ("def mine(policy): return policy.chosen.sum.log()", "not finite"),
    "gradient not finite": (
        "def mine(policy): return (policy.chosen.sum * 0).abs().sqrt() + policy.rejected.sum",
        "gradient .* nan",
    ),
    "couples rows": (
        "def mine(policy): return -policy.chosen.sum / len(policy)",
        "must not depend on other",
    ),
    "takes anything": (
        "def mine(policy, **options): return -policy.chosen.sum",
        "name its options",
    ),
    "takes nothing": ("def mine(): return 0", "first argument"),
    "positional only": (
        "def mine(policy, beta=0.1, /): return -beta * policy.chosen.sum",
        "positional only",
    ),
    "wrong annotation": ("def mine(policy: dict): return 0", "annotated 'dict'"),
    "not a function": ("mine = 3", "no function 'mine'"),
    "broken module": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "missing import": ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_objective_is_refused_with_its_cause(write, case):
    body, says = WRONG[case]
    with pytest.raises(UsageError, match=says):
        resolve(write(body, "custom_wrong_" + case.replace(" ", "_")))


def test_a_module_that_is_not_there_says_how_to_find_it():
    with pytest.raises(UsageError, match="PYTHONPATH"):
        resolve("no_such_module_here:mine")
    for name in ("mine:", ":mine", "a b:c", "mine:os.system", "mine:f:g"):
        with pytest.raises(UsageError, match="module:function"):
            resolve(name)


def test_its_options_are_checked_like_any_other(write):
    name = write(SQUARED, "custom_options")
    with pytest.raises(UsageError, match="did you mean 'power'"):
        resolve(name, {"powr": 3})
    for options in (
        {"power": "three"},
        {"power": True},
        {"clip": 1},
        {"mode": 2},
        {"beta": float("nan")},
    ):
        with pytest.raises(UsageError, match="not accepted"):
            resolve(name, options)


def test_an_option_without_default_must_be_given(write):
    name = write("def mine(policy, *, scale): return -scale * policy.chosen.sum", "custom_required")
    with pytest.raises(UsageError, match="scale must be given"):
        resolve(name)
    assert resolve(name, {"scale": 2.0}).losses(pairs([-3.0], [-1.0])).losses.tolist() == [6.0]
    assert resolve(name, {"scale": 2.0}).schema["scale"].keys() == {"accepts"}

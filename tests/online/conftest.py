"""For tests of what is online: the two-layer model of the tests of training."""

from training.conftest import tokenizer  # noqa: F401

"""Measuring a model: held-out accuracy, sampled answers, and the intervals of every number."""

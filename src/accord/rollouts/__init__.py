"""Batches made of a policy's own answers: prompts, advantages, pairs, and where the answers come
from.
"""

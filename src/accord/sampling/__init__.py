"""Answers drawn from a model: prompts as token ids in; token ids, log-probs and the reason for each
answer's end out.
"""

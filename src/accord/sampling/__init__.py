"""Answers drawn from a model: prompts as token ids in; token ids, log-probs and
why each answer ended out.
"""

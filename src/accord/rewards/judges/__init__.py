"""Judges of two answers to one prompt: a scorer, a reward model, or a language model behind an
endpoint.
"""

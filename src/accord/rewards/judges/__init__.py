"""Judges of two answers to one prompt: any reward, by comparing scores, or a language model behind
an endpoint that compares the two itself.
"""

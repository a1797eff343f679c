"""Judges of two answers to one prompt. A judge is any reward, which compares scores, or a language
model behind an endpoint, which compares the two answers itself.
"""

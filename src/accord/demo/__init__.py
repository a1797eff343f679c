"""The demonstration's data: prompts, and preference pairs that the embedded model's own answers
were ranked into.
"""

"""The demonstration's data: prompts, and preference pairs made by ranking the embedded model's own
answers.
"""

"""What a run's figures mean: red flags with their evidence, meaning and remedy, and what only looks
alarming.
"""

"""Red flags over a run's figures, with their evidence, meaning and remedy, and notes on what only
looks alarming.
"""

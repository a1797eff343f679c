"""Measurements of finished models: `accord generate`, `accord eval`, and hand-over to other
harnesses.
"""

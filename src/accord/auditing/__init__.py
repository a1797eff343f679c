"""The audit of a preference file before any training: measure defects, explain them,
remove them.
"""

"""The process: its settings, its environment variables, the versions that were tested, and how a
command ends that cannot go on.
"""

"""The process: its settings, its environment variables, the versions that were tested, and the end
of a command that fails.
"""

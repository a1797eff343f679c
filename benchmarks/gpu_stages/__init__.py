"""The stages of gpu.py, each a process of its own."""

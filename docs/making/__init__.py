"""Pages made from the code, so that they cannot say what it does not do: small functions from data
to markdown.
"""

"""HTML pages and terminal lines of a run, a comparison or an audit, and the live page on this
machine. No page sends a request anywhere else.
"""

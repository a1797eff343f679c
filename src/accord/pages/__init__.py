"""HTML pages and terminal lines: a run, a comparison, an audit, and the live page on this machine.
No request leaves a page.
"""

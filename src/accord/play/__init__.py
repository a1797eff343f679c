"""The playground: one page that shows what each objective does to a policy, computed in the
browser.
"""

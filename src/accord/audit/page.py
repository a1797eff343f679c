"""stub"""
def check_page(path): pass
def write_page(audit, path): pass

"""Write the made pieces of every page under docs/: tables of the code, measured figures.

python docs/write_pages.py            # or: make docs-pages
python docs/write_pages.py --check    # write nothing; exit 1 where a page is stale
"""

from __future__ import annotations

import argparse
import sys

from making.pages import stale
from making.text import ROOT


def main() -> int:
    """Write what is stale, and name it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    found = stale()
    for page, text in found.items():
        if not check:
            page.write_text(text, encoding="utf-8")
        print(f"{'stale' if check else 'written'}: {page.relative_to(ROOT)}")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())

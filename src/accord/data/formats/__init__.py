"""Formats: a table of small recognisers says what a row of a file means; all give one
normal form.
"""

from accord.data.formats.kinds import as_kind
from accord.data.formats.ranked import POLICIES, Pairing
from accord.data.formats.table import FORMATS, NAMES, Format, named, recognise

__all__ = ["FORMATS", "NAMES", "POLICIES", "Format", "Pairing", "as_kind", "named", "recognise"]

"""Every error code of this release: the closed list that the wall goes by, `codes.txt`. A test compares it with the sources."""

from importlib.resources import files

CODES = frozenset((files(__package__) / "codes.txt").read_text().split())

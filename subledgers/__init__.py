"""The platform's own subledger types. Importing this package registers them."""

from . import expenses, journal_proposals

__all__ = ["expenses", "journal_proposals"]

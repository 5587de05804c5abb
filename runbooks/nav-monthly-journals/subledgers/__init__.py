"""The row types of this runbook. Importing them registers them."""

from . import landlord_statement, rental_statement, repairs

__all__ = ["landlord_statement", "rental_statement", "repairs"]

"""Row types of this runbook. Importing this package registers them."""

from . import call_receipt, capital_call, commitment, default_interest

__all__ = ["call_receipt", "capital_call", "commitment", "default_interest"]

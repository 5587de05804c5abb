"""The general ledger beside the subledgers: posting, once, and the trial balance; or the general ledger of others."""

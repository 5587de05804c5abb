"""General ledgers of others: one file per provider, one protocol for all (decision 027)."""

"""The desk: where a tenant's people review rows, and programs propose. Files signals, changes no row (ADR 020)."""

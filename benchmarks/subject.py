"""Whose month the benchmarks close: one tenant, one runbook, one month. Named here, where nothing else has to be imported."""

SLUG, RUNBOOK = "bench", "expense-processor"
PERIOD = "2026-03"
SUBMITTER, APPROVER = "user:ann", "user:bob"

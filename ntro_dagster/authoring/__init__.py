"""What writes the first lines of a runbook: a whole bundle, or a row type with its table from a CSV."""

"""What the platform costs beside the bare database, measured side by side: `python -m benchmarks`."""

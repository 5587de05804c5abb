"""Two made-up clients and one month of theirs: what `make demo` shows."""

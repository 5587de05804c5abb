"""Books that were kept elsewhere: journals and opening balances from tables, as proposals to be reviewed."""

"""Dagster made of our words."""

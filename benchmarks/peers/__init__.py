"""The same unit of work on ntro, Apache Airflow and Prefect, side by side (docs/performance.md)."""

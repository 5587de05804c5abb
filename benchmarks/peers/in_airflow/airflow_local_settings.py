"""Imported by every process of Airflow as it starts: tasks, which are forked, find the unit of work imported already."""

from benchmarks.peers.without_dagster import unit

unit.authored()

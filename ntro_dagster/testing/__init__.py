"""For whoever writes a runbook: runs a bundle as a tenant would, against a throw-away database, with scripted people (spec 16).

report = rehearse(BUNDLE, HAPPY)
assert report.passed, report.reasons
"""

from ntro_dagster.testing.rehearsal import Rehearsal, rehearse
from ntro_dagster.testing.scenario import HAPPY, REJECT_ALL, Decision, Document, Expected, Scenario, read_scenario

__all__ = [
    "HAPPY",
    "REJECT_ALL",
    "Decision",
    "Document",
    "Expected",
    "Rehearsal",
    "Scenario",
    "read_scenario",
    "rehearse",
]

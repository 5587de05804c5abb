"""How the models of this folder are walked: however long a step takes, and without a memory of earlier walks."""

from hypothesis import HealthCheck, settings

PATIENT = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))

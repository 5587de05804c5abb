"""In Airflow's own Python: makes a DAG run for each entity of each line of standard input, `{"job": ..., "entities": [...]}`."""

import json
import sys

from airflow.api.common.trigger_dag import trigger_dag
from airflow.utils.types import DagRunTriggeredByType

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    for entity in asked["entities"]:
        trigger_dag(asked["job"], triggered_by=DagRunTriggeredByType.CLI, run_id=entity, conf={"entity": entity})
    print(json.dumps(len(asked["entities"])), flush=True)

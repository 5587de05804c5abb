"""The daemon as it is, but for the ticks of its sensors: one an hour. `python rarely.py -w WORKSPACE.yaml`."""

import sys

from dagster._daemon import sensor

from ntro_dagster.workspace.daemon import main

sensor.MIN_INTERVAL_LOOP_TIME = 3600

if __name__ == "__main__":
    main(sys.argv[1:])

"""The second guard: what a tenant's code server answers, built anew before anything of the workspace sees it.

`guard` is the choke point, `definitions` says what may stand in a description of code, `survey` what a tenant's code said of
itself without data, `runs` and `ticks` build the answers that differ each time.
"""

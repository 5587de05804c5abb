-- What pages for reading look up, so that they cost by what they show and not by all that ever happened.
CREATE INDEX history_change_idx ON system.history USING brin (change_id) WITH (autosummarize = on, pages_per_range = 16);
CREATE INDEX changes_run_idx ON system.changes (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX signals_author_idx ON system.signals (filed_by, seq DESC);
CREATE INDEX signals_partition_idx ON system.signals (entity_id, period);
CREATE INDEX signal_rows_undecided_idx ON system.signal_rows (row_id) WHERE outcome IS NULL;
CREATE INDEX runs_began_idx ON system.runs (began_at);

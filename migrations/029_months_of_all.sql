-- The months in which there is work, and who has work in one: for pages that show the newest of them, however many there are.
CREATE INDEX partition_activity_period_idx ON system.partition_activity (period, entity_id);

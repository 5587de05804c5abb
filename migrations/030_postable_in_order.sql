-- What is to be posted is taken in the order of the rows' ids, some thousands at a time: from an index in that order, or the rest of
-- the month is sorted for each batch (or all months of the table are walked through in search of this one's rows).
DO $$
DECLARE
    before CONSTANT TEXT := '(entity_id, period) WHERE status';
    after CONSTANT TEXT := '(entity_id, period, id) WHERE status';
    body CONSTANT TEXT := pg_get_functiondef('system.attach_subledger(TEXT, TEXT[], JSONB)'::REGPROCEDURE);
    made RECORD;
BEGIN
    IF strpos(body, before) = 0 THEN
        RAISE EXCEPTION 'attach_subledger makes no such index';
    END IF;
    EXECUTE replace(body, before, after);
    FOR made IN SELECT indexname, replace(indexdef, '(entity_id, period) WHERE', '(entity_id, period, id) WHERE') AS next
                  FROM pg_indexes WHERE schemaname = 'ledgers' AND indexdef LIKE '% (entity\_id, period) WHERE (status = %' LOOP
        EXECUTE format('DROP INDEX ledgers.%I', made.indexname);
        EXECUTE made.next;
    END LOOP;
END $$;

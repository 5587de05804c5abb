-- What is to be posted is taken in the order of the rows' ids, some thousands at a time: from an index in that order, or the rest of
-- the month is sorted for each batch (or all months of the table are walked through in search of this one's rows).
DO $$
DECLARE
    before CONSTANT TEXT := '(entity_id, period) WHERE status';
    after CONSTANT TEXT := '(entity_id, period, id) WHERE status';
    body CONSTANT TEXT := pg_get_functiondef('system.attach_subledger(TEXT, TEXT[], JSONB)'::REGPROCEDURE);
    made RECORD;
    swaps TEXT := '';
BEGIN
    IF strpos(body, before) = 0 THEN
        RAISE EXCEPTION 'attach_subledger makes no such index';
    END IF;
    EXECUTE replace(body, before, after);
    FOR made IN SELECT indexname, replace(replace(indexdef, '(entity_id, period) WHERE', '(entity_id, period, id) WHERE'),
                                          format(' %I ON ', indexname), format(' %I ON ', 'new_' || md5(indexname))) AS next
                  FROM pg_indexes WHERE schemaname = 'ledgers' AND indexdef LIKE '% (entity\_id, period) WHERE (status = %' LOOP
        EXECUTE made.next;  -- all of them before the first lock that readers wait for
        swaps := swaps || format('DROP INDEX ledgers.%I; ALTER INDEX ledgers.%I RENAME TO %I;',
                                 made.indexname, 'new_' || md5(made.indexname), made.indexname);
    END LOOP;
    EXECUTE swaps;
END $$;

-- A runbook's migration may drop a table whose type is not active any more; the type stays on record, and has no rows to ask about.
DO $$
DECLARE
    place RECORD;
    body TEXT;
BEGIN
    FOR place IN SELECT * FROM (VALUES
        ('ledgers.close_findings(UUID, TEXT)'::REGPROCEDURE, 'FROM system.subledger_types t LOOP',
         'FROM system.subledger_types t WHERE to_regclass(format(''ledgers.%I'', t.table_name)) IS NOT NULL LOOP'),
        ('ledgers.control_accounts(UUID, TEXT)'::REGPROCEDURE, 'IS NOT NULL ORDER BY 1 LOOP',
         'IS NOT NULL AND to_regclass(format(''ledgers.%I'', t.table_name)) IS NOT NULL ORDER BY 1 LOOP')
    ) AS places (routine, before, after) LOOP
        body := pg_get_functiondef(place.routine);
        IF strpos(body, place.before) = 0 THEN
            RAISE EXCEPTION '% has no such place', place.routine;
        END IF;
        EXECUTE replace(body, place.before, place.after);
    END LOOP;
END $$;

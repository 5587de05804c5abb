-- Status enums of a type's own: the kinds of signals that people may file are those that the types of this tenant declare.

-- Kinds are never taken away: signals of them are kept. That a kind leads nowhere any more is for the edges to say.
CREATE TABLE system.signal_kinds (
    subledger  TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
    PRIMARY KEY (subledger, kind)
);
GRANT SELECT ON system.signal_kinds TO ntro_app, ntro_desk, ntro_auditor;

INSERT INTO system.signal_kinds SELECT DISTINCT subledger, kind FROM system.signals;
ALTER TABLE system.signals DROP CONSTRAINT signals_kind_check;
ALTER TABLE system.signals ADD CONSTRAINT signals_kind_known FOREIGN KEY (subledger, kind) REFERENCES system.signal_kinds;

-- As in 007_lifecycle.sql, but for three things: a step that a run may take out of a status in which content is fixed asks for
-- nobody, whoever made the content; a row that was posted keeps its journal in the statuses after that; and what the type
-- declares is written down.
CREATE OR REPLACE FUNCTION system.attach_subledger(name TEXT, content TEXT[], lifecycle JSONB) RETURNS VOID LANGUAGE plpgsql AS $attach$
DECLARE
    tab TEXT := format('ledgers.%I', name);
    identity CONSTANT TEXT[] := '{id,entity_id,period,source_ref,raw_payload,created_at}';
    posted TEXT := lifecycle ->> 'posted';
    initial TEXT; editable TEXT; sources TEXT; carries TEXT; posting_from TEXT;
    -- Conditions on OLD and NEW: in row triggers the two rows, in statement triggers the aliases of the transition tables.
    moved CONSTANT TEXT := 'OLD.status <> NEW.status';
    legal TEXT; approves TEXT; needs_person TEXT; asks_for TEXT; other_identity TEXT;
    values_of TEXT; changed TEXT; frozen TEXT; after TEXT; before TEXT; unsigned TEXT; signed TEXT; posting TEXT := NULL;
BEGIN
    SELECT string_agg(quote_literal(s), ', ') INTO initial FROM jsonb_array_elements_text(lifecycle -> 'initial') s;
    SELECT string_agg(quote_literal(s), ', ') INTO editable FROM jsonb_array_elements_text(lifecycle -> 'editable') s;
    SELECT string_agg(DISTINCT quote_literal(e."from"), ', '),
           string_agg(edge, ' OR '),
           coalesce(string_agg(edge, ' OR ') FILTER (WHERE e.signal = 'approve'), 'FALSE'),
           coalesce(string_agg(CASE WHEN NOT e.by_machine THEN edge
                                     WHEN lifecycle -> 'editable' ? e."from" THEN format('(%s AND OLD.made_by IS NOT NULL)', edge)
                                     ELSE 'FALSE' END, ' OR ')
                    FILTER (WHERE e.signal IS NOT NULL), 'FALSE'),
           format('CASE %s ELSE ''edit'' END', string_agg(format('WHEN %s THEN %L', edge, coalesce(e.signal, '')), ' '))
      INTO sources, legal, approves, needs_person, asks_for
      FROM jsonb_to_recordset(lifecycle -> 'edges') AS e ("from" TEXT, "to" TEXT, signal TEXT, by_machine BOOLEAN),
           format('(OLD.status = %L AND NEW.status = %L)', e."from", e."to") AS edge;
    -- A posted row keeps its journal wherever it goes from there.
    WITH RECURSIVE after (status) AS (
        SELECT posted UNION SELECT e ->> 'to' FROM after JOIN jsonb_array_elements(lifecycle -> 'edges') e ON e ->> 'from' = after.status
    ) SELECT string_agg(quote_literal(status), ', ') INTO carries FROM after;
    SELECT e ->> 'from' INTO posting_from FROM jsonb_array_elements(lifecycle -> 'edges') e WHERE e ->> 'to' = posted;
    SELECT string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', c), ' OR ') INTO other_identity FROM unnest(identity) c;

    -- Dates and instants enter the digest as numbers: text would depend on the session's settings.
    SELECT string_agg(CASE WHEN format_type(a.atttypid, NULL) = 'date' THEN format('(@.%I - DATE ''epoch'')', c)
                           WHEN format_type(a.atttypid, NULL) LIKE 'timestamp%' THEN format('extract(epoch FROM @.%I)', c)
                           ELSE format('@.%I', c) END, ', ' ORDER BY ord)
      INTO values_of
      FROM unnest(content) WITH ORDINALITY u (c, ord)
      JOIN pg_attribute a ON a.attrelid = tab::REGCLASS AND a.attname = c;
    -- *<> compares what is stored, byte by byte, as the digest does: 1.0 and 1.00 are two contents.
    changed := format('(ROW(%s)::RECORD *<> ROW(%s)::RECORD)', replace(values_of, '@', 'OLD'), replace(values_of, '@', 'NEW'));
    after := format('sha256(convert_to(ROW(NEW.id, %s)::TEXT, ''UTF8''))', replace(values_of, '@', 'NEW'));
    before := format('CASE WHEN c.changed THEN %s ELSE c.after END', replace(after, 'NEW.', 'OLD.'));

    frozen := format('(c.changed OR OLD.validation_errors IS DISTINCT FROM NEW.validation_errors) '
                     'AND (OLD.status NOT IN (%1$s) OR NEW.status NOT IN (%1$s))', editable);

    EXECUTE format('CREATE OR REPLACE FUNCTION ledgers.%1$I(NEW ledgers.%2$I) RETURNS BYTEA LANGUAGE sql STABLE PARALLEL SAFE '
                   'RETURN %3$s', name || '_digest', name, replace(after, 'NEW.', '(NEW).'));
    EXECUTE format('GRANT EXECUTE ON FUNCTION ledgers.%I TO ntro_app, ntro_desk, ntro_auditor', name || '_digest');

    PERFORM system.refuse_rows(tab, 'a_initial', 'INSERT', 'NOT_AN_INITIAL_STATUS', format(
        'NEW.status NOT IN (%s) OR (NEW.made_by, NEW.approved_by, NEW.approved_at) IS DISTINCT FROM (NULL, NULL, NULL)', initial));
    PERFORM system.refuse_rows(tab, 'a_terminal', 'UPDATE', 'ROW_IS_FINAL', format('OLD.status NOT IN (%s)', sources));
    PERFORM system.refuse_rows(tab, 'b_self', 'UPDATE OF status', 'ILLEGAL_TRANSITION', 'OLD.status = NEW.status');
    PERFORM system.refuse_rows(tab, 'c_edge', 'UPDATE', 'ILLEGAL_TRANSITION', format('%s AND NOT (%s)', moved, legal));
    PERFORM system.refuse_rows(tab, 'd_identity', 'UPDATE', 'IDENTITY_IS_FIXED', other_identity);
    PERFORM system.refuse_rows(tab, 'f_approval', 'UPDATE', 'APPROVAL_FORGED', format(
        'CASE WHEN %s THEN NEW.approved_by IS NULL OR NEW.approved_at IS DISTINCT FROM now() '
        'ELSE (OLD.approved_by, OLD.approved_at) IS DISTINCT FROM (NEW.approved_by, NEW.approved_at) END', approves));
    IF posted IS NOT NULL THEN
        PERFORM system.refuse_rows(tab, 'b_unposted', 'INSERT', 'POSTED_WITHOUT_JOURNAL',
            'NEW.posted_to_gl OR NEW.posted_journal_ref IS NOT NULL');
        PERFORM system.refuse_rows(tab, 'g_posted', 'UPDATE', 'POSTED_WITHOUT_JOURNAL', format(
            '(NEW.status IN (%1$s)) <> NEW.posted_to_gl OR (NEW.status IN (%1$s)) <> (NEW.posted_journal_ref IS NOT NULL) '
            'OR (OLD.posted_to_gl AND OLD.posted_journal_ref IS DISTINCT FROM NEW.posted_journal_ref)', carries));
        -- A lookup by the unique external id for each row, and OFFSET 0 so that it stays one: the journals were just written,
        -- so there are no statistics on them, and any other plan goes through the whole partition for every row.
        posting := format($sql$
            SELECT system.refuse('POSTED_WITHOUT_JOURNAL', format('row %%s', NEW.id)) FROM new_rows NEW
             WHERE NEW.status = %L AND NOT coalesce((
                   SELECT j.row_id = NEW.id AND j.entity_id = NEW.entity_id AND j.period = NEW.period
                     FROM ledgers.journals j WHERE j.external_id = NEW.posted_journal_ref OFFSET 0), FALSE)$sql$, posted);
    END IF;

    unsigned := format($sql$
        INSERT INTO system.history (change_id, row_id, action, from_status, to_status, before, after)
        SELECT $1, NEW.id,
               CASE WHEN %6$s THEN system.refuse('CONTENT_IS_FROZEN', format('row %%s', NEW.id))
                    WHEN %1$s THEN system.refuse('NEEDS_A_DECISION', format('row %%s moves only on a signal', NEW.id))
                    WHEN NEW.made_by IS DISTINCT FROM OLD.made_by THEN system.refuse('MAKER_FORGED', format('row %%s', NEW.id))
                    WHEN OLD.made_by IS NOT NULL AND c.changed
                    THEN system.refuse('MADE_BY_A_PERSON', format('row %%s was edited by a person', NEW.id))
                    WHEN %2$s THEN 'TRANSITION' ELSE 'EDIT' END,
               OLD.status, NEW.status, %3$s, c.after
          FROM old_rows OLD JOIN new_rows NEW ON NEW.id = OLD.id
         CROSS JOIN LATERAL (SELECT %4$s AS changed, %5$s AS after OFFSET 0) c$sql$,
        needs_person, moved, before, changed, after, frozen);
    signed := format($sql$
        INSERT INTO system.history (change_id, row_id, action, from_status, to_status, before, after)
        SELECT $1, NEW.id,
               CASE WHEN %6$s THEN system.refuse('CONTENT_IS_FROZEN', format('row %%s', NEW.id))
                    WHEN r.row_id IS NULL OR NEW.entity_id <> s.entity_id OR NEW.period <> s.period
                    THEN system.refuse('NEEDS_A_DECISION', format('row %%s is not in the signal', NEW.id))
                    WHEN %1$s <> s.kind
                    THEN system.refuse('NEEDS_A_DECISION', format('row %%s: the step asks for another kind than %%s', NEW.id, s.kind))
                    WHEN c.changed AND s.kind NOT IN ('edit', 'accept')
                    THEN system.refuse('CONTENT_CHANGED', format('row %%s: only an edit or an acceptance changes content', NEW.id))
                    WHEN r.content_digest <> %3$s
                    THEN system.refuse('CONTENT_CHANGED', format('row %%s is not what the person saw', NEW.id))
                    WHEN NEW.made_by IS DISTINCT FROM CASE WHEN s.kind IN ('edit', 'accept') THEN s.filed_by ELSE OLD.made_by END
                    THEN system.refuse('MAKER_FORGED', format('row %%s', NEW.id))
                    WHEN s.kind = 'approve' AND NEW.approved_by IS DISTINCT FROM s.filed_by
                    THEN system.refuse('APPROVAL_FORGED', format('row %%s', NEW.id))
                    WHEN s.kind = 'approve' AND OLD.made_by IS NOT NULL AND system.has_made(NEW.id, s.filed_by)
                    THEN system.refuse('MAKER_IS_NOT_CHECKER', format('row %%s', NEW.id))
                    WHEN %2$s THEN 'TRANSITION' ELSE 'EDIT' END,
               OLD.status, NEW.status, %3$s, c.after
          FROM old_rows OLD JOIN new_rows NEW ON NEW.id = OLD.id
         CROSS JOIN LATERAL (SELECT %4$s AS changed, %5$s AS after OFFSET 0) c
          JOIN system.signals s ON s.id = $2
          LEFT JOIN system.signal_rows r ON r.signal_id = $2 AND r.row_id = NEW.id$sql$,
        asks_for, moved, before, changed, after, frozen);

    EXECUTE format($body$
        CREATE OR REPLACE FUNCTION ledgers.%1$I() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS $f$
        DECLARE
            change BIGINT;
        BEGIN
            IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
            change := system.begin_change(%2$L, NULL);
            INSERT INTO system.history (change_id, row_id, action, to_status, after)
            SELECT change, n.id, 'INSERT', n.status, %3$s FROM new_rows n;
            INSERT INTO system.partition_activity AS a (subledger, entity_id, period, last_change)
            SELECT %2$L, n.entity_id, n.period, change FROM new_rows n GROUP BY n.entity_id, n.period
             ORDER BY n.entity_id, n.period
            ON CONFLICT (subledger, entity_id, period) DO UPDATE
               SET last_change = greatest(a.last_change + 1, EXCLUDED.last_change);
            RETURN NULL;
        END $f$ $body$, name || '_inserted', name, replace(after, 'NEW.', 'n.'));

    -- EXECUTE plans the joins afresh for each statement: a plan cached for one row would be wrong for a million.
    EXECUTE format($body$
        CREATE OR REPLACE FUNCTION ledgers.%1$I() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET enable_mergejoin = off AS $f$
        DECLARE
            signal UUID := system.setting('signal_id')::UUID;
            change BIGINT;
        BEGIN
            IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
            change := system.begin_change(%2$L, signal);
            IF signal IS NULL THEN
                EXECUTE %3$L USING change;
            ELSE
                EXECUTE %4$L USING change, signal;
            END IF;
            IF EXISTS (SELECT FROM new_rows n WHERE n.status = %5$L) THEN
                EXECUTE %6$L;
            END IF;
            INSERT INTO system.partition_activity AS a (subledger, entity_id, period, last_change)
            SELECT %2$L, n.entity_id, n.period, change FROM new_rows n GROUP BY n.entity_id, n.period
             ORDER BY n.entity_id, n.period
            ON CONFLICT (subledger, entity_id, period) DO UPDATE
               SET last_change = greatest(a.last_change + 1, EXCLUDED.last_change);
            RETURN NULL;
        END $f$ $body$, name || '_updated', name, unsigned, signed, posted, posting);

    EXECUTE format('CREATE OR REPLACE TRIGGER history_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledgers.%I()', tab, name || '_inserted');
    EXECUTE format('CREATE OR REPLACE TRIGGER history_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledgers.%I()', tab, name || '_updated');
    EXECUTE format('CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON %s FOR EACH STATEMENT '
                   'EXECUTE FUNCTION system.refuse_statement(%L)', tab, 'ROWS_ARE_KEPT');
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (entity_id, period, status)', name || '_partition_idx', tab);
    IF posted IS NOT NULL THEN
        IF EXISTS (SELECT FROM system.subledger_types s WHERE s.table_name = attach_subledger.name
                   AND s.description -> 'lifecycle' -> 'edges' <> lifecycle -> 'edges') THEN
            EXECUTE format('DROP INDEX IF EXISTS ledgers.%I', name || '_postable_idx');
        END IF;
        EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (entity_id, period) WHERE status = %L', name || '_postable_idx', tab,
                       posting_from);
    ELSE
        EXECUTE format('DROP TRIGGER IF EXISTS b_unposted ON %s', tab);
        EXECUTE format('DROP TRIGGER IF EXISTS g_posted ON %s', tab);
    END IF;
    INSERT INTO system.signal_kinds (subledger, kind)
    SELECT DISTINCT name, e ->> 'signal' FROM jsonb_array_elements(lifecycle -> 'edges') e WHERE e ->> 'signal' IS NOT NULL
    UNION SELECT name, 'edit' WHERE jsonb_array_length(lifecycle -> 'editable') > 0
    ON CONFLICT DO NOTHING;

    EXECUTE format('GRANT SELECT ON %s TO ntro_app, ntro_desk, ntro_auditor', tab);
    EXECUTE format('GRANT INSERT, UPDATE ON %s TO ntro_app', tab);
END $attach$;

-- What every subledger table gets when its type is deployed: legal edges, frozen rows, maker is not checker, history.
--
-- Rules that compare one row's old and new values are row triggers whose WHEN clause is compiled from the type's lifecycle:
-- the function behind them runs only to refuse. They fire AFTER the row is written, which costs less than BEFORE (no lock on
-- each row first) and refuses just as well: the statement is undone. Rules that need other tables, and the history itself,
-- are statement triggers over transition tables, so that a bulk change stays one statement.

CREATE FUNCTION system.refuse_new_row() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM system.refuse(TG_ARGV[0], format('%I.%I row %s: %s', TG_TABLE_SCHEMA, TG_TABLE_NAME, NEW.id, NEW.status));
    RETURN NULL;
END $$;

-- A trigger that refuses each row for which `condition` holds, with `code`.
CREATE FUNCTION system.refuse_rows(tab TEXT, name TEXT, event TEXT, code TEXT, condition TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION system.%I(%L)',
                   name, event, tab, condition, CASE event WHEN 'INSERT' THEN 'refuse_new_row' ELSE 'refuse_row' END, code);
END $$;

-- The header of a change: on a signal, the person who filed it; otherwise what the session says of itself, which may be
-- anything but a person.
CREATE FUNCTION system.begin_change(subledger_name TEXT, signal UUID) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change BIGINT;
BEGIN
    IF signal IS NULL THEN
        IF system.setting('actor_kind') = 'person' THEN
            PERFORM system.refuse('ACTOR_FORGED', 'a person changes rows by filing a signal');
        END IF;
        INSERT INTO system.changes (subledger, actor, actor_kind, reason, run_id)
        VALUES (subledger_name, coalesce(system.setting('actor'), session_user),
                coalesce(system.setting('actor_kind'), 'program'), system.setting('reason'), system.setting('run_id')::UUID)
        RETURNING id INTO change;
    ELSE
        INSERT INTO system.changes (subledger, actor, actor_kind, reason, run_id, signal_id)
        SELECT subledger_name, s.filed_by, 'person', s.reason, system.setting('run_id')::UUID, s.id
          FROM system.signals s WHERE s.id = signal AND s.subledger = subledger_name AND s.applied_at IS NULL
        RETURNING id INTO change;
        IF change IS NULL THEN
            PERFORM system.refuse('SIGNAL_ALREADY_APPLIED', 'no waiting signal of that id for this subledger');
        END IF;
    END IF;
    RETURN change;
END $$;

-- Whether a person ever edited or accepted a row: `made_by` names only the last one who did.
CREATE FUNCTION system.has_made(row_id UUID, person TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.history h JOIN system.changes c ON c.id = h.change_id
                   WHERE h.row_id = $1 AND h.action <> 'REFUSED' AND c.actor_kind = 'person' AND c.actor = $2) $$;
GRANT EXECUTE ON FUNCTION system.has_made(UUID, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

-- attach_subledger('expenses', '{vendor,…}', lifecycle)
-- lifecycle: {"initial": [status], "editable": [status], "posted": status | null,
--             "edges": [{"from": status, "to": status, "signal": kind | null, "by_machine": bool}]}
CREATE FUNCTION system.attach_subledger(name TEXT, content TEXT[], lifecycle JSONB) RETURNS VOID LANGUAGE plpgsql AS $attach$
DECLARE
    tab TEXT := format('ledgers.%I', name);
    identity CONSTANT TEXT[] := '{id,entity_id,period,source_ref,raw_payload,created_at}';
    posted TEXT := lifecycle ->> 'posted';
    initial TEXT; editable TEXT; sources TEXT;
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
           coalesce(string_agg(CASE WHEN e.by_machine THEN format('(%s AND OLD.made_by IS NOT NULL)', edge) ELSE edge END, ' OR ')
                    FILTER (WHERE e.signal IS NOT NULL), 'FALSE'),
           format('CASE %s ELSE ''edit'' END', string_agg(format('WHEN %s THEN %L', edge, coalesce(e.signal, '')), ' '))
      INTO sources, legal, approves, needs_person, asks_for
      FROM jsonb_to_recordset(lifecycle -> 'edges') AS e ("from" TEXT, "to" TEXT, signal TEXT, by_machine BOOLEAN),
           format('(OLD.status = %L AND NEW.status = %L)', e."from", e."to") AS edge;
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
            '(NEW.status = %1$L) <> NEW.posted_to_gl OR (NEW.status = %1$L) <> (NEW.posted_journal_ref IS NOT NULL)', posted));
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
               SET last_change = greatest(a.last_change, EXCLUDED.last_change);
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
               SET last_change = greatest(a.last_change, EXCLUDED.last_change);
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
        EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (entity_id, period) WHERE status = %L', name || '_postable_idx', tab,
                       (SELECT e ->> 'from' FROM jsonb_array_elements(lifecycle -> 'edges') e WHERE e ->> 'to' = posted));
    END IF;
    EXECUTE format('GRANT SELECT ON %s TO ntro_app, ntro_desk, ntro_auditor', tab);
    EXECUTE format('GRANT INSERT, UPDATE ON %s TO ntro_app', tab);
END $attach$;

-- What every subledger table gets when its type is deployed: legal edges, frozen rows, maker is not checker, history.
--
-- Rules that compare one row's old and new values are row triggers whose WHEN clause is compiled from the type's lifecycle:
-- the function behind them runs only to refuse. Rules that need other tables, and the history itself, are statement triggers
-- over transition tables, so that a bulk change stays one statement.

CREATE FUNCTION system.refuse_new_row() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM system.refuse(TG_ARGV[0], format('%I.%I row %s: %s', TG_TABLE_SCHEMA, TG_TABLE_NAME, NEW.id, NEW.status));
    RETURN NULL;
END $$;

-- The header of a change: on a signal, the person who filed it; otherwise what the session says of itself.
CREATE FUNCTION system.begin_change(subledger_name TEXT, signal UUID) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    change BIGINT;
BEGIN
    IF signal IS NULL THEN
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
REVOKE ALL ON FUNCTION system.begin_change(TEXT, UUID) FROM PUBLIC;

-- Why an update of one row is refused, or what it is called in the history. `edge_signal` is the kind of signal that the
-- edge asks for ('' = none), `by_machine` whether a program may take the edge on a row that no person has touched, `digest`
-- that of the content before the change: a decision holds for what its author saw.
CREATE FUNCTION system.judge(
    signal UUID, row_id UUID, moved BOOLEAN, changed BOOLEAN, edge_signal TEXT, by_machine BOOLEAN,
    old_maker TEXT, new_maker TEXT, approver TEXT, digest BYTEA) RETURNS TEXT LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    decided RECORD;
BEGIN
    IF signal IS NULL THEN
        IF moved AND edge_signal <> '' AND NOT (by_machine AND old_maker IS NULL) THEN
            PERFORM system.refuse('NEEDS_A_DECISION', format('row %s moves only on a signal', row_id));
        END IF;
        IF changed AND old_maker IS NOT NULL THEN
            PERFORM system.refuse('MADE_BY_A_PERSON', format('row %s was edited by a person', row_id));
        END IF;
        IF new_maker IS DISTINCT FROM old_maker THEN
            PERFORM system.refuse('MAKER_FORGED', format('row %s', row_id));
        END IF;
        RETURN CASE WHEN moved THEN 'TRANSITION' ELSE 'EDIT' END;
    END IF;
    SELECT s.kind, s.filed_by, r.content_digest INTO decided
      FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id WHERE s.id = signal AND r.row_id = judge.row_id;
    IF NOT FOUND THEN
        PERFORM system.refuse('NEEDS_A_DECISION', format('row %s is not in the signal', row_id));
    END IF;
    IF moved AND edge_signal <> decided.kind THEN
        PERFORM system.refuse('NEEDS_A_DECISION', format('row %s: the edge asks for %s', row_id, edge_signal));
    END IF;
    IF changed AND decided.kind NOT IN ('edit', 'accept') THEN
        PERFORM system.refuse('CONTENT_CHANGED', format('row %s: only an edit or an acceptance changes content', row_id));
    END IF;
    IF decided.content_digest <> digest THEN
        PERFORM system.refuse('CONTENT_CHANGED', format('row %s is not what the person saw', row_id));
    END IF;
    IF changed OR decided.kind = 'accept' THEN
        IF new_maker IS DISTINCT FROM decided.filed_by THEN
            PERFORM system.refuse('MAKER_FORGED', format('row %s', row_id));
        END IF;
    ELSIF new_maker IS DISTINCT FROM old_maker THEN
        PERFORM system.refuse('MAKER_FORGED', format('row %s', row_id));
    END IF;
    IF moved AND decided.kind = 'approve' THEN
        IF approver IS DISTINCT FROM decided.filed_by THEN
            PERFORM system.refuse('APPROVAL_FORGED', format('row %s', row_id));
        END IF;
        IF old_maker = decided.filed_by THEN
            PERFORM system.refuse('MAKER_IS_NOT_CHECKER', format('row %s', row_id));
        END IF;
    END IF;
    RETURN CASE WHEN moved THEN 'TRANSITION' ELSE 'EDIT' END;
END $$;
REVOKE ALL ON FUNCTION system.judge(UUID, UUID, BOOLEAN, BOOLEAN, TEXT, BOOLEAN, TEXT, TEXT, TEXT, BYTEA) FROM PUBLIC;

-- A posted row names the journal that carries it, of its own entity and period.
CREATE FUNCTION system.judge_posting(row_id UUID, entity UUID, in_period TEXT, reference TEXT) RETURNS TEXT LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    journal RECORD;
BEGIN
    SELECT j.entity_id, j.period INTO journal FROM ledgers.journals j WHERE j.external_id = reference;
    IF NOT FOUND OR journal.entity_id <> entity OR journal.period <> in_period THEN
        PERFORM system.refuse('POSTED_WITHOUT_JOURNAL', format('row %s', row_id));
    END IF;
    RETURN 'TRANSITION';
END $$;
REVOKE ALL ON FUNCTION system.judge_posting(UUID, UUID, TEXT, TEXT) FROM PUBLIC;

-- attach_subledger('expenses', '{vendor,…}', lifecycle)
-- lifecycle: {"initial": [status], "editable": [status], "posted": status | null,
--             "edges": [{"from": status, "to": status, "signal": kind | null, "by_machine": bool}]}
CREATE FUNCTION system.attach_subledger(name TEXT, content TEXT[], lifecycle JSONB) RETURNS VOID LANGUAGE plpgsql AS $attach$
DECLARE
    tab TEXT := format('ledgers.%I', name);
    identity CONSTANT TEXT[] := '{id,entity_id,period,source_ref,raw_payload,created_at}';
    content_of TEXT; new_content TEXT; old_content TEXT; new_digest TEXT; old_digest TEXT; same_status TEXT;
    illegal TEXT; terminal TEXT; frozen TEXT; edge_signal TEXT; by_machine TEXT; posted TEXT := lifecycle ->> 'posted';
BEGIN
    -- Dates and instants enter the digest as numbers: text would depend on the session's settings.
    SELECT string_agg(CASE format_type(a.atttypid, NULL)
                      WHEN 'date' THEN format('(@.%I - DATE ''epoch'')', c)
                      WHEN 'timestamp with time zone' THEN format('extract(epoch FROM @.%I)', c)
                      ELSE format('@.%I', c) END, ', ' ORDER BY ord)
      INTO content_of
      FROM unnest(content) WITH ORDINALITY u (c, ord)
      JOIN pg_attribute a ON a.attrelid = tab::REGCLASS AND a.attname = c;
    new_content := format('ROW(%s)', replace(content_of, '@', 'NEW'));
    old_content := format('ROW(%s)', replace(content_of, '@', 'OLD'));
    new_digest := format('sha256(convert_to(ROW(n.id, %s)::TEXT, ''UTF8''))', replace(content_of, '@', 'n'));
    old_digest := format('sha256(convert_to(ROW(o.id, %s)::TEXT, ''UTF8''))', replace(content_of, '@', 'o'));

    SELECT string_agg(format('(OLD.status = %L AND NEW.status = %L)', e ->> 'from', e ->> 'to'), ' OR '),
           string_agg(DISTINCT format('%L', e ->> 'from'), ', '),
           'CASE ' || string_agg(format('WHEN o.status = %L AND n.status = %L THEN %L', e ->> 'from', e ->> 'to',
                                        coalesce(e ->> 'signal', '')), ' ') || ' ELSE '''' END',
           coalesce(string_agg(format('(o.status = %L AND n.status = %L)', e ->> 'from', e ->> 'to'), ' OR ')
                    FILTER (WHERE (e ->> 'by_machine')::BOOLEAN), 'FALSE')
      INTO illegal, terminal, edge_signal, by_machine
      FROM jsonb_array_elements(lifecycle -> 'edges') e;
    SELECT string_agg(format('%L', s), ', ') INTO frozen FROM jsonb_array_elements_text(lifecycle -> 'editable') s;
    SELECT string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', c), ' OR ') INTO same_status FROM unnest(identity) c;

    EXECUTE format('CREATE OR REPLACE FUNCTION ledgers.%I(r ledgers.%I) RETURNS BYTEA LANGUAGE sql STABLE PARALLEL SAFE '
                   'RETURN sha256(convert_to(ROW((r).id, %s)::TEXT, ''UTF8''))', name || '_digest', name,
                   replace(content_of, '@', '(r)'));

    EXECUTE format('CREATE OR REPLACE TRIGGER a_initial BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.status NOT IN (%s) '
                   'OR NEW.approved_by IS NOT NULL OR NEW.approved_at IS NOT NULL) EXECUTE FUNCTION system.refuse_new_row(%L)',
                   tab, (SELECT string_agg(format('%L', s), ', ') FROM jsonb_array_elements_text(lifecycle -> 'initial') s),
                   'NOT_AN_INITIAL_STATUS');
    EXECUTE format('CREATE OR REPLACE TRIGGER a_terminal BEFORE UPDATE ON %s FOR EACH ROW WHEN (OLD.status NOT IN (%s)) '
                   'EXECUTE FUNCTION system.refuse_row(%L)', tab, terminal, 'ROW_IS_FINAL');
    EXECUTE format('CREATE OR REPLACE TRIGGER b_self BEFORE UPDATE OF status ON %s FOR EACH ROW WHEN (OLD.status = NEW.status) '
                   'EXECUTE FUNCTION system.refuse_row(%L)', tab, 'ILLEGAL_TRANSITION');
    EXECUTE format('CREATE OR REPLACE TRIGGER c_edge BEFORE UPDATE ON %s FOR EACH ROW WHEN (OLD.status <> NEW.status AND NOT (%s)) '
                   'EXECUTE FUNCTION system.refuse_row(%L)', tab, illegal, 'ILLEGAL_TRANSITION');
    EXECUTE format('CREATE OR REPLACE TRIGGER d_identity BEFORE UPDATE ON %s FOR EACH ROW WHEN (%s) '
                   'EXECUTE FUNCTION system.refuse_row(%L)', tab, same_status, 'IDENTITY_IS_FIXED');
    EXECUTE format('CREATE OR REPLACE TRIGGER e_frozen BEFORE UPDATE ON %s FOR EACH ROW WHEN ((OLD.status NOT IN (%s) '
                   'OR NEW.status NOT IN (%s)) AND %s IS DISTINCT FROM %s) EXECUTE FUNCTION system.refuse_row(%L)',
                   tab, frozen, frozen, old_content, new_content, 'CONTENT_IS_FROZEN');
    EXECUTE format('CREATE OR REPLACE TRIGGER f_approval BEFORE UPDATE ON %s FOR EACH ROW WHEN ((OLD.approved_by, OLD.approved_at) '
                   'IS DISTINCT FROM (NEW.approved_by, NEW.approved_at) AND (OLD.status = NEW.status OR NEW.approved_by IS NULL)) '
                   'EXECUTE FUNCTION system.refuse_row(%L)', tab, 'APPROVAL_FORGED');
    IF posted IS NOT NULL THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER b_unposted BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.posted_to_gl '
                       'OR NEW.posted_journal_ref IS NOT NULL) EXECUTE FUNCTION system.refuse_new_row(%L)', tab, 'POSTED_WITHOUT_JOURNAL');
        EXECUTE format('CREATE OR REPLACE TRIGGER g_posted BEFORE UPDATE ON %s FOR EACH ROW WHEN ((NEW.status = %L) '
                       'IS DISTINCT FROM (NEW.posted_to_gl AND NEW.posted_journal_ref IS NOT NULL) '
                       'OR (NEW.status <> %L AND NEW.posted_journal_ref IS NOT NULL)) '
                       'EXECUTE FUNCTION system.refuse_row(%L)', tab, posted, posted, 'POSTED_WITHOUT_JOURNAL');
    END IF;

    EXECUTE format($body$
        CREATE OR REPLACE FUNCTION ledgers.%1$I() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $f$
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
            ON CONFLICT (subledger, entity_id, period) DO UPDATE SET last_change = EXCLUDED.last_change;
            RETURN NULL;
        END $f$ $body$, name || '_inserted', name, new_digest);

    -- EXECUTE plans the join afresh for each statement: a plan cached for one row would be wrong for a million.
    EXECUTE format($body$
        CREATE OR REPLACE FUNCTION ledgers.%1$I() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $f$
        DECLARE
            signal UUID := system.setting('signal_id')::UUID;
            change BIGINT;
        BEGIN
            IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
            change := system.begin_change(%2$L, signal);
            EXECUTE %3$L USING change, signal;
            INSERT INTO system.partition_activity AS a (subledger, entity_id, period, last_change)
            SELECT %2$L, n.entity_id, n.period, change FROM new_rows n GROUP BY n.entity_id, n.period
             ORDER BY n.entity_id, n.period
            ON CONFLICT (subledger, entity_id, period) DO UPDATE SET last_change = EXCLUDED.last_change;
            RETURN NULL;
        END $f$ $body$, name || '_updated', name,
        format('INSERT INTO system.history (change_id, row_id, action, from_status, to_status, before, after) '
               'SELECT $1, n.id, %s, o.status, n.status, o.digest, n.digest '
               'FROM (SELECT o.*, %s AS digest FROM old_rows o OFFSET 0) o JOIN (SELECT n.*, %s AS digest FROM new_rows n OFFSET 0) n ON n.id = o.id',
               CASE WHEN posted IS NULL THEN '' ELSE format(
                   'CASE WHEN n.status = %L THEN system.judge_posting(n.id, n.entity_id, n.period, n.posted_journal_ref) ELSE ', posted) END
               || format('system.judge($2, n.id, o.status <> n.status, o.digest <> n.digest, %s, %s, '
                         'o.made_by, n.made_by, n.approved_by, o.digest)', edge_signal, by_machine)
               || CASE WHEN posted IS NULL THEN '' ELSE ' END' END,
               old_digest, new_digest));

    EXECUTE format('CREATE OR REPLACE TRIGGER history_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledgers.%I()', tab, name || '_inserted');
    EXECUTE format('CREATE OR REPLACE TRIGGER history_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledgers.%I()', tab, name || '_updated');
    EXECUTE format('CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON %s FOR EACH STATEMENT '
                   'EXECUTE FUNCTION system.refuse_statement(%L)', tab, 'ROWS_ARE_KEPT');
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (entity_id, period, status)', name || '_partition_idx', tab);
    EXECUTE format('GRANT SELECT ON %s TO ntro_app, ntro_desk, ntro_auditor', tab);
    EXECUTE format('GRANT INSERT, UPDATE ON %s TO ntro_app', tab);
END $attach$;
REVOKE ALL ON FUNCTION system.attach_subledger(TEXT, TEXT[], JSONB) FROM PUBLIC;

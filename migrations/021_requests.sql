-- What members ask for and bring in at the desk: runs, documents, who looks after a row, how far they have looked.

-- Whether a member may ask for a run or hand something in: who prepares or approves, and programs whose key the operator has made
-- for that (label `ops`).
CREATE FUNCTION system.must_be_preparer(author TEXT) RETURNS VOID LANGUAGE plpgsql STABLE AS $$
DECLARE
    role TEXT := (SELECT m.role FROM system.members m WHERE m.login = author AND m.active);
BEGIN
    IF role IS NULL THEN
        PERFORM system.refuse('NOT_A_MEMBER', 'by somebody who is no active member of this tenant');
    ELSIF role NOT IN ('preparer', 'approver') AND NOT (role = 'agent' AND EXISTS (
            SELECT FROM system.desk_sessions s
             WHERE s.login = author AND s.kind = 'key' AND s.label = 'ops' AND s.ended_at IS NULL)) THEN
        PERFORM system.refuse('ROLE_MAY_NOT', 'by a member whose role may not');
    END IF;
END $$;

-- A run that somebody wants. The desk files it, a sensor of the tenant's own starts it, and the run itself notes that it has begun:
-- a request is taken up once, whatever is tried again. Of what is asked the desk names the workflow; whose it is says the database.
CREATE TABLE system.task_requests (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    seq          BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
    workflow_id  UUID NOT NULL REFERENCES system.workflows (id),
    entity_id    UUID NOT NULL REFERENCES system.entities (id),
    runbook      TEXT NOT NULL,
    period       TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$' AND period >= '2010-01'),
    context      JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(context) = 'object' AND length(context::TEXT) <= 10000),
    filed_by     TEXT NOT NULL REFERENCES system.members (login),
    filed_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    settled_at   TIMESTAMPTZ,
    run_id       UUID UNIQUE,
    code         TEXT CHECK (code ~ '^[A-Z][A-Z_]{0,62}$'),
    CHECK (num_nonnulls(run_id, code) = (settled_at IS NOT NULL)::INTEGER)
);
-- One at a time: who asks again while the first waits means the same run.
CREATE UNIQUE INDEX task_requests_waiting_idx ON system.task_requests (workflow_id, period) WHERE settled_at IS NULL;
CREATE INDEX task_requests_partition_idx ON system.task_requests (entity_id, period, seq);

GRANT SELECT ON system.task_requests TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (workflow_id, period, context, filed_by) ON system.task_requests TO ntro_desk;
GRANT UPDATE (settled_at, run_id, code) ON system.task_requests TO ntro_app;

CREATE FUNCTION system.check_task_request() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound system.workflows;
BEGIN
    PERFORM system.must_be_preparer(NEW.filed_by);
    SELECT * INTO bound FROM system.workflows w WHERE w.id = NEW.workflow_id;
    IF bound.id IS NULL THEN
        PERFORM system.refuse('WORKFLOW_NOT_FOUND', 'a run of a workflow that is not there');
    ELSIF bound.closed_at IS NOT NULL THEN
        PERFORM system.refuse('WORKFLOW_HAS_ENDED', 'a run of a workflow that has ended');
    ELSIF NOT EXISTS (SELECT FROM system.entities e WHERE e.id = bound.entity_id AND e.status = 'ACTIVE') THEN
        PERFORM system.refuse('ENTITY_CLOSED', 'a run for an entity that is closed');
    ELSIF NEW.period > to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') THEN
        PERFORM system.refuse('PERIOD_OUT_OF_RANGE', 'a run for a month that has not begun');
    END IF;
    NEW.entity_id := bound.entity_id;
    NEW.runbook := bound.runbook;
    RETURN NEW;
END $$;
CREATE TRIGGER filed BEFORE INSERT ON system.task_requests FOR EACH ROW EXECUTE FUNCTION system.check_task_request();
CREATE TRIGGER settled_once BEFORE UPDATE ON system.task_requests
    FOR EACH ROW WHEN (OLD.settled_at IS NOT NULL) EXECUTE FUNCTION system.refuse_signal_change('REQUEST_IS_SETTLED');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON system.task_requests
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('REQUESTS_ARE_KEPT');

-- Documents that come in at the desk: whole, as the member who sent them, and never added to later.
CREATE FUNCTION system.at_the_desk() RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT pg_has_role(session_user, 'ntro_desk', 'MEMBER') $$;

GRANT INSERT (id, sha256, name, bytes, source, period, layout, records, findings, submitted_by)
    ON ingest.submitted_documents TO ntro_desk;
GRANT INSERT (id, document_id, line, entity_id, period, raw, findings) ON ingest.submitted_records TO ntro_desk;
GRANT INSERT (document_id, entity_id, subledger, period, records) ON ingest.intake TO ntro_desk;

CREATE FUNCTION ingest.check_sender() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF system.at_the_desk() THEN
        PERFORM system.must_be_preparer(n.submitted_by) FROM new_rows n;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sender AFTER INSERT ON ingest.submitted_documents REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ingest.check_sender();

-- The operator's commands find documents again that came before their readers; the desk does not.
CREATE FUNCTION ingest.check_new_intake() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT system.at_the_desk() THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM new_rows n JOIN ingest.submitted_documents d ON d.id = n.document_id
                   WHERE d.txid <> pg_current_xact_id()) THEN
        PERFORM system.refuse('DOCUMENTS_ARE_IMMUTABLE', 'a reader added to a document of an earlier transaction');
    ELSIF EXISTS (SELECT FROM new_rows n JOIN system.entities e ON e.id = n.entity_id WHERE e.status <> 'ACTIVE') THEN
        PERFORM system.refuse('ENTITY_CLOSED', 'a document for an entity that is closed');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sealed AFTER INSERT ON ingest.intake REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ingest.check_new_intake();

-- Which rows of an entity look the same as one is looked up, and not searched for among all of them. Texts stay out of the index:
-- one may be longer than an entry can be.
CREATE FUNCTION system.attach_likeness(name TEXT, columns TEXT[]) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    called CONSTANT TEXT := 'alike_' || md5(name);
    about CONSTANT TEXT := array_to_string(columns, ', ');
BEGIN
    IF obj_description(to_regclass(format('ledgers.%I', called)), 'pg_class') IS NOT DISTINCT FROM about THEN RETURN; END IF;
    EXECUTE format('DROP INDEX IF EXISTS ledgers.%I', called);
    IF cardinality(columns) > 0 THEN
        EXECUTE format('CREATE INDEX %I ON ledgers.%I (entity_id, %s)', called, name,
                       (SELECT string_agg(format('%I', c), ', ' ORDER BY at) FROM unnest(columns) WITH ORDINALITY AS each (c, at)));
        EXECUTE format('COMMENT ON INDEX ledgers.%I IS %L', called, about);
    END IF;
END $$;

-- Who looks after a row: said once each time, the last one counts. `system.assigned` is how it stands, kept by the database.
CREATE TABLE system.assignments (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subledger    TEXT NOT NULL REFERENCES system.subledger_types (table_name),
    row_id       UUID NOT NULL,
    assignee     TEXT REFERENCES system.members (login),
    assigned_by  TEXT NOT NULL REFERENCES system.members (login),
    at           TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX assignments_row_idx ON system.assignments (row_id, id);
CREATE TABLE system.assigned (
    subledger  TEXT NOT NULL,
    row_id     UUID NOT NULL,
    assignee   TEXT NOT NULL,
    PRIMARY KEY (subledger, row_id)
);
CREATE INDEX assigned_assignee_idx ON system.assigned (assignee, subledger);

GRANT EXECUTE ON FUNCTION system.kind_of(TEXT) TO ntro_desk;  -- whose assignments it tells of
GRANT SELECT ON system.assignments, system.assigned TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (subledger, row_id, assignee, assigned_by) ON system.assignments TO ntro_desk;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.assignments
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

CREATE FUNCTION system.take_assignments() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM system.must_be_preparer(by.assigned_by) FROM (SELECT DISTINCT assigned_by FROM new_rows) by;
    IF EXISTS (SELECT FROM (SELECT DISTINCT assignee FROM new_rows WHERE assignee IS NOT NULL) n
                 LEFT JOIN system.members m ON m.login = n.assignee AND m.active AND m.role IN ('preparer', 'approver')
                WHERE m.login IS NULL) THEN
        PERFORM system.refuse('ASSIGNEE_INVALID', 'rows are assigned to active members who prepare or approve');
    END IF;
    -- Every row has a record of its insertion.
    IF EXISTS (SELECT FROM new_rows n WHERE NOT EXISTS (
                   SELECT FROM system.history h JOIN system.changes c ON c.id = h.change_id
                    WHERE h.row_id = n.row_id AND c.subledger = n.subledger)) THEN
        PERFORM system.refuse('ROW_NOT_FOUND', 'an assignment of a row that this subledger does not have');
    END IF;
    -- Of two at once over the same rows one waits here, and then sees what the other said: the last one counts, by its number.
    PERFORM pg_advisory_xact_lock(hashtextextended('ntro assigning ' || n.subledger, 0))
       FROM (SELECT DISTINCT subledger FROM new_rows ORDER BY 1) n;
    DELETE FROM system.assigned a USING new_rows n WHERE a.subledger = n.subledger AND a.row_id = n.row_id;
    INSERT INTO system.assigned (subledger, row_id, assignee)
    SELECT subledger, row_id, assignee
      FROM (SELECT DISTINCT ON (s.subledger, s.row_id) s.subledger, s.row_id, s.assignee FROM system.assignments s
             WHERE EXISTS (SELECT FROM new_rows n WHERE n.subledger = s.subledger AND n.row_id = s.row_id)
             ORDER BY s.subledger, s.row_id, s.id DESC) last
     WHERE assignee IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER taken AFTER INSERT ON system.assignments REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.take_assignments();

-- How far a member has looked at a view: every transaction before `change`. Without entity or month: at all of them. Nothing is
-- decided by it, so it may be changed.
CREATE TABLE system.looks (
    login      TEXT NOT NULL REFERENCES system.members (login),
    subledger  TEXT NOT NULL REFERENCES system.subledger_types (table_name),
    entity_id  UUID REFERENCES system.entities (id),
    period     TEXT CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    change     XID8 NOT NULL,
    at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT looks_view UNIQUE NULLS NOT DISTINCT (login, subledger, entity_id, period)
);
GRANT SELECT, INSERT ON system.looks TO ntro_desk;
GRANT UPDATE (change, at) ON system.looks TO ntro_desk;
GRANT SELECT ON system.looks TO ntro_auditor;

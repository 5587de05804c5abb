-- The way back from a final status that carries no journal: a row of its own, made of the one that was turned down or left out.
-- The old row stays as it is, and is reinstated once: after that, its successor is the one to be reinstated.

-- In which statuses a row may be reinstated, and in which its successor begins. Written by deployments.
CREATE TABLE system.reinstatable (
    subledger  TEXT PRIMARY KEY,
    statuses   TEXT[] NOT NULL CHECK (cardinality(statuses) > 0),
    in_doubt   TEXT NOT NULL
);

-- `forebears`: the old row, and those that it was made of in turn.
CREATE TABLE system.reinstatements (
    row_id        UUID PRIMARY KEY,
    successor_id  UUID NOT NULL UNIQUE,
    signal_id     UUID NOT NULL REFERENCES system.signals (id),
    forebears     UUID[] NOT NULL
);
CREATE INDEX reinstatements_signal_idx ON system.reinstatements (signal_id);

GRANT SELECT ON system.reinstatable, system.reinstatements TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (row_id, successor_id, signal_id) ON system.reinstatements TO ntro_app;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.reinstatements
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

CREATE FUNCTION system.trace_forebears() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.forebears := coalesce((SELECT r.forebears FROM system.reinstatements r WHERE r.successor_id = NEW.row_id), '{}') || NEW.row_id;
    RETURN NEW;
END $$;
CREATE TRIGGER forebears BEFORE INSERT ON system.reinstatements FOR EACH ROW EXECUTE FUNCTION system.trace_forebears();

-- Each of them on a person's decision about that row as it is, and with a successor that is the same but for what makes it a row
-- of its own. Both rows get their record, under the name of who decided.
CREATE FUNCTION system.check_reinstatements() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s system.signals;
    change BIGINT;
BEGIN
    FOR s IN SELECT * FROM system.signals WHERE id IN (SELECT signal_id FROM new_rows) ORDER BY seq LOOP
        change := system.begin_change(s.subledger, s.id);
        EXECUTE format($check$
            INSERT INTO system.history (change_id, row_id, action, from_status, to_status, before, after)
            SELECT $1, n.row_id,
                   CASE WHEN $3 <> 'reinstate' OR o.id IS NULL OR r.outcome IS DISTINCT FROM 'APPLIED'
                          OR (o.entity_id, o.period) IS DISTINCT FROM ($4, $5)
                        THEN system.refuse('NEEDS_A_DECISION', format('row %%s is reinstated on a signal that says so', n.row_id))
                        WHEN k.statuses IS NULL OR o.status <> ALL (k.statuses)
                        THEN system.refuse('ILLEGAL_TRANSITION', format('row %%s: %%s is not left by reinstating', n.row_id, o.status))
                        WHEN ledgers.%2$I(o) <> r.content_digest
                        THEN system.refuse('CONTENT_CHANGED', format('row %%s is not what the person saw', n.row_id))
                        WHEN t.id IS NULL OR t.status <> k.in_doubt OR t.source_ref IS NOT DISTINCT FROM o.source_ref
                          OR (t.entity_id, t.period, t.raw_payload, t.validation_errors)
                             IS DISTINCT FROM (o.entity_id, o.period, o.raw_payload, o.validation_errors)
                          OR ledgers.%2$I(jsonb_populate_record(t, jsonb_build_object('id', o.id))) <> r.content_digest
                          OR (SELECT c.txid FROM system.history h JOIN system.changes c ON c.id = h.change_id AND c.subledger = $6
                               WHERE h.row_id = t.id AND h.action = 'INSERT' OFFSET 0) IS DISTINCT FROM pg_current_xact_id()
                        THEN system.refuse('SUCCESSOR_DIFFERS', format('row %%s for row %%s', n.successor_id, n.row_id))
                        ELSE 'REINSTATED' END,
                   o.status, o.status, r.content_digest, r.content_digest
              FROM new_rows n LEFT JOIN ledgers.%1$I o ON o.id = n.row_id LEFT JOIN ledgers.%1$I t ON t.id = n.successor_id
              LEFT JOIN system.signal_rows r ON r.signal_id = $2 AND r.row_id = n.row_id
              LEFT JOIN system.reinstatable k ON k.subledger = $6
             WHERE n.signal_id = $2$check$, s.subledger, s.subledger || '_digest')
        USING change, s.id, s.kind, s.entity_id, s.period, s.subledger;
        EXECUTE format($record$
            INSERT INTO system.history (change_id, row_id, action, to_status, after)
            SELECT $1, t.id, 'REINSTATES', t.status, ledgers.%2$I(t)
              FROM new_rows n JOIN ledgers.%1$I t ON t.id = n.successor_id WHERE n.signal_id = $2$record$,
            s.subledger, s.subledger || '_digest')
        USING change, s.id;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER decided AFTER INSERT ON system.reinstatements REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.check_reinstatements();

-- As in 002_signals.sql; and what was reinstated, to the record, has its successor.
CREATE OR REPLACE FUNCTION system.check_signal_decided() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM system.signal_rows WHERE signal_id = NEW.id AND outcome IS NULL) THEN
        PERFORM system.refuse('SIGNAL_NOT_DECIDED', format('signal %s has rows without an outcome', NEW.id));
    END IF;
    IF NEW.kind = 'reinstate' AND EXISTS (
           SELECT FROM system.signal_rows r WHERE r.signal_id = NEW.id AND r.outcome = 'APPLIED' AND NOT EXISTS (
               SELECT FROM system.reinstatements x WHERE x.row_id = r.row_id AND x.signal_id = NEW.id)) THEN
        PERFORM system.refuse('SIGNAL_NOT_DECIDED', format('signal %s has rows without a successor', NEW.id));
    END IF;
    RETURN NULL;
END $$;

-- Who made the content of a row that was reinstated made that of its successor, too. To reinstate is not to make.
CREATE OR REPLACE FUNCTION system.has_made(row_id UUID, person TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.history h JOIN system.changes c ON c.id = h.change_id JOIN system.signals s ON s.id = c.signal_id
                   WHERE h.row_id = ANY (ARRAY[$1] || coalesce((SELECT r.forebears FROM system.reinstatements r WHERE r.successor_id = $1), '{}'))
                     AND h.action IN ('EDIT', 'TRANSITION') AND s.kind IN ('edit', 'accept') AND c.actor = $2) $$;

-- What a person reinstated is for a person to accept: until then no run changes or moves it.
CREATE FUNCTION system.check_reinstated() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF system.setting('signal_id') IS NULL AND EXISTS (SELECT FROM system.reinstatements) THEN
        PERFORM system.refuse('MADE_BY_A_PERSON', format('row %s was reinstated by a person', n.id))
           FROM new_rows n JOIN system.reinstatements r ON r.successor_id = n.id WHERE n.made_by IS NULL;
    END IF;
    RETURN NULL;
END $$;

-- attach_reinstating('expenses', '{REJECTED,EXCLUDED}', 'NEEDS_ATTENTION'), after attach_subledger. No statuses: never.
CREATE FUNCTION system.attach_reinstating(name TEXT, statuses TEXT[], in_doubt TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM system.reinstatable r WHERE r.subledger = name;
    IF cardinality(statuses) = 0 THEN RETURN; END IF;
    INSERT INTO system.reinstatable (subledger, statuses, in_doubt) VALUES (name, statuses, in_doubt);
    INSERT INTO system.signal_kinds (subledger, kind) VALUES (name, 'reinstate') ON CONFLICT DO NOTHING;
    EXECUTE format('CREATE OR REPLACE TRIGGER reinstated AFTER UPDATE ON ledgers.%I REFERENCING NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION system.check_reinstated()', name);
END $$;

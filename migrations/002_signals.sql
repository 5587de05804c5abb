-- What people decide. A signal is filed by the desk's role, applied by a run, never changed; the app role cannot file one,
-- so no program can approve a row by itself.

CREATE TABLE system.signals (
    id         UUID PRIMARY KEY,
    seq        BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
    subledger  TEXT NOT NULL,
    entity_id  UUID NOT NULL REFERENCES system.entities (id),
    period     TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    kind       TEXT NOT NULL CHECK (kind IN ('approve', 'reject', 'exclude', 'edit', 'accept')),
    payload    JSONB NOT NULL DEFAULT '{}',
    reason     TEXT CHECK (kind = 'approve' OR length(trim(coalesce(reason, ''))) > 0),
    filed_by   TEXT NOT NULL CHECK (length(trim(filed_by)) > 0),
    filed_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    applied_at TIMESTAMPTZ,
    run_id     UUID,
    txid       XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX signals_waiting_idx ON system.signals (subledger, entity_id, period) WHERE applied_at IS NULL;

-- The rows a signal speaks of, each with the digest of the content its author saw.
CREATE TABLE system.signal_rows (
    signal_id       UUID NOT NULL REFERENCES system.signals (id),
    row_id          UUID NOT NULL,
    content_digest  BYTEA NOT NULL,
    outcome         TEXT CHECK (outcome IN ('APPLIED', 'REFUSED')),
    code            TEXT,
    PRIMARY KEY (signal_id, row_id)
) WITH (fillfactor = 45);  -- each row is updated once, with its outcome: there is room for that beside it

GRANT SELECT ON system.signals, system.signal_rows TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (id, subledger, entity_id, period, kind, payload, reason, filed_by) ON system.signals TO ntro_desk;
GRANT INSERT (signal_id, row_id, content_digest) ON system.signal_rows TO ntro_desk;
GRANT UPDATE (applied_at, run_id) ON system.signals TO ntro_app;
GRANT UPDATE (outcome, code) ON system.signal_rows TO ntro_app;

CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON system.signals
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('SIGNALS_ARE_KEPT');
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON system.signal_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('SIGNALS_ARE_KEPT');

CREATE FUNCTION system.refuse_signal_change() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM system.refuse(TG_ARGV[0], format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RETURN NULL;
END $$;

-- Applied means that every row of it has its outcome.
CREATE FUNCTION system.check_signal_decided() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM system.signal_rows WHERE signal_id = NEW.id AND outcome IS NULL) THEN
        PERFORM system.refuse('SIGNAL_NOT_DECIDED', format('signal %s has rows without an outcome', NEW.id));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER decided AFTER UPDATE ON system.signals
    FOR EACH ROW WHEN (NEW.applied_at IS NOT NULL) EXECUTE FUNCTION system.check_signal_decided();

CREATE TRIGGER applied_once AFTER UPDATE ON system.signals
    FOR EACH ROW WHEN (OLD.applied_at IS NOT NULL) EXECUTE FUNCTION system.refuse_signal_change('SIGNAL_ALREADY_APPLIED');
CREATE TRIGGER decided_once AFTER UPDATE ON system.signal_rows
    FOR EACH ROW WHEN (OLD.outcome IS NOT NULL) EXECUTE FUNCTION system.refuse_signal_change('SIGNAL_ALREADY_APPLIED');

-- A signal's rows are filed with it, in one transaction: nobody adds a row to a decision later.
CREATE FUNCTION system.check_signal_rows() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n JOIN system.signals s ON s.id = n.signal_id
               WHERE s.txid <> pg_current_xact_id()) THEN
        PERFORM system.refuse('SIGNAL_IS_SEALED', 'rows added to a signal of an earlier transaction');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sealed AFTER INSERT ON system.signal_rows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.check_signal_rows();

-- A refused attempt leaves its record too, in the statement that writes the outcome: one per refused row of the signal.
CREATE FUNCTION system.record_refusals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH refused AS (
        SELECT signal_id, row_id, content_digest, code FROM new_rows WHERE outcome = 'REFUSED'
    ), change AS (
        INSERT INTO system.changes (subledger, actor, actor_kind, reason, run_id, signal_id)
        SELECT subledger, filed_by, 'person', reason, system.setting('run_id')::UUID, id
          FROM system.signals WHERE id IN (SELECT signal_id FROM refused)
        RETURNING id, signal_id
    )
    INSERT INTO system.history (change_id, row_id, action, before, code)
    SELECT change.id, row_id, 'REFUSED', content_digest, code FROM refused JOIN change USING (signal_id);
    RETURN NULL;
END $$;
CREATE TRIGGER refusals AFTER UPDATE ON system.signal_rows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.record_refusals();

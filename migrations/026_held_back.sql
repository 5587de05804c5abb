-- A row that cannot be posted is held back with the reason, and holds nothing else up (decision 030).

CREATE TABLE ledgers.posting_refusals (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    row_id       UUID NOT NULL,
    entity_id    UUID NOT NULL REFERENCES system.entities (id),
    period       TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    subledger    TEXT NOT NULL,
    external_id  TEXT NOT NULL,  -- of the journal, which several rows may make together
    code         TEXT NOT NULL CHECK (code ~ '^[A-Z][A-Z0-9_]{0,79}$'),
    detail       TEXT NOT NULL,
    seen         BIGINT NOT NULL,  -- `ledgers.releases.number` when the posting began
    run_id       UUID NOT NULL,
    at           TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX posting_refusals_row_idx ON ledgers.posting_refusals (row_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.posting_refusals
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

ALTER TABLE ledgers.held_rows
    ALTER COLUMN delivery_id DROP NOT NULL,
    ADD COLUMN refusal_id BIGINT REFERENCES ledgers.posting_refusals (id),
    ADD CHECK (num_nonnulls(delivery_id, refusal_id) = 1);
CREATE INDEX held_rows_refusal_idx ON ledgers.held_rows (refusal_id) WHERE refusal_id IS NOT NULL;

-- How often something changed that refusals may hang on. Whoever changes it, and whoever holds rows back, meet at this row: a
-- refusal that rests on what was before the change holds nothing.
CREATE TABLE ledgers.releases (
    one     BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    number  BIGINT NOT NULL DEFAULT 0
);
INSERT INTO ledgers.releases DEFAULT VALUES;

-- Rows that stand approved in the month they are refused in; no others.
CREATE FUNCTION ledgers.hold_refused() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    current_number BIGINT;
    kind RECORD;
BEGIN
    SELECT number INTO current_number FROM ledgers.releases FOR SHARE;
    FOR kind IN SELECT t.table_name AS name,
                       (SELECT e ->> 'from' FROM jsonb_array_elements(t.description -> 'lifecycle' -> 'edges') e
                         WHERE e ->> 'to' = t.description -> 'lifecycle' ->> 'posted') AS approved
                  FROM system.subledger_types t
                 WHERE t.table_name IN (SELECT n.subledger FROM new_rows n WHERE n.seen = current_number) LOOP
        EXECUTE format($hold$
            WITH held AS (
                INSERT INTO ledgers.held_rows (row_id, refusal_id)
                SELECT n.row_id, max(n.id) FROM new_rows n
                  JOIN ledgers.%1$I t ON (t.id, t.entity_id, t.period) = (n.row_id, n.entity_id, n.period) AND t.status = $1
                 WHERE n.seen = $2 AND n.subledger = %1$L GROUP BY n.row_id
                ON CONFLICT (row_id) DO NOTHING RETURNING row_id, refusal_id
            )
            INSERT INTO system.history (change_id, row_id, action, code)
            SELECT $3, h.row_id, 'HELD', n.code FROM held h JOIN new_rows n ON n.id = h.refusal_id$hold$, kind.name)
        USING kind.approved, current_number, system.begin_change(kind.name, NULL);
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER holds AFTER INSERT ON ledgers.posting_refusals REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.hold_refused();

-- Let go of what is held back: of one entity, of all (NULL); for one reason, for any (NULL). Of new code: when it is loaded.
CREATE FUNCTION ledgers.release_refused(entity UUID, reason TEXT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    released BIGINT;
BEGIN
    UPDATE ledgers.releases SET number = number + 1;
    DELETE FROM ledgers.held_rows h USING ledgers.posting_refusals r
     WHERE r.id = h.refusal_id AND r.entity_id = coalesce(entity, r.entity_id) AND r.code = coalesce(reason, r.code);
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END $$;

CREATE FUNCTION ledgers.release_after_change() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows) THEN
        PERFORM ledgers.release_refused(NULL, TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER releases_new AFTER INSERT ON ledgers.accounts REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.release_after_change();
CREATE TRIGGER releases_changed AFTER UPDATE ON ledgers.accounts REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.release_after_change();
CREATE TRIGGER releases_new AFTER INSERT ON ledgers.dimensions REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.release_after_change();
CREATE TRIGGER releases_new AFTER INSERT ON ledgers.exchange_rates REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.release_after_change('RATE_MISSING');

-- A row that moves on is held back no longer, also where no entity has a ledger elsewhere.
CREATE OR REPLACE FUNCTION system.check_deliveries() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledgers.held_rows) THEN
        DELETE FROM ledgers.held_rows h USING new_rows n WHERE h.row_id = n.id AND n.status <> TG_ARGV[0];
        -- With it those that made one journal together with it: without it they make another.
        DELETE FROM ledgers.held_rows h USING ledgers.posting_refusals r
         WHERE r.id = h.refusal_id AND r.external_id IN (
               SELECT p.external_id FROM ledgers.posting_refusals p JOIN new_rows n ON n.id = p.row_id AND n.status <> TG_ARGV[0]);
    END IF;
    IF NOT EXISTS (SELECT FROM ledgers.gl_settings) THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN old_rows o ON o.id = n.id AND o.status <> n.status
                 JOIN ledgers.delivery_rows r ON r.row_id = n.id AND NOT r.refused
                 JOIN ledgers.deliveries d ON d.id = r.delivery_id AND d.outcome IS NULL) THEN
        PERFORM system.refuse('DELIVERY_UNDER_WAY', 'a row whose journal is on its way to another ledger');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN old_rows o ON o.id = n.id AND o.status <> n.status
                 JOIN (SELECT e.entity_id FROM (SELECT DISTINCT entity_id FROM new_rows) e
                        WHERE EXISTS (SELECT FROM ledgers.gl_setting(e.entity_id) s WHERE s.provider <> 'native')) e ON e.entity_id = n.entity_id
                WHERE n.status = TG_ARGV[1] AND NOT EXISTS (
                      SELECT FROM ledgers.delivery_rows r JOIN ledgers.deliveries d ON d.id = r.delivery_id
                       WHERE r.row_id = n.id AND d.outcome = 'CONFIRMED')) THEN
        PERFORM system.refuse('NOT_DELIVERED', 'a row that its entity''s ledger has not confirmed');
    END IF;
    RETURN NULL;
END $$;

-- A row that was refused here before its delivery was refused there is held for the delivery.
CREATE OR REPLACE FUNCTION ledgers.decide_delivery() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.outcome IS NOT NULL AND (OLD.outcome, OLD.provider_ref, OLD.code, OLD.attempts, OLD.wait_until)
                                   IS DISTINCT FROM (NEW.outcome, NEW.provider_ref, NEW.code, NEW.attempts, NEW.wait_until) THEN
        PERFORM system.refuse('DELIVERY_IS_DECIDED', format('delivery %s', OLD.id));
    END IF;
    IF OLD.outcome IS NULL AND NEW.outcome IS NOT NULL THEN
        NEW.decided_at := clock_timestamp();
        NEW.wait_until := NULL;
    END IF;
    IF OLD.outcome IS NULL AND NEW.outcome = 'CONFIRMED' AND NOT EXISTS (
           SELECT FROM ledgers.journals j WHERE j.external_id = NEW.external_id AND j.entity_id = NEW.entity_id AND j.period = NEW.period) THEN
        PERFORM system.refuse('POSTED_WITHOUT_JOURNAL', format('delivery %s', NEW.id));
    END IF;
    IF OLD.outcome IS NULL AND NEW.outcome = 'REFUSED' THEN
        UPDATE ledgers.delivery_rows SET refused = TRUE WHERE delivery_id = NEW.id;
        IF NEW.code IS DISTINCT FROM 'LEDGER_CHANGED' THEN
            INSERT INTO ledgers.held_rows (row_id, delivery_id) SELECT r.row_id, NEW.id FROM ledgers.delivery_rows r WHERE r.delivery_id = NEW.id
            ON CONFLICT (row_id) DO UPDATE SET delivery_id = EXCLUDED.delivery_id, refusal_id = NULL;
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- Why an approved row is not posted, for those who look.
CREATE VIEW ledgers.held AS
    SELECT h.row_id, coalesce(r.code, d.code) AS code, coalesce(r.detail, '') AS detail, coalesce(r.at, d.decided_at) AS at
      FROM ledgers.held_rows h LEFT JOIN ledgers.posting_refusals r ON r.id = h.refusal_id
      LEFT JOIN ledgers.deliveries d ON d.id = h.delivery_id;

GRANT SELECT ON ledgers.posting_refusals, ledgers.releases, ledgers.held TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (row_id, entity_id, period, subledger, external_id, code, detail, seen, run_id) ON ledgers.posting_refusals TO ntro_app;

-- ---- A ledger elsewhere that will never answer again: its operator gives it up, and says why. Nobody knows what it has.

CREATE TABLE ledgers.given_up (
    delivery_id  UUID PRIMARY KEY REFERENCES ledgers.deliveries (id),
    reason       TEXT NOT NULL CHECK (length(trim(reason)) > 0),
    recorded_by  TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.given_up
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
GRANT SELECT ON ledgers.given_up TO ntro_app, ntro_desk, ntro_auditor;

-- Not while a request may still land: whoever sends the journal again looks for it first, and must not look too early.
CREATE FUNCTION ledgers.give_up() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledgers.deliveries WHERE id = NEW.delivery_id AND outcome IS NULL AND wait_until > clock_timestamp()) THEN
        PERFORM system.refuse('DELIVERIES_UNDER_WAY', 'a request that may still land');
    END IF;
    UPDATE ledgers.deliveries SET outcome = 'REFUSED', code = 'GIVEN_UP' WHERE id = NEW.delivery_id AND outcome IS NULL;
    UPDATE ledgers.deliveries SET recheck_at = NULL WHERE id = NEW.delivery_id AND recheck_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE INDEX deliveries_given_up_idx ON ledgers.deliveries (external_id) WHERE code = 'GIVEN_UP';
CREATE TRIGGER gives_up AFTER INSERT ON ledgers.given_up FOR EACH ROW EXECUTE FUNCTION ledgers.give_up();

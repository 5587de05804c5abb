-- General ledgers of others. What goes there is written down first (a delivery), sent, and posted here when it is confirmed.

-- ---- Which ledger an entity has: a log, whose latest record holds. No secrets: options name the file or variable that has one.

CREATE TABLE ledgers.gl_settings (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_id    UUID REFERENCES system.entities (id),  -- NULL: every entity that has none of its own
    provider     TEXT CHECK (provider ~ '^[a-z][a-z0-9_]{0,39}$'),  -- NULL: an entity has none of its own any more
    place        TEXT NOT NULL DEFAULT '',  -- which ledger of the provider's: what stays when an address or a login changes
    options      JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
    recorded_by  TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK (provider IS NOT NULL OR entity_id IS NOT NULL)
);
CREATE INDEX gl_settings_idx ON ledgers.gl_settings (entity_id, id);

CREATE FUNCTION ledgers.gl_setting(entity UUID) RETURNS SETOF ledgers.gl_settings LANGUAGE sql STABLE AS
$$ SELECT s.* FROM ledgers.gl_settings s WHERE s.id = coalesce(
       (SELECT CASE WHEN o.provider IS NOT NULL THEN o.id END
          FROM (SELECT * FROM ledgers.gl_settings WHERE entity_id = $1 ORDER BY id DESC LIMIT 1) o),
       (SELECT max(id) FROM ledgers.gl_settings WHERE entity_id IS NULL)) $$;

-- ---- Deliveries

CREATE TABLE ledgers.deliveries (
    id               UUID PRIMARY KEY,
    entity_id        UUID NOT NULL REFERENCES system.entities (id),
    period           TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    subledger        TEXT NOT NULL,
    external_id      TEXT NOT NULL,
    provider         TEXT NOT NULL,
    place            TEXT NOT NULL,
    proposal         JSONB NOT NULL,
    proposal_digest  BYTEA NOT NULL,
    run_id           UUID NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    txid             XID8 NOT NULL DEFAULT pg_current_xact_id(),
    attempts         INTEGER NOT NULL DEFAULT 0,
    wait_until       TIMESTAMPTZ,  -- in doubt: until then a request that nobody answered may still land
    outcome          TEXT CHECK (outcome IN ('CONFIRMED', 'REFUSED')),
    provider_ref     TEXT,
    code             TEXT,
    decided_at       TIMESTAMPTZ,
    recheck_at       TIMESTAMPTZ,  -- when to look once more whether it is there once
    CHECK ((outcome IS NULL) = (decided_at IS NULL)),
    CHECK ((outcome = 'CONFIRMED') IS NOT TRUE OR provider_ref IS NOT NULL)
);
CREATE UNIQUE INDEX deliveries_external_id_idx ON ledgers.deliveries (external_id) WHERE outcome IS DISTINCT FROM 'REFUSED';
CREATE INDEX deliveries_under_way_idx ON ledgers.deliveries (entity_id, period, subledger) WHERE outcome IS NULL;
CREATE INDEX deliveries_recheck_idx ON ledgers.deliveries (recheck_at) WHERE recheck_at IS NOT NULL;
CREATE INDEX deliveries_partition_idx ON ledgers.deliveries (entity_id, period, created_at);

CREATE TABLE ledgers.delivery_rows (
    row_id       UUID NOT NULL,
    delivery_id  UUID NOT NULL REFERENCES ledgers.deliveries (id),
    refused      BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (delivery_id, row_id)
);
CREATE UNIQUE INDEX delivery_rows_once_idx ON ledgers.delivery_rows (row_id) WHERE NOT refused;

CREATE TABLE ledgers.delivery_attempts (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id  UUID NOT NULL REFERENCES ledgers.deliveries (id),
    run_id       UUID NOT NULL,
    started_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    ended_at     TIMESTAMPTZ,
    code         TEXT,
    CHECK ((ended_at IS NULL) = (code IS NULL))
);
CREATE INDEX delivery_attempts_idx ON ledgers.delivery_attempts (delivery_id);

-- What later looks found: a second journal under the same id, or none where there was one.
CREATE TABLE ledgers.delivery_findings (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id   UUID NOT NULL REFERENCES ledgers.deliveries (id),
    code          TEXT NOT NULL CHECK (code IN ('DOUBLE_VOIDED', 'DOUBLE_STANDS', 'GONE')),
    provider_ref  TEXT NOT NULL,
    run_id        UUID NOT NULL,
    at            TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- Rows whose journal was refused: they are not tried again until something has changed.
CREATE TABLE ledgers.held_rows (
    row_id       UUID PRIMARY KEY,
    delivery_id  UUID NOT NULL REFERENCES ledgers.deliveries (id)
);

-- How long an entity's ledger asked us to wait, or is left alone because it does not answer.
CREATE TABLE ledgers.gl_pauses (
    entity_id  UUID PRIMARY KEY REFERENCES system.entities (id),
    until      TIMESTAMPTZ NOT NULL,
    failures   INTEGER NOT NULL,
    code       TEXT NOT NULL,
    at         TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT ON ledgers.gl_settings, ledgers.deliveries, ledgers.delivery_rows, ledgers.delivery_attempts, ledgers.delivery_findings,
    ledgers.held_rows, ledgers.gl_pauses TO ntro_app, ntro_desk, ntro_auditor;
GRANT EXECUTE ON FUNCTION ledgers.gl_setting(UUID) TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (id, entity_id, period, subledger, external_id, provider, place, proposal, run_id) ON ledgers.deliveries TO ntro_app;
GRANT UPDATE (attempts, wait_until, outcome, provider_ref, code, recheck_at) ON ledgers.deliveries TO ntro_app;
GRANT INSERT (row_id, delivery_id) ON ledgers.delivery_rows TO ntro_app;
GRANT INSERT (delivery_id, run_id), UPDATE (code) ON ledgers.delivery_attempts TO ntro_app;
GRANT INSERT (delivery_id, code, provider_ref, run_id) ON ledgers.delivery_findings TO ntro_app;
GRANT INSERT (entity_id, until, failures, code), UPDATE (until, failures, code) ON ledgers.gl_pauses TO ntro_app;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.gl_settings
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.delivery_findings
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledgers.deliveries
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledgers.delivery_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledgers.delivery_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

-- ---- Intents: of an open month, to the ledger that the entity has now, over approved rows that nothing else is made of.

CREATE FUNCTION ledgers.take_delivery() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.proposal_digest := sha256(convert_to(NEW.proposal::TEXT, 'UTF8'));
    RETURN NEW;
END $$;
CREATE TRIGGER digest BEFORE INSERT ON ledgers.deliveries FOR EACH ROW EXECUTE FUNCTION ledgers.take_delivery();

CREATE FUNCTION ledgers.check_new_deliveries() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM system.refuse('ISOLATION_TOO_HIGH', 'deliveries are written at READ COMMITTED');
    END IF;
    -- As postings do: a close, and a change of the setting, wait for it.
    PERFORM FROM system.entities e WHERE e.id IN (SELECT entity_id FROM new_rows) FOR SHARE;
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.periods p USING (entity_id, period) WHERE p.status <> 'OPEN') THEN
        PERFORM system.refuse('PERIOD_CLOSED', 'deliveries for a closed period');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN system.entities e ON e.id = n.entity_id WHERE e.status = 'CLOSED') THEN
        PERFORM system.refuse('ENTITY_CLOSED', 'deliveries for a closed entity');
    END IF;
    IF EXISTS (SELECT FROM (SELECT DISTINCT entity_id, provider, place FROM new_rows) n LEFT JOIN LATERAL ledgers.gl_setting(n.entity_id) s ON TRUE
                WHERE (s.provider, s.place) IS DISTINCT FROM (n.provider, n.place)) THEN
        PERFORM system.refuse('LEDGER_CHANGED', 'the entity has another ledger now');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.journals j ON j.external_id = n.external_id) THEN
        PERFORM system.refuse('POSTED_IS_FINAL', 'a delivery of what is posted');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sound AFTER INSERT ON ledgers.deliveries REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_new_deliveries();

CREATE FUNCTION ledgers.check_delivery_rows() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind RECORD;
    good BIGINT;
BEGIN
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.deliveries d ON d.id = n.delivery_id WHERE d.txid <> pg_current_xact_id()) THEN
        PERFORM system.refuse('DELIVERY_IS_SEALED', 'rows added to a delivery of an earlier transaction');
    END IF;
    FOR kind IN SELECT d.subledger, count(*) AS rows, array_agg(n.row_id) AS ids,
                       (SELECT e ->> 'from' FROM system.subledger_types t, jsonb_array_elements(t.description -> 'lifecycle' -> 'edges') e
                         WHERE t.table_name = d.subledger AND e ->> 'to' = t.description -> 'lifecycle' ->> 'posted') AS approved
                  FROM new_rows n JOIN ledgers.deliveries d ON d.id = n.delivery_id GROUP BY d.subledger LOOP
        -- Locked: no decision about a row comes between this look and the delivery.
        EXECUTE format('SELECT count(*) FROM (SELECT t.id, t.entity_id, t.period FROM ledgers.%I t WHERE t.id = ANY ($1) AND t.status = $2 '
                       'ORDER BY t.id FOR NO KEY UPDATE) t JOIN ledgers.delivery_rows r ON r.row_id = t.id AND NOT r.refused '
                       'JOIN ledgers.deliveries d ON d.id = r.delivery_id AND (d.entity_id, d.period, d.subledger) = (t.entity_id, t.period, $3)',
                       kind.subledger) INTO good USING kind.ids, kind.approved, kind.subledger;
        IF good <> kind.rows THEN
            PERFORM system.refuse('DELIVERY_OF_OTHER_ROWS', 'rows that are not approved, or of another month or entity');
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER approved AFTER INSERT ON ledgers.delivery_rows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_delivery_rows();

-- ---- Decided once. Confirmed: with the journal, and with its rows posted, in one transaction. Refused: the rows are free again.

CREATE FUNCTION ledgers.decide_delivery() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
            ON CONFLICT (row_id) DO UPDATE SET delivery_id = EXCLUDED.delivery_id;
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER decides BEFORE UPDATE ON ledgers.deliveries FOR EACH ROW EXECUTE FUNCTION ledgers.decide_delivery();

CREATE FUNCTION ledgers.check_confirmed() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_behind BOOLEAN;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM ledgers.delivery_rows r JOIN ledgers.%I t ON t.id = r.row_id '
                   'WHERE r.delivery_id = $1 AND t.posted_journal_ref IS DISTINCT FROM $2)', NEW.subledger)
       INTO left_behind USING NEW.id, NEW.external_id;
    IF left_behind THEN
        PERFORM system.refuse('CONFIRMED_AND_NOT_POSTED', format('delivery %s', NEW.id));
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER posts AFTER UPDATE ON ledgers.deliveries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.outcome IS NULL AND NEW.outcome = 'CONFIRMED') EXECUTE FUNCTION ledgers.check_confirmed();

CREATE FUNCTION ledgers.end_attempt() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.ended_at IS NOT NULL THEN
        PERFORM system.refuse('HISTORY_IS_APPEND_ONLY', format('attempt %s has ended', OLD.id));
    END IF;
    NEW.ended_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER ends_once BEFORE UPDATE ON ledgers.delivery_attempts FOR EACH ROW EXECUTE FUNCTION ledgers.end_attempt();

-- ---- Rows under way stay where they are; rows of an entity with a ledger elsewhere are posted with their delivery only.

CREATE FUNCTION system.check_deliveries() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
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
    DELETE FROM ledgers.held_rows h USING new_rows n WHERE h.row_id = n.id AND n.status <> TG_ARGV[0];
    RETURN NULL;
END $$;

-- attach_deliveries('expenses', lifecycle), after attach_subledger.
CREATE FUNCTION system.attach_deliveries(name TEXT, lifecycle JSONB) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    tab TEXT := format('ledgers.%I', name);
    posted TEXT := lifecycle ->> 'posted';
BEGIN
    IF posted IS NULL THEN
        EXECUTE format('DROP TRIGGER IF EXISTS deliveries ON %s', tab);
        RETURN;
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER deliveries AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION system.check_deliveries(%L, %L)', tab,
                   (SELECT e ->> 'from' FROM jsonb_array_elements(lifecycle -> 'edges') e WHERE e ->> 'to' = posted), posted);
END $$;
SELECT system.attach_deliveries(table_name, description -> 'lifecycle') FROM system.subledger_types;

-- Approved rows that posting need not look at now: refused, or in doubt and looked for already. A run that died has not looked.
CREATE VIEW ledgers.waiting_rows AS
    SELECT h.row_id FROM ledgers.held_rows h
     UNION ALL
    SELECT r.row_id FROM ledgers.deliveries d JOIN ledgers.delivery_rows r ON r.delivery_id = d.id
     WHERE d.outcome IS NULL AND d.wait_until > now()
       AND NOT EXISTS (SELECT FROM ledgers.delivery_attempts a WHERE a.delivery_id = d.id AND a.ended_at IS NULL);
GRANT SELECT ON ledgers.waiting_rows TO ntro_app, ntro_desk, ntro_auditor;

-- ---- What may not change under a delivery

-- Another ledger: not while it is in doubt whether a journal is in the one before, or is there twice. What was never sent is taken back.
CREATE FUNCTION ledgers.change_ledger() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    affected UUID[];
BEGIN
    affected := ARRAY(SELECT e.id FROM system.entities e WHERE e.id = coalesce(NEW.entity_id, e.id) ORDER BY e.id FOR NO KEY UPDATE);
    PERFORM FROM ledgers.deliveries d WHERE d.entity_id = ANY (affected) AND d.outcome IS NULL ORDER BY d.id FOR UPDATE;
    IF EXISTS (SELECT FROM ledgers.deliveries d LEFT JOIN LATERAL ledgers.gl_setting(d.entity_id) s ON TRUE
                WHERE d.entity_id = ANY (affected) AND (d.outcome IS NULL AND d.wait_until IS NOT NULL OR d.recheck_at IS NOT NULL)
                  AND (s.provider, s.place) IS DISTINCT FROM (d.provider, d.place)) THEN
        PERFORM system.refuse('DELIVERIES_UNDER_WAY', 'journals of which it is not known whether the ledger before has them');
    END IF;
    UPDATE ledgers.deliveries d SET outcome = 'REFUSED', code = 'LEDGER_CHANGED'
     WHERE d.entity_id = ANY (affected) AND d.outcome IS NULL
       AND NOT EXISTS (SELECT FROM ledgers.gl_setting(d.entity_id) s WHERE (s.provider, s.place) = (d.provider, d.place));
    DELETE FROM ledgers.held_rows h USING ledgers.deliveries d WHERE d.id = h.delivery_id AND d.entity_id = ANY (affected);
    DELETE FROM ledgers.gl_pauses p WHERE p.entity_id = ANY (affected);
    RETURN NULL;
END $$;
CREATE TRIGGER changes AFTER INSERT ON ledgers.gl_settings FOR EACH ROW EXECUTE FUNCTION ledgers.change_ledger();

CREATE FUNCTION ledgers.refuse_close_under_way() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledgers.deliveries WHERE entity_id = NEW.id AND outcome IS NULL) THEN
        PERFORM system.refuse('DELIVERIES_UNDER_WAY', 'an entity whose journals are on their way');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER nothing_under_way AFTER UPDATE ON system.entities
    FOR EACH ROW WHEN (OLD.status <> NEW.status AND NEW.status = 'CLOSED') EXECUTE FUNCTION ledgers.refuse_close_under_way();

CREATE FUNCTION ledgers.refuse_account_under_way() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledgers.deliveries WHERE outcome IS NULL
                AND proposal -> 'lines' @> jsonb_build_array(jsonb_build_object('account_code', NEW.code))) THEN
        PERFORM system.refuse('DELIVERIES_UNDER_WAY', 'an account with journals on their way');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER nothing_under_way AFTER UPDATE ON ledgers.accounts
    FOR EACH ROW WHEN (OLD.active AND NOT NEW.active) EXECUTE FUNCTION ledgers.refuse_account_under_way();

-- A month is not closed while a journal is on its way, or is to be looked after. The one finding that is added.
DO $$
DECLARE
    before CONSTANT TEXT := '    was_worth := ledgers.net_assets(';
    more CONSTANT TEXT := $more$    RETURN QUERY SELECT 'DELIVERIES_UNDER_WAY', count(*), FALSE FROM ledgers.deliveries d
                  WHERE d.entity_id = entity AND d.period = month AND (d.outcome IS NULL OR d.recheck_at IS NOT NULL) HAVING count(*) > 0;
$more$;
    body CONSTANT TEXT := pg_get_functiondef('ledgers.close_findings(UUID, TEXT)'::REGPROCEDURE);
BEGIN
    IF strpos(body, before) = 0 THEN
        RAISE EXCEPTION 'close_findings has no such place';
    END IF;
    EXECUTE replace(body, before, more || before);
END $$;

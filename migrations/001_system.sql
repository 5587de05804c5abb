-- What a tenant is: its entities, who changed what, and the record of it. Names live here and nowhere else.

CREATE SCHEMA IF NOT EXISTS system;
CREATE SCHEMA IF NOT EXISTS ingest;
CREATE SCHEMA IF NOT EXISTS ledgers;
GRANT USAGE ON SCHEMA system, ingest, ledgers TO ntro_app, ntro_desk, ntro_auditor;

-- Functions are granted by name or not at all. By default everyone may call a new one, which includes attaching a trigger
-- function to a temporary table of one's own: one that runs as the owner would then write history that never happened.
-- For the same reason each of them sets `search_path = pg_catalog, pg_temp`: unless named last, pg_temp is searched first,
-- and a temporary domain called `uuid` would run its check as the owner.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE TABLE system.tenant (
    id          UUID PRIMARY KEY,
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    one_row     BOOLEAN NOT NULL DEFAULT TRUE UNIQUE CHECK (one_row)
);

CREATE TABLE system.entities (
    id           UUID PRIMARY KEY,
    slug         TEXT NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    name         TEXT NOT NULL,
    currency     TEXT NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    schema_name  TEXT NOT NULL UNIQUE,
    status       TEXT NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'CLOSED')),
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- How documents spell an entity: the normalised spelling finds the entity.
CREATE TABLE system.entity_spellings (
    spelling   TEXT PRIMARY KEY,
    entity_id  UUID NOT NULL REFERENCES system.entities (id)
);

-- One record per statement that changed a ledger: who, when, why, by which run or on which person's signal.
CREATE TABLE system.changes (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subledger   TEXT NOT NULL,
    actor       TEXT NOT NULL,
    actor_kind  TEXT NOT NULL CHECK (actor_kind IN ('person', 'run', 'program')),
    reason      TEXT,
    run_id      UUID,
    signal_id   UUID,
    txid        XID8 NOT NULL DEFAULT pg_current_xact_id(),
    at          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- One record per row of such a statement. `before` and `after` are SHA-256 digests of the row's content columns.
-- Written by triggers only: nobody but the owner may write here, and the owner's password stays with the operator.
CREATE TABLE system.history (
    change_id    BIGINT NOT NULL,
    row_id       UUID NOT NULL,
    action       TEXT NOT NULL,
    from_status  TEXT,
    to_status    TEXT,
    before       BYTEA,
    after        BYTEA,
    code         TEXT
);
CREATE INDEX history_row_idx ON system.history (row_id);

-- Where work happened: sensors ask here, so that their cost follows what changed and not what exists. Every statement that
-- changes a ledger writes here, so this is also where entity and period are checked, once a statement instead of once a row.
CREATE TABLE system.partition_activity (
    subledger      TEXT NOT NULL,
    entity_id      UUID NOT NULL REFERENCES system.entities (id),
    period         TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    last_change    BIGINT NOT NULL,
    closed_change  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (subledger, entity_id, period)
);
CREATE INDEX partition_activity_open_idx ON system.partition_activity (subledger) WHERE last_change > closed_change;

GRANT SELECT ON ALL TABLES IN SCHEMA system TO ntro_app, ntro_desk, ntro_auditor;
GRANT UPDATE (closed_change) ON system.partition_activity TO ntro_app;

CREATE FUNCTION system.refuse(code TEXT, what TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', code USING ERRCODE = 'NT001', DETAIL = what;
END $$;

CREATE FUNCTION system.setting(name TEXT) RETURNS TEXT LANGUAGE sql STABLE AS
$$ SELECT nullif(current_setting('ntro.' || name, TRUE), '') $$;
GRANT EXECUTE ON FUNCTION system.refuse(TEXT, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

CREATE FUNCTION system.refuse_statement() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM system.refuse(TG_ARGV[0], format('%s on %I.%I', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RETURN NULL;
END $$;

CREATE FUNCTION system.refuse_row() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM system.refuse(TG_ARGV[0],
        format('%I.%I row %s: %s -> %s', TG_TABLE_SCHEMA, TG_TABLE_NAME, OLD.id, OLD.status, NEW.status));
    RETURN NULL;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.changes
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.history
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

-- Which runbooks this tenant runs, in which version and since when; and which run was carried out by which code.

-- Every version that was ever deployed here. `manifest`: file -> SHA-256, of exactly the files that were unpacked.
CREATE TABLE system.runbook_versions (
    slug         TEXT NOT NULL CHECK (slug ~ '^[a-z][a-z0-9-]{0,40}$'),
    version      TEXT NOT NULL CHECK (version ~ '^v_[0-9a-f]{12}$'),
    label        TEXT NOT NULL,
    manifest     JSONB NOT NULL,
    first_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (slug, version)
);

-- The last one of a slug says what is active; without a version the runbook was withdrawn. `deployment_id` is the workspace's.
CREATE TABLE system.deployments (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id  UUID NOT NULL UNIQUE,
    slug           TEXT NOT NULL,
    version        TEXT,
    act            TEXT NOT NULL CHECK (act IN ('deploy', 'rollback', 'withdraw')),
    deployed_by    TEXT NOT NULL,
    at             TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (slug, version) REFERENCES system.runbook_versions (slug, version),
    CHECK ((version IS NULL) = (act = 'withdraw'))
);
CREATE INDEX deployments_slug_idx ON system.deployments (slug, seq DESC);

CREATE VIEW system.active_runbooks AS
    SELECT slug, version, at FROM (SELECT DISTINCT ON (slug) slug, version, at FROM system.deployments ORDER BY slug, seq DESC) d
     WHERE version IS NOT NULL;

-- Carries out a file of a runbook's: in a function nothing can end the transaction that the whole deployment is.
CREATE FUNCTION system.run_migration(statements TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statements;
END $$;
REVOKE EXECUTE ON FUNCTION system.run_migration(TEXT) FROM PUBLIC;

-- Whose reading it is: another version of the runbook may read other documents.
ALTER TABLE ingest.readers ADD COLUMN runbook TEXT;

-- The row types, as data: for programs that do not import a runbook's code. `active`: an active runbook, or the platform, has it.
CREATE TABLE system.subledger_types (
    name           TEXT NOT NULL,
    owner_runbook  TEXT,
    table_name     TEXT PRIMARY KEY,
    description    JSONB NOT NULL,
    active         BOOLEAN NOT NULL DEFAULT TRUE
);

-- One record per run: rows and history name the run, and this names the code. `code` is the whole set of active versions.
CREATE TABLE system.runs (
    run_id      UUID PRIMARY KEY,
    entity_id   UUID NOT NULL REFERENCES system.entities (id),
    period      TEXT NOT NULL,
    code        TEXT NOT NULL CHECK (code ~ '^s_[0-9a-f]{12}$'),
    runbook     TEXT,
    version     TEXT,
    began_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON system.deployments FOR EACH STATEMENT
    EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON system.runbook_versions FOR EACH STATEMENT
    EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON system.runs FOR EACH STATEMENT
    EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

GRANT SELECT ON system.runbook_versions, system.deployments, system.active_runbooks, system.subledger_types, system.runs
    TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (run_id, entity_id, period, code, runbook, version) ON system.runs TO ntro_app;

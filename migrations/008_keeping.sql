-- What does not cross the wall is kept here: failures in full, and a verbatim copy of every byte that the workspace was given.
-- Appended by the app role, read by desk and auditor, changed by nobody.

CREATE TABLE system.errors (
    id         UUID PRIMARY KEY,
    at         TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    run_id     UUID,
    step       TEXT,
    partition  TEXT,
    code       TEXT NOT NULL,
    story      TEXT NOT NULL,
    advice     TEXT NOT NULL DEFAULT '',
    traceback  TEXT NOT NULL,
    values     JSONB NOT NULL DEFAULT '{}'
);
CREATE INDEX errors_run_idx ON system.errors (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX errors_at_idx ON system.errors (at);

-- What this tenant's processes sent. `key` is the idempotency key, so a second row with one key is a second attempt; `told` is
-- the complete event as Dagster made it, before the wall.
CREATE TABLE system.transcript (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    run_id  UUID,
    call    TEXT NOT NULL,
    key     UUID NOT NULL,
    sent    BYTEA NOT NULL,
    told    TEXT
);
CREATE INDEX transcript_run_idx ON system.transcript (run_id) WHERE run_id IS NOT NULL;

-- What the code server answered, each answer once: sensors are asked every few seconds and mostly say the same.
CREATE TABLE system.answers (
    method    TEXT NOT NULL,
    digest    BYTEA NOT NULL,
    content   BYTEA NOT NULL CHECK (digest = sha256(content)),
    first_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    last_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    times     BIGINT NOT NULL DEFAULT 1,
    PRIMARY KEY (method, digest)
) WITH (fillfactor = 70);  -- equal answers update their row in place

GRANT SELECT ON system.errors, system.transcript, system.answers TO ntro_desk, ntro_auditor;
GRANT INSERT ON system.errors, system.transcript, system.answers TO ntro_app;
GRANT SELECT (method, digest, last_at, times), UPDATE (last_at, times) ON system.answers TO ntro_app;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.errors
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.transcript
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON system.answers
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER only_grows AFTER UPDATE ON system.answers
    FOR EACH ROW WHEN ((OLD.method, OLD.digest, OLD.content, OLD.first_at)
                       IS DISTINCT FROM (NEW.method, NEW.digest, NEW.content, NEW.first_at)
                       OR NEW.times <= OLD.times OR NEW.last_at < OLD.last_at)
    EXECUTE FUNCTION system.refuse_signal_change('HISTORY_IS_APPEND_ONLY');

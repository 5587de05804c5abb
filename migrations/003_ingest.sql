-- What came in, exactly as it came: documents by content, one record per data row, raw.

CREATE TABLE ingest.submitted_documents (
    id            UUID PRIMARY KEY,
    sha256        BYTEA NOT NULL UNIQUE CHECK (length(sha256) = 32),
    name          TEXT NOT NULL,
    bytes         BIGINT NOT NULL,
    source        TEXT NOT NULL,
    period        TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    layout        JSONB NOT NULL,
    records       BIGINT NOT NULL,
    findings      JSONB NOT NULL DEFAULT '[]',
    submitted_by  TEXT NOT NULL,
    submitted_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    txid          XID8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE TABLE ingest.submitted_records (
    id           UUID PRIMARY KEY,
    document_id  UUID NOT NULL REFERENCES ingest.submitted_documents (id),
    line         BIGINT NOT NULL CHECK (line > 0),
    entity_id    UUID REFERENCES system.entities (id),
    period       TEXT NOT NULL,
    raw          JSONB NOT NULL,
    findings     JSONB,
    UNIQUE (document_id, line),
    CHECK (entity_id IS NOT NULL OR findings IS NOT NULL)
);
CREATE INDEX submitted_records_partition_idx ON ingest.submitted_records (entity_id, period);

-- Which subledgers are read from documents of a source, as the deployed runbooks say.
CREATE TABLE ingest.readers (
    source     TEXT NOT NULL,
    subledger  TEXT NOT NULL,
    PRIMARY KEY (source, subledger)
);

-- What a document still has to become, by entity and subledger; `staged_at` is set by the run that made rows of its records.
CREATE TABLE ingest.intake (
    document_id  UUID NOT NULL REFERENCES ingest.submitted_documents (id),
    entity_id    UUID NOT NULL REFERENCES system.entities (id),
    subledger    TEXT NOT NULL,
    period       TEXT NOT NULL,
    records      BIGINT NOT NULL,
    staged_at    TIMESTAMPTZ,
    run_id       UUID,
    PRIMARY KEY (document_id, entity_id, subledger)
);
CREATE INDEX intake_waiting_idx ON ingest.intake (subledger, entity_id, period) WHERE staged_at IS NULL;
CREATE INDEX intake_partition_idx ON ingest.intake (entity_id, period);

GRANT SELECT ON ALL TABLES IN SCHEMA ingest TO ntro_app, ntro_desk, ntro_auditor;
-- Without `submitted_at` and `txid`: when a document came in is not for the writer to say.
GRANT INSERT (id, sha256, name, bytes, source, period, layout, records, findings, submitted_by)
    ON ingest.submitted_documents TO ntro_app;
GRANT INSERT ON ingest.submitted_records TO ntro_app;
GRANT INSERT (document_id, entity_id, subledger, period, records) ON ingest.intake TO ntro_app;
GRANT UPDATE (staged_at, run_id) ON ingest.intake TO ntro_app;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ingest.submitted_documents
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('DOCUMENTS_ARE_IMMUTABLE');
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ingest.submitted_records
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('DOCUMENTS_ARE_IMMUTABLE');

-- A document's records come with it, in one transaction: nobody adds a line to it later.
CREATE FUNCTION ingest.check_new_records() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ingest.submitted_documents d WHERE d.id IN (SELECT document_id FROM new_rows)
                AND d.txid <> pg_current_xact_id()) THEN
        PERFORM system.refuse('DOCUMENTS_ARE_IMMUTABLE', 'records added to a document of an earlier transaction');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sealed AFTER INSERT ON ingest.submitted_records REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ingest.check_new_records();

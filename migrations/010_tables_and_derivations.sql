-- Documents other than spending returns: how a source is read is data, and a document may hold the records of many months.

CREATE TABLE ingest.sources (
    source    TEXT PRIMARY KEY,
    runbook   TEXT NOT NULL,
    declared  JSONB NOT NULL
);
GRANT SELECT ON ingest.sources TO ntro_app, ntro_desk, ntro_auditor;

-- NULL: of a document, that its records name their months themselves; of a record, that nobody can tell its month.
ALTER TABLE ingest.submitted_documents ALTER COLUMN period DROP NOT NULL;
ALTER TABLE ingest.submitted_records ALTER COLUMN period DROP NOT NULL,
    ADD CONSTRAINT without_period_is_found CHECK (period IS NOT NULL OR findings IS NOT NULL);
ALTER TABLE ingest.intake DROP CONSTRAINT intake_pkey, ADD PRIMARY KEY (document_id, entity_id, subledger, period);

-- Rows made of rows. A derivation is one runbook's way to fill a subledger from others; `earlier`: from those of earlier
-- months of the entity too.
CREATE TABLE system.derivation_inputs (
    derivation  TEXT NOT NULL,
    subledger   TEXT NOT NULL,
    earlier     BOOLEAN NOT NULL,
    PRIMARY KEY (derivation, subledger)
);
CREATE INDEX derivation_inputs_subledger_idx ON system.derivation_inputs (subledger);

-- Where a derivation has something to look at: `wanted` counts what changed in its inputs, `done` is how far a run has seen.
CREATE TABLE system.derivations (
    derivation  TEXT NOT NULL,
    entity_id   UUID NOT NULL REFERENCES system.entities (id),
    period      TEXT NOT NULL,
    wanted      BIGINT NOT NULL,
    done        BIGINT NOT NULL DEFAULT 0,
    run_id      UUID,
    PRIMARY KEY (derivation, entity_id, period),
    CONSTRAINT seen_is_there CHECK (done BETWEEN 0 AND wanted)
);
CREATE INDEX derivations_outstanding_idx ON system.derivations (derivation, entity_id, period) WHERE wanted > done;

-- What a derivation said last, by the row it said it in: `ref` is the author's name of it, `digest` tells whether it is the same
-- as before. So a re-run knows what changed since a person decided.
CREATE TABLE system.derived_rows (
    derivation  TEXT NOT NULL,
    entity_id   UUID NOT NULL REFERENCES system.entities (id),
    period      TEXT NOT NULL,
    source_ref  TEXT NOT NULL,
    ref         TEXT NOT NULL,
    digest      TEXT NOT NULL,
    PRIMARY KEY (derivation, entity_id, period, source_ref)
);
GRANT SELECT, INSERT ON system.derived_rows TO ntro_app;
GRANT UPDATE (digest) ON system.derived_rows TO ntro_app;
GRANT SELECT ON system.derived_rows TO ntro_desk, ntro_auditor;
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON system.derived_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('DERIVATIONS_ARE_KEPT');

GRANT SELECT ON system.derivation_inputs, system.derivations TO ntro_app, ntro_desk, ntro_auditor;
GRANT UPDATE (done, run_id) ON system.derivations TO ntro_app;

CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON system.derivations
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('DERIVATIONS_ARE_KEPT');
CREATE TRIGGER only_forward AFTER UPDATE ON system.derivations
    FOR EACH ROW WHEN (NEW.done < OLD.done OR NEW.wanted < OLD.wanted OR (NEW.derivation, NEW.entity_id, NEW.period)
                       IS DISTINCT FROM (OLD.derivation, OLD.entity_id, OLD.period))
    EXECUTE FUNCTION system.refuse_signal_change('DERIVATIONS_ARE_KEPT');

-- What changes in an input is wanted of its own month, and of the later ones that look back at it. In order, so that two
-- changes of one entity wait for each other instead of dying.
CREATE FUNCTION system.want_derivations() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO system.derivations AS d (derivation, entity_id, period, wanted)
    SELECT derivation, NEW.entity_id, period, 1
      FROM (SELECT i.derivation, NEW.period FROM system.derivation_inputs i WHERE i.subledger = NEW.subledger
            UNION
            SELECT i.derivation, later.period FROM system.derivation_inputs i
              JOIN system.derivations later ON later.derivation = i.derivation AND later.entity_id = NEW.entity_id
                                           AND later.period > NEW.period
             WHERE i.subledger = NEW.subledger AND i.earlier) affected
     ORDER BY derivation, period
    ON CONFLICT (derivation, entity_id, period) DO UPDATE SET wanted = d.wanted + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER wanted_first AFTER INSERT ON system.partition_activity
    FOR EACH ROW EXECUTE FUNCTION system.want_derivations();
CREATE TRIGGER wanted_again AFTER UPDATE ON system.partition_activity
    FOR EACH ROW WHEN (NEW.last_change > OLD.last_change) EXECUTE FUNCTION system.want_derivations();

-- A derivation as a deployed runbook declares it; with no inputs, it is gone and holds up nothing any more. What was there
-- before it is wanted too.
CREATE FUNCTION system.declare_derivation(name TEXT, inputs TEXT[], looks_back BOOLEAN) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    before TEXT[];
BEGIN
    SELECT array_agg(subledger || earlier::TEXT ORDER BY subledger) INTO before
      FROM system.derivation_inputs WHERE derivation = name;
    IF before IS NOT DISTINCT FROM (SELECT array_agg(i || looks_back::TEXT ORDER BY i) FROM unnest(inputs) i) THEN
        RETURN;
    END IF;
    DELETE FROM system.derivation_inputs WHERE derivation = name;
    INSERT INTO system.derivation_inputs (derivation, subledger, earlier) SELECT name, i, looks_back FROM unnest(inputs) i;
    INSERT INTO system.derivations AS d (derivation, entity_id, period, wanted)
    SELECT DISTINCT name, a.entity_id, a.period, 1 FROM system.partition_activity a
     WHERE a.subledger = ANY (inputs) ORDER BY a.entity_id, a.period
    ON CONFLICT (derivation, entity_id, period) DO UPDATE SET wanted = d.wanted + 1;
END $$;

CREATE FUNCTION system.derivation_outstanding(entity UUID, month TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.derivations d WHERE d.entity_id = entity AND d.period = month AND d.wanted > d.done
                     AND EXISTS (SELECT FROM system.derivation_inputs i WHERE i.derivation = d.derivation)) $$;
GRANT EXECUTE ON FUNCTION system.derivation_outstanding(UUID, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

-- No month is closed of which something is still to be proposed.
CREATE FUNCTION ledgers.check_new_closes() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n WHERE system.derivation_outstanding(n.entity_id, n.period)) THEN
        PERFORM system.refuse('PROPOSALS_OUTSTANDING', 'rows are still to be derived in the period');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER nothing_outstanding AFTER INSERT ON ledgers.closes REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_new_closes();

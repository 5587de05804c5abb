-- What an operator has set of a runbook's parameters, for an entity's workflow: kept here and nowhere else. And with which
-- values each run began, so that a run can be understood, and done again, after they have changed.

-- One record for each value that was set; the last one counts. Without a value the runbook's default is in force again. With a
-- version it is for that version alone, before or after whatever else is deployed. A workflow that is about to be made has its
-- values before it is there, so `workflow_id` need not be known yet.
CREATE TABLE system.workflow_parameters (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow_id  UUID NOT NULL,
    name         TEXT NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,40}$'),
    value        JSONB CHECK (jsonb_typeof(value) IN ('string', 'number', 'boolean')),
    version      TEXT CHECK (version ~ '^v_[0-9a-f]{12}$'),
    set_by       TEXT NOT NULL CHECK (set_by <> ''),
    at           TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX workflow_parameters_idx ON system.workflow_parameters (workflow_id, name, seq DESC);

CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON system.workflow_parameters
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

CREATE FUNCTION system.refuse_parameter() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM system.refuse('WORKFLOW_HAS_ENDED', format('a parameter of workflow %s', NEW.workflow_id));
    RETURN NULL;
END $$;
CREATE FUNCTION system.workflow_has_ended(workflow UUID) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.workflows w WHERE w.id = workflow AND w.closed_at IS NOT NULL) $$;
CREATE TRIGGER of_an_open_workflow BEFORE INSERT ON system.workflow_parameters
    FOR EACH ROW WHEN (system.workflow_has_ended(NEW.workflow_id)) EXECUTE FUNCTION system.refuse_parameter();

-- What is set of a workflow's parameters, as one version of its runbook finds it.
CREATE FUNCTION system.parameters_of(workflow UUID, version TEXT) RETURNS JSONB LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_object_agg(last.name, last.value) FILTER (WHERE last.value IS NOT NULL), '{}')
      FROM (SELECT DISTINCT ON (p.name) p.name, p.value FROM system.workflow_parameters p
             WHERE p.workflow_id = parameters_of.workflow AND (p.version IS NULL OR p.version = parameters_of.version)
             ORDER BY p.name, p.seq DESC) last
$$;

GRANT SELECT ON system.workflow_parameters TO ntro_app, ntro_desk, ntro_auditor;
GRANT EXECUTE ON FUNCTION system.parameters_of(UUID, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

-- Every parameter of the version that carries the run out, defaults among them.
ALTER TABLE system.runs ADD COLUMN parameters JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object');
GRANT INSERT (parameters) ON system.runs TO ntro_app;

-- After which of the platform's migrations a table was given its lifecycle and history: those of an earlier release are given
-- them anew.
ALTER TABLE system.subledger_types ADD COLUMN attached_after TEXT;

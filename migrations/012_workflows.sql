-- Which runbook runs for which entity, and when: what the code server asks at a tick. The registry of the workspace has the
-- same workflows under the same ids, and their pauses; both are written by the operator's commands.

CREATE TABLE system.workflows (
    id             UUID PRIMARY KEY,
    runbook        TEXT NOT NULL CHECK (runbook ~ '^[a-z][a-z0-9-]{0,40}$'),
    entity_id      UUID NOT NULL REFERENCES system.entities (id),
    cron           TEXT,
    timezone       TEXT,
    period_offset  INTEGER NOT NULL DEFAULT -1 CHECK (period_offset BETWEEN -24 AND 0),
    pinned         TEXT CHECK (pinned ~ '^v_[0-9a-f]{12}$'),
    paused         BOOLEAN NOT NULL DEFAULT FALSE,
    armed_at       TIMESTAMPTZ NOT NULL,  -- ticks before do not count: made, or resumed, then
    created_at     TIMESTAMPTZ NOT NULL,
    closed_at      TIMESTAMPTZ,
    CHECK ((cron IS NULL) = (timezone IS NULL))
);
CREATE UNIQUE INDEX workflows_open_idx ON system.workflows (runbook, entity_id) WHERE closed_at IS NULL;
CREATE INDEX workflows_due_idx ON system.workflows (runbook, cron, timezone) WHERE closed_at IS NULL AND NOT paused;

GRANT SELECT ON system.workflows TO ntro_app, ntro_desk, ntro_auditor;

CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON system.workflows
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('WORKFLOW_IS_KEPT');
-- What it was bound to stands; it may pause, go on, and end once.
CREATE TRIGGER only_pauses_and_ends BEFORE UPDATE ON system.workflows
    FOR EACH ROW WHEN ((OLD.id, OLD.runbook, OLD.entity_id, OLD.cron, OLD.timezone, OLD.period_offset, OLD.pinned, OLD.created_at)
                       IS DISTINCT FROM
                       (NEW.id, NEW.runbook, NEW.entity_id, NEW.cron, NEW.timezone, NEW.period_offset, NEW.pinned, NEW.created_at)
                       OR OLD.closed_at IS DISTINCT FROM NEW.closed_at AND OLD.closed_at IS NOT NULL)
    EXECUTE FUNCTION system.refuse_statement('WORKFLOW_IS_KEPT');

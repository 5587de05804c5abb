-- What members say beside their decisions, and how many of them a decision takes.

-- Comments on a row: said once, kept for ever, no part of the content that an approval binds to.
CREATE TABLE system.row_comments (
    id         UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    subledger  TEXT NOT NULL REFERENCES system.subledger_types (table_name),
    row_id     UUID NOT NULL,
    by         TEXT NOT NULL REFERENCES system.members (login),
    at         TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    text       TEXT NOT NULL CHECK (length(text) <= 4000 AND length(trim(text)) > 0)
);
CREATE INDEX row_comments_row_idx ON system.row_comments (row_id, at);

GRANT SELECT ON system.row_comments TO ntro_app, ntro_desk, ntro_auditor;
-- Without `at`: when something was said is not for its author to say.
GRANT INSERT (id, subledger, row_id, by, text) ON system.row_comments TO ntro_desk;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.row_comments
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

CREATE FUNCTION system.check_row_comments() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n JOIN system.members m ON m.login = n.by WHERE NOT m.active) THEN
        PERFORM system.refuse('NOT_A_MEMBER', 'a comment by somebody who is no active member of this tenant');
    END IF;
    -- Every row has a record of its insertion.
    IF EXISTS (SELECT FROM new_rows n WHERE NOT EXISTS (
                   SELECT FROM system.history h JOIN system.changes c ON c.id = h.change_id
                    WHERE h.row_id = n.row_id AND c.subledger = n.subledger)) THEN
        PERFORM system.refuse('ROW_NOT_FOUND', 'a comment on a row that this subledger does not have');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER said_by_a_member AFTER INSERT ON system.row_comments REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.check_row_comments();

-- Filters that a member keeps. Nothing is decided by them, so they may be changed and thrown away.
CREATE TABLE system.saved_views (
    login       TEXT NOT NULL REFERENCES system.members (login),
    name        TEXT NOT NULL CHECK (length(name) <= 100 AND length(trim(name)) > 0),
    subledger   TEXT NOT NULL REFERENCES system.subledger_types (table_name),
    query       JSONB NOT NULL CHECK (jsonb_typeof(query) = 'object' AND length(query::TEXT) <= 10000),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (login, name)
);
GRANT SELECT, INSERT, DELETE ON system.saved_views TO ntro_desk;
GRANT UPDATE (name, subledger, query, updated_at) ON system.saved_views TO ntro_desk;
GRANT SELECT ON system.saved_views TO ntro_auditor;

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

-- Where a row type has its amount, as two functions beside its digest: `<table>_amount` and `<table>_currency`.

-- The sum of one key over the items of a list; NULL where any of them cannot be read as a number, or there is none.
CREATE FUNCTION system.sum_of(items JSONB, key TEXT) RETURNS NUMERIC LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN jsonb_typeof(items) = 'array' THEN
              (SELECT CASE WHEN bool_and(v IS NULL OR v ~ '^\s*[+-]?\d{1,29}(\.\d{0,29})?\s*$') THEN
                           sum(CASE WHEN v ~ '^\s*[+-]?\d{1,29}(\.\d{0,29})?\s*$' THEN v::NUMERIC END) END
                 FROM (SELECT nullif(i ->> key, '') AS v FROM jsonb_array_elements(items) i) each) END $$;
GRANT EXECUTE ON FUNCTION system.sum_of(JSONB, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

-- declare_amount('expenses', 'amount_gross', 'currency'), declare_amount('journal_proposals', 'lines[].debit', 'currency')
-- An amount of NULL is one that nobody knows; a currency of NULL is the entity's.
CREATE FUNCTION system.declare_amount(name TEXT, amount TEXT, currency TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    function TEXT;
    path CONSTANT TEXT[] := string_to_array(amount, '[].');
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION ledgers.%I(NEW ledgers.%I) RETURNS NUMERIC LANGUAGE sql STABLE PARALLEL SAFE RETURN %s',
                   name || '_amount', name,
                   CASE WHEN amount IS NULL THEN 'NULL::NUMERIC'
                        WHEN path[2] IS NULL THEN format('(NEW).%I', path[1])
                        ELSE format('system.sum_of((NEW).%I, %L)', path[1], path[2]) END);
    EXECUTE format('CREATE OR REPLACE FUNCTION ledgers.%I(NEW ledgers.%I) RETURNS TEXT LANGUAGE sql STABLE PARALLEL SAFE RETURN %s',
                   name || '_currency', name, CASE WHEN currency IS NULL THEN 'NULL::TEXT' ELSE format('(NEW).%I', currency) END);
    FOREACH function IN ARRAY ARRAY[name || '_amount', name || '_currency'] LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION ledgers.%I TO ntro_app, ntro_desk, ntro_auditor', function);
    END LOOP;
END $$;

-- Who decides, and how many it takes: programs, two approvers above an amount, delegates, decisions taken back.

ALTER TABLE system.changes DROP CONSTRAINT changes_actor_kind_check,
    ADD CONSTRAINT changes_actor_kind_check CHECK (actor_kind IN ('person', 'agent', 'run', 'program')),
    ADD COLUMN on_behalf_of TEXT;
ALTER TABLE system.signals ADD COLUMN on_behalf_of TEXT, ADD COLUMN withdrawn_at TIMESTAMPTZ,
    ADD CONSTRAINT applied_or_withdrawn CHECK (applied_at IS NULL OR withdrawn_at IS NULL);
ALTER TABLE system.signal_rows DROP CONSTRAINT signal_rows_outcome_check,
    ADD CONSTRAINT signal_rows_outcome_check CHECK (outcome IN ('APPLIED', 'REFUSED', 'SIGNED', 'SUPERSEDED'));
GRANT INSERT (on_behalf_of) ON system.signals TO ntro_desk;

DROP INDEX system.signals_waiting_idx;
CREATE INDEX signals_waiting_idx ON system.signals (subledger, entity_id, period) WHERE applied_at IS NULL AND withdrawn_at IS NULL;
CREATE INDEX history_signed_idx ON system.history (row_id) WHERE action = 'SIGNED';

-- The limits: above an amount, two approve. Only the operator writes them; a limit of NULL takes one away.
CREATE TABLE system.approval_limit_changes (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    currency     TEXT NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount       NUMERIC(38, 9) CHECK (amount >= 0 AND amount <> 'NaN'),
    recorded_by  TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE VIEW system.approval_limits AS
    SELECT currency, amount, recorded_by, recorded_at
      FROM (SELECT DISTINCT ON (currency) * FROM system.approval_limit_changes ORDER BY currency, id DESC) l
     WHERE amount IS NOT NULL;

-- An approver lets a preparer approve until a day. Ended early by a record of its own.
CREATE TABLE system.delegations (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    from_login   TEXT NOT NULL REFERENCES system.members (login),
    to_login     TEXT NOT NULL REFERENCES system.members (login),
    begins_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    ends_at      TIMESTAMPTZ NOT NULL CHECK (ends_at > begins_at),
    reason       TEXT NOT NULL CHECK (length(trim(reason)) > 0),
    recorded_by  TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX delegations_to_idx ON system.delegations (to_login);
CREATE TABLE system.delegation_ends (
    delegation_id  UUID PRIMARY KEY REFERENCES system.delegations (id),
    reason         TEXT NOT NULL CHECK (length(trim(reason)) > 0),
    recorded_by    TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
-- Those that hold now: as long as the one is an approver still, and the other a preparer.
CREATE VIEW system.active_delegations AS
    SELECT d.* FROM system.delegations d
      JOIN system.members f ON f.login = d.from_login AND f.active AND f.role = 'approver'
      JOIN system.members t ON t.login = d.to_login AND t.active AND t.role = 'preparer'
     WHERE now() >= d.begins_at AND now() < d.ends_at
       AND NOT EXISTS (SELECT FROM system.delegation_ends e WHERE e.delegation_id = d.id);

GRANT SELECT ON system.approval_limit_changes, system.approval_limits, system.delegations, system.delegation_ends,
    system.active_delegations TO ntro_app, ntro_desk, ntro_auditor;

CREATE FUNCTION system.check_delegations() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n JOIN system.members f ON f.login = n.from_login JOIN system.members t ON t.login = n.to_login
                WHERE NOT (f.active AND f.role = 'approver' AND t.active AND t.role = 'preparer')) THEN
        PERFORM system.refuse('DELEGATION_INVALID', 'an approver delegates to a preparer, and both are active');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER roles AFTER INSERT ON system.delegations REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.check_delegations();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.approval_limit_changes
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.delegations
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.delegation_ends
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

-- To take an approval back is for those who may give one.
CREATE OR REPLACE FUNCTION system.may_file(role TEXT, kind TEXT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE role WHEN 'approver' THEN TRUE
                    WHEN 'preparer' THEN kind NOT IN ('approve', 'undo')
                    WHEN 'agent' THEN kind IN ('edit', 'accept')
                    ELSE FALSE END $$;

-- On whose behalf a member decides what its own role may not: NULL, if nobody's. `wanted`: only on that approver's.
CREATE FUNCTION system.delegator_of(login TEXT, kind TEXT, wanted TEXT) RETURNS TEXT LANGUAGE sql STABLE AS
$$ SELECT d.from_login FROM system.active_delegations d
    WHERE d.to_login = $1 AND $2 IN ('approve', 'undo') AND ($3 IS NULL OR d.from_login = $3) ORDER BY d.begins_at, d.id LIMIT 1 $$;
GRANT EXECUTE ON FUNCTION system.delegator_of(TEXT, TEXT, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

CREATE FUNCTION system.take_authority() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted CONSTANT TEXT := NEW.on_behalf_of;
BEGIN
    NEW.on_behalf_of := system.delegator_of(NEW.filed_by, NEW.kind, wanted);
    IF wanted IS DISTINCT FROM NEW.on_behalf_of AND wanted IS NOT NULL THEN
        PERFORM system.refuse('ROLE_MAY_NOT', 'a decision on behalf of somebody who has not delegated it');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER authority BEFORE INSERT ON system.signals FOR EACH ROW EXECUTE FUNCTION system.take_authority();

CREATE OR REPLACE FUNCTION system.check_signal_author() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM system.members) THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM new_rows n LEFT JOIN system.members m ON m.login = n.filed_by AND m.active WHERE m.login IS NULL) THEN
        PERFORM system.refuse('NOT_A_MEMBER', 'a decision by somebody who is no active member of this tenant');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN system.members m ON m.login = n.filed_by
                WHERE n.on_behalf_of IS NULL AND NOT system.may_file(m.role, n.kind)) THEN
        PERFORM system.refuse('ROLE_MAY_NOT', 'a decision that the member''s role may not file');
    END IF;
    RETURN NULL;
END $$;

-- As in 007_lifecycle.sql, but for programs that are members, delegates, and decisions that were withdrawn.
CREATE FUNCTION system.kind_of(author TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN author LIKE 'agent:%' THEN 'agent' ELSE 'person' END $$;

CREATE OR REPLACE FUNCTION system.begin_change(subledger_name TEXT, signal UUID) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change BIGINT;
BEGIN
    IF signal IS NULL THEN
        IF system.setting('actor_kind') IN ('person', 'agent') THEN
            PERFORM system.refuse('ACTOR_FORGED', 'a member changes rows by filing a signal');
        END IF;
        INSERT INTO system.changes (subledger, actor, actor_kind, reason, run_id)
        VALUES (subledger_name, coalesce(system.setting('actor'), session_user),
                coalesce(system.setting('actor_kind'), 'program'), system.setting('reason'), system.setting('run_id')::UUID)
        RETURNING id INTO change;
    ELSE
        INSERT INTO system.changes (subledger, actor, actor_kind, on_behalf_of, reason, run_id, signal_id)
        SELECT subledger_name, s.filed_by, system.kind_of(s.filed_by), s.on_behalf_of, s.reason, system.setting('run_id')::UUID, s.id
          FROM system.signals s
         WHERE s.id = signal AND s.subledger = subledger_name AND s.applied_at IS NULL AND s.withdrawn_at IS NULL
        RETURNING id INTO change;
        IF change IS NULL THEN
            PERFORM system.refuse('SIGNAL_ALREADY_APPLIED', 'no waiting signal of that id for this subledger');
        END IF;
    END IF;
    RETURN change;
END $$;

-- Whether a member ever edited or accepted a row: `made_by` names only the last one who did. To approve is not to make.
CREATE OR REPLACE FUNCTION system.has_made(row_id UUID, person TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.history h JOIN system.changes c ON c.id = h.change_id JOIN system.signals s ON s.id = c.signal_id
                   WHERE h.row_id = $1 AND h.action IN ('EDIT', 'TRANSITION') AND s.kind IN ('edit', 'accept') AND c.actor = $2) $$;

-- First approvals that hold: nothing of the row has changed or moved since. OFFSET 0 keeps the look for that a lookup by row: the
-- history was just written, so there are no statistics on it, and a join would go through all of it for every row.
CREATE VIEW system.signatures AS
    SELECT c.subledger, h.row_id, h.before AS digest, c.actor AS filed_by, c.on_behalf_of, c.at, c.signal_id
      FROM system.history h JOIN system.changes c ON c.id = h.change_id
     WHERE h.action = 'SIGNED' AND NOT EXISTS (
           SELECT FROM system.history l WHERE l.row_id = h.row_id AND l.change_id > h.change_id AND l.action IN ('EDIT', 'TRANSITION')
              AND (l.from_status, l.before) IS DISTINCT FROM (l.to_status, l.after) OFFSET 0);
GRANT SELECT ON system.signatures TO ntro_app, ntro_desk, ntro_auditor;

-- An amount that nobody knows is taken to be above every limit.
CREATE FUNCTION system.needs_two(amount NUMERIC, currency TEXT, entity UUID) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT CASE WHEN $1 IS NULL THEN EXISTS (SELECT FROM system.approval_limits)
               ELSE coalesce(abs($1) > (SELECT l.amount FROM system.approval_limits l WHERE l.currency =
                        coalesce($2, (SELECT e.currency FROM system.entities e WHERE e.id = $3))), FALSE) END $$;

-- Whether somebody else has approved this content before. Two signatures must not come from one person, nor from one
-- person's authority: of the four people who filed and for whom they did, none stands on both sides.
CREATE FUNCTION system.is_cosigned(row_id UUID, digest BYTEA, author TEXT, behalf TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.signatures g WHERE g.row_id = $1 AND g.digest = $2
                     AND NOT (ARRAY[g.filed_by, coalesce(g.on_behalf_of, g.filed_by)] && ARRAY[$3, coalesce($4, $3)])
                     AND NOT system.has_made($1, g.filed_by) AND NOT (g.on_behalf_of IS NOT NULL AND system.has_made($1, g.on_behalf_of))) $$;
CREATE FUNCTION system.has_signed(row_id UUID, digest BYTEA, author TEXT, behalf TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM system.signatures g WHERE g.row_id = $1 AND g.digest = $2
                     AND ARRAY[g.filed_by, coalesce(g.on_behalf_of, g.filed_by)] && ARRAY[$3, coalesce($4, $3)]) $$;
GRANT EXECUTE ON FUNCTION system.needs_two(NUMERIC, TEXT, UUID), system.is_cosigned(UUID, BYTEA, TEXT, TEXT),
    system.has_signed(UUID, BYTEA, TEXT, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

-- What an approval asks beyond what attach_subledger's own triggers ask.
CREATE FUNCTION system.check_approvals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s system.signals;
BEGIN
    SELECT * INTO s FROM system.signals WHERE id = system.setting('signal_id')::UUID;
    IF s.kind IS DISTINCT FROM 'approve' THEN RETURN NULL; END IF;
    IF s.on_behalf_of IS NOT NULL THEN
        PERFORM system.refuse('MAKER_IS_NOT_CHECKER', format('row %s: approved on behalf of its maker', n.id))
           FROM new_rows n WHERE n.made_by IS NOT NULL AND system.has_made(n.id, s.on_behalf_of);
    END IF;
    IF EXISTS (SELECT FROM system.approval_limits) THEN
        EXECUTE format($check$
            SELECT system.refuse('SECOND_APPROVAL_MISSING', format('row %%s', t.id)) FROM new_rows n JOIN ledgers.%1$I t ON t.id = n.id
             WHERE system.needs_two(ledgers.%2$I(t), ledgers.%3$I(t), t.entity_id)
               AND NOT system.is_cosigned(t.id, ledgers.%4$I(t), $1, $2)$check$,
            TG_TABLE_NAME, TG_TABLE_NAME || '_amount', TG_TABLE_NAME || '_currency', TG_TABLE_NAME || '_digest')
        USING s.filed_by, s.on_behalf_of;
    END IF;
    RETURN NULL;
END $$;

-- attach_approvals('expenses', lifecycle), after attach_subledger. Its trigger comes before `history_update`, in the order of
-- names: the record of the step itself must not yet be there to void the first signature.
CREATE FUNCTION system.attach_approvals(name TEXT, lifecycle JSONB) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    tab TEXT := format('ledgers.%I', name);
    approves TEXT; undoes TEXT;
BEGIN
    SELECT coalesce(string_agg(edge, ' OR ') FILTER (WHERE e.signal = 'approve'), 'FALSE'),
           coalesce(string_agg(edge, ' OR ') FILTER (WHERE e.signal = 'undo'), 'FALSE')
      INTO approves, undoes
      FROM jsonb_to_recordset(lifecycle -> 'edges') AS e ("from" TEXT, "to" TEXT, signal TEXT),
           format('(OLD.status = %L AND NEW.status = %L)', e."from", e."to") AS edge;
    PERFORM system.refuse_rows(tab, 'f_approval', 'UPDATE', 'APPROVAL_FORGED', format(
        'CASE WHEN %s THEN NEW.approved_by IS NULL OR NEW.approved_at IS DISTINCT FROM now() '
        'WHEN %s THEN NEW.approved_by IS NOT NULL OR NEW.approved_at IS NOT NULL '
        'ELSE (OLD.approved_by, OLD.approved_at) IS DISTINCT FROM (NEW.approved_by, NEW.approved_at) END', approves, undoes));
    EXECUTE format('CREATE OR REPLACE TRIGGER approvals AFTER UPDATE ON %s REFERENCING NEW TABLE AS new_rows '
                   'FOR EACH STATEMENT EXECUTE FUNCTION system.check_approvals()', tab);
END $$;
SELECT system.declare_amount(table_name, description ->> 'amount', description ->> 'currency'),
       system.attach_approvals(table_name, description -> 'lifecycle')
  FROM system.subledger_types;

-- Every outcome but APPLIED leaves its record, in the statement that writes it. A signature is taken from the row as it is:
-- locked, so that no change of it comes between the look and the record.
CREATE OR REPLACE FUNCTION system.record_refusals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ledger TEXT;
BEGIN
    FOR ledger IN SELECT DISTINCT s.subledger FROM new_rows n JOIN system.signals s ON s.id = n.signal_id WHERE n.outcome = 'SIGNED' LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT FROM ledgers.%I WHERE id IN (SELECT row_id FROM new_rows WHERE outcome = ''SIGNED'') '
                       'ORDER BY id FOR NO KEY UPDATE) locked', ledger);
        EXECUTE format($check$
            SELECT CASE WHEN t.id IS NULL OR s.kind <> 'approve' THEN system.refuse('NEEDS_A_DECISION', format('row %%s', n.row_id))
                        WHEN ledgers.%2$I(t) <> n.content_digest THEN system.refuse('CONTENT_CHANGED', format('row %%s', n.row_id))
                        WHEN t.made_by IS NOT NULL AND (system.has_made(t.id, s.filed_by)
                                                        OR s.on_behalf_of IS NOT NULL AND system.has_made(t.id, s.on_behalf_of))
                        THEN system.refuse('MAKER_IS_NOT_CHECKER', format('row %%s', n.row_id)) END
              FROM new_rows n JOIN system.signals s ON s.id = n.signal_id AND s.subledger = %3$L LEFT JOIN ledgers.%1$I t ON t.id = n.row_id
             WHERE n.outcome = 'SIGNED'$check$, ledger, ledger || '_digest', ledger);
    END LOOP;
    WITH told AS (
        SELECT signal_id, row_id, content_digest, outcome, code FROM new_rows WHERE outcome <> 'APPLIED'
    ), change AS (
        INSERT INTO system.changes (subledger, actor, actor_kind, on_behalf_of, reason, run_id, signal_id)
        SELECT subledger, filed_by, system.kind_of(filed_by), on_behalf_of, reason, system.setting('run_id')::UUID, id
          FROM system.signals WHERE id IN (SELECT signal_id FROM told)
        RETURNING id, signal_id
    )
    INSERT INTO system.history (change_id, row_id, action, before, code)
    SELECT change.id, row_id, outcome, content_digest, code FROM told JOIN change USING (signal_id);
    RETURN NULL;
END $$;

-- A decision that waits may be taken back by who filed it: by a record, whose trigger does the rest. The lock makes it wait for
-- a run that is applying the decision, and such a run for it: exactly one of both happens.
CREATE TABLE system.withdrawals (
    signal_id  UUID PRIMARY KEY REFERENCES system.signals (id),
    login      TEXT NOT NULL,
    at         TIMESTAMPTZ NOT NULL DEFAULT now()
);
GRANT SELECT ON system.withdrawals TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (signal_id, login) ON system.withdrawals TO ntro_desk;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.withdrawals
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

CREATE FUNCTION system.withdraw_signal() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s system.signals;
BEGIN
    SELECT * INTO s FROM system.signals WHERE id = NEW.signal_id FOR NO KEY UPDATE;
    IF s.id IS NULL THEN
        PERFORM system.refuse('SIGNAL_NOT_FOUND', 'no signal of that id');
    ELSIF s.filed_by <> NEW.login THEN
        PERFORM system.refuse('NOT_YOUR_DECISION', 'a signal is withdrawn by who filed it');
    ELSIF s.applied_at IS NOT NULL THEN
        PERFORM system.refuse('SIGNAL_ALREADY_APPLIED', 'what was applied is not withdrawn');
    ELSIF s.withdrawn_at IS NOT NULL THEN
        PERFORM system.refuse('SIGNAL_WITHDRAWN', 'it was withdrawn before');
    END IF;
    UPDATE system.signal_rows SET outcome = 'SUPERSEDED', code = 'WITHDRAWN' WHERE signal_id = s.id AND outcome IS NULL;
    UPDATE system.signals SET withdrawn_at = now() WHERE id = s.id;
    RETURN NEW;
END $$;
CREATE TRIGGER withdraws BEFORE INSERT ON system.withdrawals FOR EACH ROW EXECUTE FUNCTION system.withdraw_signal();

CREATE TRIGGER withdrawn_once AFTER UPDATE ON system.signals
    FOR EACH ROW WHEN (OLD.withdrawn_at IS NOT NULL) EXECUTE FUNCTION system.refuse_signal_change('SIGNAL_WITHDRAWN');

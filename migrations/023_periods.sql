-- Closing a month. Acts of people are a log, beside their other decisions; its trigger checks them and moves the period. Closing is
-- instant, the seal comes behind.

ALTER TABLE ledgers.periods DROP CONSTRAINT periods_status_check,
    ADD CONSTRAINT periods_status_check CHECK (status IN ('OPEN', 'CLOSING', 'CLOSED'));
CREATE INDEX periods_closing_idx ON ledgers.periods (period) WHERE status = 'CLOSING';

CREATE TABLE system.period_acts (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_id  UUID NOT NULL REFERENCES system.entities (id),
    period     TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    act        TEXT NOT NULL CHECK (act IN ('CLOSE', 'ASK_REOPEN', 'REOPEN')),
    login      TEXT NOT NULL CHECK (length(trim(login)) > 0),
    reason     TEXT CHECK (act = 'CLOSE' OR length(trim(coalesce(reason, ''))) > 0),
    asked      BIGINT UNIQUE REFERENCES system.period_acts (id),
    at         TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK ((act = 'REOPEN') = (asked IS NOT NULL))
);
CREATE INDEX period_acts_idx ON system.period_acts (entity_id, period, id);

-- What a closed period is known by: a digest over its journals as they stood. Computed here, not told.
CREATE TABLE ledgers.seals (
    act_id     BIGINT PRIMARY KEY REFERENCES system.period_acts (id),
    entity_id  UUID NOT NULL REFERENCES system.entities (id),
    period     TEXT NOT NULL,
    journals   BIGINT NOT NULL,
    digest     BYTEA NOT NULL CHECK (length(digest) = 32),
    run_id     UUID NOT NULL,
    at         TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- What the bank says, where somebody has looked; the last record of a day holds.
CREATE TABLE system.bank_balances (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_id     UUID NOT NULL REFERENCES system.entities (id),
    account_code  TEXT NOT NULL REFERENCES ledgers.accounts (code),
    currency      TEXT NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    on_date       DATE NOT NULL,
    balance       NUMERIC(38, 9) NOT NULL CHECK (balance <> 'NaN'),
    source_ref    TEXT,
    recorded_by   TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX bank_balances_idx ON system.bank_balances (entity_id, on_date, account_code, currency, id);

-- By how much net assets may move from month to month before somebody has to say why: 0.2 is a fifth.
CREATE TABLE ledgers.plausibility_limits (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change       NUMERIC(12, 6) NOT NULL CHECK (change > 0 AND change <> 'NaN'),
    recorded_by  TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO ledgers.plausibility_limits (change, recorded_by) VALUES (0.2, 'platform');

GRANT SELECT ON system.period_acts, ledgers.seals, system.bank_balances, ledgers.plausibility_limits TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (entity_id, period, act, login, reason, asked) ON system.period_acts TO ntro_desk;
GRANT INSERT (entity_id, account_code, currency, on_date, balance, source_ref, recorded_by) ON system.bank_balances TO ntro_desk;
GRANT INSERT (act_id, entity_id, period, run_id) ON ledgers.seals TO ntro_app;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.period_acts
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.seals
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON system.bank_balances
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.plausibility_limits
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

CREATE FUNCTION ledgers.last_day(period TEXT) RETURNS DATE LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (make_date(left(period, 4)::INTEGER, right(period, 2)::INTEGER, 1) + INTERVAL '1 month' - INTERVAL '1 day')::DATE $$;

-- Neither CLOSING nor CLOSED takes journals, nor does a month before such a one: what it carried forward would change. As in
-- 006_general_ledger.sql but for that.
CREATE OR REPLACE FUNCTION ledgers.check_new_journals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM system.refuse('ISOLATION_TOO_HIGH', 'journals are written at READ COMMITTED');
    END IF;
    PERFORM FROM system.entities e WHERE e.id IN (SELECT entity_id FROM new_rows) FOR SHARE;
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.periods p ON p.entity_id = n.entity_id AND p.period >= n.period
                WHERE p.status <> 'OPEN') THEN
        PERFORM system.refuse('PERIOD_CLOSED', 'journals for a closed period, or one before it');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN system.entities e ON e.id = n.entity_id WHERE e.status = 'CLOSED') THEN
        PERFORM system.refuse('ENTITY_CLOSED', 'journals for a closed entity');
    END IF;
    RETURN NULL;
END $$;

-- ---- What a close looks at. Each finding has a code, how many things it is about, and whether a reason can answer it.

-- A subledger and its control account, by currency: what its posted rows add up to, and what their journals put on the account.
-- Reversals and journals of other rows move the account too, by themselves.
CREATE FUNCTION ledgers.control_accounts(entity UUID, month TEXT)
    RETURNS TABLE (subledger TEXT, role TEXT, currency TEXT, posted_rows NUMERIC, account NUMERIC)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind RECORD;
BEGIN
    FOR kind IN SELECT t.table_name, t.description ->> 'control' AS role FROM system.subledger_types t WHERE t.description ->> 'control' IS NOT NULL ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format($look$
            WITH posted AS (
                SELECT coalesce(ledgers.%2$I(t), e.currency) AS currency, sum(ledgers.%3$I(t)) AS amount
                  FROM ledgers.%1$I t JOIN system.entities e ON e.id = t.entity_id
                 WHERE t.entity_id = $1 AND t.period = $2 AND t.posted_to_gl GROUP BY 1
            ), booked AS (
                SELECT j.currency, sum(CASE WHEN a.type IN ('ASSET', 'EXPENSE') THEN l.debit - l.credit ELSE l.credit - l.debit END) AS amount
                  FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id
                  JOIN ledgers.accounts a ON a.code = l.account_code AND a.role = $3
                 WHERE j.entity_id = $1 AND j.period = $2
                   AND EXISTS (SELECT FROM ledgers.journal_rows r JOIN ledgers.%1$I t ON t.id = r.row_id WHERE r.journal_id = j.id)
                 GROUP BY 1)
            SELECT %4$L::TEXT, $3, coalesce(p.currency, b.currency), coalesce(p.amount, 0), coalesce(b.amount, 0)
              FROM posted p FULL JOIN booked b ON b.currency = p.currency ORDER BY 3$look$,
            kind.table_name, kind.table_name || '_currency', kind.table_name || '_amount', kind.table_name)
        USING entity, month, kind.role;
    END LOOP;
END $$;

-- Net assets at the end of a month in the entity's currency: what is owned less what is owed.
CREATE FUNCTION ledgers.net_assets(entity UUID, month TEXT) RETURNS NUMERIC LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT coalesce(sum(m.functional_debit - m.functional_credit), 0)
     FROM ledgers.movements m JOIN ledgers.accounts a ON a.code = m.account_code
    WHERE m.entity_id = entity AND m.period <= month AND a.type IN ('ASSET', 'LIABILITY') $$;

CREATE FUNCTION ledgers.bank_differences(entity UUID, month TEXT)
    RETURNS TABLE (account_code TEXT, currency TEXT, statement NUMERIC, books NUMERIC)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
$$ SELECT s.account_code, s.currency, s.balance,
          coalesce((SELECT sum(m.debit - m.credit) FROM ledgers.movements m
                     WHERE m.entity_id = entity AND m.period <= month AND m.currency = s.currency
                       AND m.account_code = s.account_code), 0)
     FROM (SELECT DISTINCT ON (b.account_code, b.currency) b.account_code, b.currency, b.balance
             FROM system.bank_balances b WHERE b.entity_id = entity AND b.on_date = ledgers.last_day(month)
            ORDER BY b.account_code, b.currency, b.id DESC) s $$;

CREATE FUNCTION ledgers.close_findings(entity UUID, month TEXT)
    RETURNS TABLE (code TEXT, things BIGINT, answerable BOOLEAN)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind RECORD;
    now_worth NUMERIC;
    was_worth NUMERIC;
    found BIGINT;
    undecided BIGINT := 0;
    last_closed CONSTANT TEXT := (SELECT max(p.period) FROM ledgers.periods p
                                   WHERE p.entity_id = entity AND p.period < month AND p.status <> 'OPEN');
    earlier TEXT[];
    left_open TEXT[] := ARRAY(SELECT DISTINCT j.period FROM ledgers.journals j
                                LEFT JOIN ledgers.periods p ON p.entity_id = j.entity_id AND p.period = j.period
                               WHERE j.entity_id = entity AND j.period < month AND coalesce(p.status, 'OPEN') = 'OPEN');
BEGIN
    FOR kind IN SELECT t.table_name, ARRAY(SELECT DISTINCT e ->> 'from' FROM jsonb_array_elements(t.description -> 'lifecycle' -> 'edges') e) AS open
                  FROM system.subledger_types t LOOP
        EXECUTE format('SELECT count(*) FROM ledgers.%I WHERE entity_id = $1 AND period = $2 AND status = ANY ($3)', kind.table_name)
           INTO found USING entity, month, kind.open;
        undecided := undecided + found;
        -- Rows of an earlier month could not be posted once this one is closed. Those before a closed month wait already.
        EXECUTE format('SELECT array_agg(a.period) FROM system.partition_activity a
                         WHERE a.subledger = %1$L AND a.entity_id = $1 AND a.period < $2 AND a.period > $4 AND a.last_change > a.closed_change
                           AND EXISTS (SELECT FROM ledgers.%1$I t WHERE t.entity_id = $1 AND t.period = a.period AND t.status = ANY ($3))',
                       kind.table_name)
           INTO earlier USING entity, month, kind.open, coalesce(last_closed, '');
        left_open := left_open || coalesce(earlier, '{}');
    END LOOP;
    RETURN QUERY SELECT 'ROWS_STILL_OPEN', undecided, FALSE WHERE undecided > 0;
    RETURN QUERY SELECT 'DECISIONS_NOT_APPLIED', count(*), FALSE FROM system.signals s
                  WHERE s.entity_id = entity AND s.period = month AND s.applied_at IS NULL AND s.withdrawn_at IS NULL HAVING count(*) > 0;
    RETURN QUERY SELECT 'DOCUMENTS_NOT_STAGED', count(*), FALSE FROM ingest.intake i
                  WHERE i.entity_id = entity AND i.period = month AND i.staged_at IS NULL HAVING count(*) > 0;
    RETURN QUERY SELECT 'PROPOSALS_OUTSTANDING', 1::BIGINT, FALSE WHERE system.derivation_outstanding(entity, month);
    RETURN QUERY SELECT 'EARLIER_PERIOD_OPEN', count(DISTINCT p), FALSE FROM unnest(left_open) p HAVING count(*) > 0;
    -- Of this month: earlier ones were asked when they were closed. Its movements are what its lines add up to, too.
    RETURN QUERY SELECT 'BOOKS_DO_NOT_BALANCE', count(*), FALSE FROM (
                  SELECT FROM ledgers.movements m WHERE m.entity_id = entity AND m.period = month
                   GROUP BY m.currency HAVING sum(m.debit - m.credit) <> 0
                  UNION ALL
                  SELECT FROM (SELECT * FROM ledgers.movements m WHERE m.entity_id = entity AND m.period = month) m
                    FULL JOIN (SELECT j.currency, l.account_code, sum(l.debit) AS debit, sum(l.credit) AS credit
                                 FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id
                                WHERE j.entity_id = entity AND j.period = month GROUP BY 1, 2) l USING (currency, account_code)
                   WHERE (m.debit, m.credit) IS DISTINCT FROM (l.debit, l.credit)) b HAVING count(*) > 0;
    -- Those that stand: what was written before there were rates is reversed, and its reversal has none either.
    RETURN QUERY SELECT 'NOT_TRANSLATED', count(*), FALSE FROM ledgers.journals j JOIN system.entities e ON e.id = j.entity_id
                  WHERE j.entity_id = entity AND j.period = month AND j.currency <> e.currency AND j.functional_currency IS NULL
                    AND j.reverses IS NULL AND NOT EXISTS (SELECT FROM ledgers.journals r WHERE r.reverses = j.id) HAVING count(*) > 0;
    RETURN QUERY SELECT 'CONTROL_ACCOUNT_DIFFERS', count(*), FALSE FROM ledgers.control_accounts(entity, month) c
                  WHERE c.posted_rows IS DISTINCT FROM c.account HAVING count(*) > 0;
    RETURN QUERY SELECT 'BANK_DIFFERS', count(*), TRUE FROM ledgers.bank_differences(entity, month) b
                  WHERE b.statement <> b.books HAVING count(*) > 0;
    was_worth := ledgers.net_assets(entity, to_char(ledgers.last_day(month) - INTERVAL '1 month', 'YYYY-MM'));
    now_worth := ledgers.net_assets(entity, month);
    RETURN QUERY SELECT 'NET_ASSETS_MOVED', 1::BIGINT, TRUE
                  WHERE was_worth <> 0 AND abs(now_worth - was_worth) > abs(was_worth)
                        * (SELECT p.change FROM ledgers.plausibility_limits p ORDER BY p.id DESC LIMIT 1);
END $$;

GRANT EXECUTE ON FUNCTION ledgers.last_day(TEXT), ledgers.control_accounts(UUID, TEXT), ledgers.net_assets(UUID, TEXT),
    ledgers.bank_differences(UUID, TEXT), ledgers.close_findings(UUID, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

-- ---- Acts

CREATE FUNCTION ledgers.take_act() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state TEXT;
    first system.period_acts;
    hard TEXT;
    soft TEXT;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM system.refuse('ISOLATION_TOO_HIGH', 'periods are closed and reopened at READ COMMITTED');
    END IF;
    IF EXISTS (SELECT FROM system.members) THEN
        IF NOT EXISTS (SELECT FROM system.members m WHERE m.login = NEW.login AND m.active) THEN
            PERFORM system.refuse('NOT_A_MEMBER', 'a period is closed and reopened by active members');
        END IF;
        IF NOT EXISTS (SELECT FROM system.members m WHERE m.login = NEW.login
                          AND (m.role = 'approver' OR m.role = 'preparer' AND NEW.act = 'ASK_REOPEN')) THEN
            PERFORM system.refuse('ROLE_MAY_NOT', 'an act that the member''s role may not do');
        END IF;
    END IF;
    -- Postings under way hold the entity shared, changes of rows their partition: what comes later sees the period as it is then.
    PERFORM FROM system.entities e WHERE e.id = NEW.entity_id FOR NO KEY UPDATE;
    PERFORM FROM system.partition_activity a WHERE a.entity_id = NEW.entity_id AND a.period = NEW.period ORDER BY a.subledger FOR UPDATE;
    SELECT status INTO state FROM ledgers.periods WHERE entity_id = NEW.entity_id AND period = NEW.period;
    state := coalesce(state, 'OPEN');
    IF NEW.act = 'CLOSE' THEN
        IF state <> 'OPEN' THEN
            PERFORM system.refuse('PERIOD_CLOSED', 'it is closed already');
        END IF;
        -- A slip of the year would lock every month up to it.
        IF NEW.period > to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') THEN
            PERFORM system.refuse('PERIOD_NOT_READY', 'it has not begun');
        END IF;
        SELECT string_agg(code || ' ' || things, ', ') FILTER (WHERE NOT answerable), string_agg(code, ', ') FILTER (WHERE answerable)
          INTO hard, soft FROM ledgers.close_findings(NEW.entity_id, NEW.period);
        IF hard IS NOT NULL THEN
            PERFORM system.refuse('PERIOD_NOT_READY', hard);
        END IF;
        IF soft IS NOT NULL AND length(trim(coalesce(NEW.reason, ''))) = 0 THEN
            PERFORM system.refuse('CLOSE_NEEDS_A_REASON', soft);
        END IF;
        INSERT INTO ledgers.periods AS p (entity_id, period, status) VALUES (NEW.entity_id, NEW.period, 'CLOSING')
        ON CONFLICT (entity_id, period) DO UPDATE SET status = 'CLOSING';
        RETURN NULL;
    END IF;
    IF state <> 'CLOSED' THEN
        PERFORM system.refuse('PERIOD_NOT_CLOSED', 'only what is closed and sealed is reopened');
    END IF;
    IF EXISTS (SELECT FROM ledgers.periods p WHERE p.entity_id = NEW.entity_id AND p.period > NEW.period AND p.status <> 'OPEN') THEN
        PERFORM system.refuse('LATER_PERIOD_CLOSED', 'the latest closed month is reopened first');
    END IF;
    IF NEW.act = 'REOPEN' THEN
        SELECT * INTO first FROM system.period_acts WHERE id = NEW.asked;
        IF (first.act, first.entity_id, first.period) IS DISTINCT FROM ('ASK_REOPEN', NEW.entity_id, NEW.period)
           OR EXISTS (SELECT FROM system.period_acts a WHERE a.entity_id = NEW.entity_id AND a.period = NEW.period
                         AND a.act = 'CLOSE' AND a.id > first.id) THEN
            PERFORM system.refuse('REOPENING_NOT_ASKED', 'nobody asked for that, or it was closed again since');
        END IF;
        IF first.login = NEW.login THEN
            PERFORM system.refuse('MAKER_IS_NOT_CHECKER', 'a second person reopens what one has asked for');
        END IF;
        UPDATE ledgers.periods SET status = 'OPEN' WHERE entity_id = NEW.entity_id AND period = NEW.period;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER moves AFTER INSERT ON system.period_acts FOR EACH ROW EXECUTE FUNCTION ledgers.take_act();

-- ---- The seal

-- Over everything that a journal says, in the order of its number. Dates as numbers: text would depend on the session's settings.
CREATE FUNCTION ledgers.journal_digest(journal UUID) RETURNS BYTEA LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT sha256(convert_to(ROW(j.id, j.entity_id, j.period, j.external_id, j.posting_date - DATE 'epoch', j.description, j.currency, j.run_id,
                                j.row_id, extract(epoch FROM j.posted_at), j.kind, j.reverses, j.functional_currency, j.rate, j.rate_source,
                                n.year, n.number)::TEXT
                  || coalesce((SELECT string_agg(ROW(l.line_no, l.account_code, l.party, l.description, l.debit, l.credit, l.row_id,
                                                     l.functional_debit, l.functional_credit, l.tax_code, l.dimensions)::TEXT, '' ORDER BY l.line_no)
                                 FROM ledgers.journal_lines l WHERE l.journal_id = j.id), '')
                  || coalesce((SELECT string_agg(r.row_id::TEXT, ',' ORDER BY r.row_id) FROM ledgers.journal_rows r WHERE r.journal_id = j.id), ''),
                  'UTF8'))
     FROM ledgers.journals j JOIN ledgers.journal_numbers n ON n.journal_id = j.id WHERE j.id = journal $$;

CREATE FUNCTION ledgers.period_digest(entity UUID, month TEXT, OUT journals BIGINT, OUT digest BYTEA) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT count(*), sha256(coalesce(string_agg(ledgers.journal_digest(j.id), '' ORDER BY n.year, n.number), ''))
     FROM ledgers.journals j JOIN ledgers.journal_numbers n ON n.journal_id = j.id WHERE j.entity_id = entity AND j.period = month $$;
GRANT EXECUTE ON FUNCTION ledgers.journal_digest(UUID), ledgers.period_digest(UUID, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

CREATE FUNCTION ledgers.seal_period() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state TEXT;
    closing BIGINT;
BEGIN
    PERFORM FROM system.entities e WHERE e.id = NEW.entity_id FOR NO KEY UPDATE;
    SELECT status INTO state FROM ledgers.periods WHERE entity_id = NEW.entity_id AND period = NEW.period;
    SELECT max(id) INTO closing FROM system.period_acts WHERE entity_id = NEW.entity_id AND period = NEW.period AND act = 'CLOSE';
    IF state IS DISTINCT FROM 'CLOSING' OR closing IS DISTINCT FROM NEW.act_id THEN
        PERFORM system.refuse('PERIOD_NOT_CLOSING', 'only a period that somebody has just closed is sealed');
    END IF;
    SELECT d.journals, d.digest INTO NEW.journals, NEW.digest FROM ledgers.period_digest(NEW.entity_id, NEW.period) d;
    UPDATE ledgers.periods SET status = 'CLOSED' WHERE entity_id = NEW.entity_id AND period = NEW.period;
    RETURN NEW;
END $$;
CREATE TRIGGER seals BEFORE INSERT ON ledgers.seals FOR EACH ROW EXECUTE FUNCTION ledgers.seal_period();

-- The general ledger, beside the subledgers: accounts, journals, lines. Written once, corrected by reversal only.

CREATE TABLE ledgers.accounts (
    code    TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    type    TEXT NOT NULL CHECK (type IN ('ASSET', 'LIABILITY', 'EQUITY', 'INCOME', 'EXPENSE')),
    active  BOOLEAN NOT NULL DEFAULT TRUE
);

CREATE TABLE ledgers.periods (
    entity_id  UUID NOT NULL REFERENCES system.entities (id),
    period     TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    status     TEXT NOT NULL CHECK (status IN ('OPEN', 'CLOSED')),
    PRIMARY KEY (entity_id, period)
);

CREATE TABLE ledgers.journals (
    id            UUID PRIMARY KEY,
    entity_id     UUID NOT NULL REFERENCES system.entities (id),
    period        TEXT NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    external_id   TEXT NOT NULL UNIQUE,
    posting_date  DATE NOT NULL,
    description   TEXT NOT NULL,
    currency      TEXT NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    run_id        UUID NOT NULL,
    row_id        UUID UNIQUE,  -- the subledger row it was posted for: one journal a row, whatever its external id
    posted_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    txid          XID8 NOT NULL DEFAULT pg_current_xact_id(),
    CHECK (to_char(posting_date, 'YYYY-MM') = period)
);
CREATE INDEX journals_partition_idx ON ledgers.journals (entity_id, period);

CREATE TABLE ledgers.journal_lines (
    journal_id    UUID NOT NULL REFERENCES ledgers.journals (id),
    line_no       INTEGER NOT NULL CHECK (line_no > 0),
    account_code  TEXT NOT NULL REFERENCES ledgers.accounts (code),
    party         TEXT,
    description   TEXT,
    debit         NUMERIC(38, 9) NOT NULL DEFAULT 0 CHECK (debit >= 0),
    credit        NUMERIC(38, 9) NOT NULL DEFAULT 0 CHECK (credit >= 0),
    row_id        UUID,
    PRIMARY KEY (journal_id, line_no),
    CHECK ((debit > 0) <> (credit > 0))
);

-- One record per time a period's books were drawn up: what the trial balance said then.
CREATE TABLE ledgers.closes (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_id    UUID NOT NULL REFERENCES system.entities (id),
    period       TEXT NOT NULL,
    last_change  BIGINT NOT NULL,
    journals     BIGINT NOT NULL,
    digest       BYTEA NOT NULL,
    run_id       UUID NOT NULL,
    at           TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE VIEW ledgers.trial_balance AS
    SELECT j.entity_id, j.period, j.currency, l.account_code, a.name AS account_name, a.type AS account_type,
           sum(l.debit) AS debit, sum(l.credit) AS credit
      FROM ledgers.journals j
      JOIN ledgers.journal_lines l ON l.journal_id = j.id
      JOIN ledgers.accounts a ON a.code = l.account_code
     GROUP BY j.entity_id, j.period, j.currency, l.account_code, a.name, a.type;

GRANT SELECT ON ledgers.accounts, ledgers.periods, ledgers.journals, ledgers.journal_lines, ledgers.closes,
    ledgers.trial_balance TO ntro_app, ntro_desk, ntro_auditor;
-- Without `txid`, `posted_at`, `at`: who wrote a journal and when is not for the writer to say.
GRANT INSERT (id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) ON ledgers.journals TO ntro_app;
GRANT INSERT ON ledgers.journal_lines TO ntro_app;
GRANT INSERT (entity_id, period, last_change, journals, digest, run_id) ON ledgers.closes TO ntro_app;

CREATE TRIGGER posted_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.journals
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('POSTED_IS_FINAL');
CREATE TRIGGER posted_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.journal_lines
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('POSTED_IS_FINAL');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.closes
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

-- A journal that does not balance cannot be committed. Its lines come in one statement, of the transaction that wrote the
-- journal, and balance when that statement ends; the deferred check below is for a journal that never got lines.
CREATE FUNCTION ledgers.check_new_lines() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found BOOLEAN;
BEGIN
    -- EXECUTE plans each check for the lines at hand: a plan cached for two lines would be wrong for a million.
    EXECUTE 'SELECT EXISTS (SELECT FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id
                            WHERE j.txid <> pg_current_xact_id())' INTO found;
    IF found THEN
        PERFORM system.refuse('POSTED_IS_FINAL', 'lines added to a journal of an earlier transaction');
    END IF;
    EXECUTE 'SELECT EXISTS (SELECT FROM ledgers.journal_lines l WHERE l.journal_id IN (SELECT journal_id FROM new_rows)
                            GROUP BY l.journal_id HAVING sum(l.debit - l.credit) <> 0)' INTO found;
    IF found THEN
        PERFORM system.refuse('JOURNAL_DOES_NOT_BALANCE', 'debits and credits differ');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.accounts a ON a.code = n.account_code WHERE NOT a.active) THEN
        PERFORM system.refuse('ACCOUNT_NOT_ACTIVE', 'lines on an account that is not active');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER balances AFTER INSERT ON ledgers.journal_lines REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_new_lines();

CREATE FUNCTION ledgers.check_journal_has_lines() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledgers.journal_lines WHERE journal_id = NEW.id) THEN
        PERFORM system.refuse('JOURNAL_DOES_NOT_BALANCE', format('journal %s has no lines', NEW.id));
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER has_lines AFTER INSERT ON ledgers.journals DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledgers.check_journal_has_lines();

-- No posting to a closed period or a closed entity. A posting holds a shared lock on its entity and whoever changes a period
-- an exclusive one, so a close waits for postings under way and stops later ones. That holds only where each statement sees
-- what is committed by then: a transaction on an older snapshot would not see the close.
CREATE FUNCTION ledgers.check_new_journals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM system.refuse('ISOLATION_TOO_HIGH', 'journals are written at READ COMMITTED');
    END IF;
    PERFORM FROM system.entities e WHERE e.id IN (SELECT entity_id FROM new_rows) FOR SHARE;
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.periods p USING (entity_id, period) WHERE p.status = 'CLOSED') THEN
        PERFORM system.refuse('PERIOD_CLOSED', 'journals for a closed period');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN system.entities e ON e.id = n.entity_id WHERE e.status = 'CLOSED') THEN
        PERFORM system.refuse('ENTITY_CLOSED', 'journals for a closed entity');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER open_period AFTER INSERT ON ledgers.journals REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_new_journals();

CREATE FUNCTION ledgers.lock_entity() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM system.entities e WHERE e.id = NEW.entity_id FOR NO KEY UPDATE;
    RETURN NEW;
END $$;
CREATE TRIGGER waits_for_postings BEFORE INSERT OR UPDATE ON ledgers.periods
    FOR EACH ROW EXECUTE FUNCTION ledgers.lock_entity();

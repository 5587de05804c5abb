-- What makes the journals a fund's books: a chart with hierarchy and roles, the entity's own currency beside the transaction's,
-- dimensions, gapless numbers, reversals, journals of many rows.

-- ---- The chart: one per tenant, so that an account means the same in every entity.

-- A role is how a program finds an account: no code of an account stands in the code.
ALTER TABLE ledgers.accounts
    ADD COLUMN parent TEXT REFERENCES ledgers.accounts (code),
    ADD COLUMN role   TEXT CHECK (role IN ('BANK', 'CREDITORS', 'VAT', 'SUSPENSE', 'ROUNDING', 'RETAINED_EARNINGS'));
CREATE UNIQUE INDEX accounts_role_idx ON ledgers.accounts (role) WHERE role <> 'BANK';

UPDATE ledgers.accounts a SET role = r.role
  FROM (VALUES ('1000', 'ASSET', 'BANK'), ('1400', 'ASSET', 'VAT'), ('2000', 'LIABILITY', 'CREDITORS'), ('5999', 'EXPENSE', 'SUSPENSE'),
               ('3000', 'EQUITY', 'RETAINED_EARNINGS')) r (code, type, role)
 WHERE a.code = r.code AND a.type = r.type;

-- A chart that is there already lacks the one account that came with this; a new tenant's chart comes whole.
INSERT INTO ledgers.accounts (code, name, type, role)
SELECT '5950', 'Rounding differences', 'EXPENSE', 'ROUNDING' WHERE EXISTS (SELECT FROM ledgers.accounts) ON CONFLICT (code) DO NOTHING;

CREATE TABLE ledgers.account_changes (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code    TEXT NOT NULL,
    before  JSONB,
    after   JSONB NOT NULL,
    actor   TEXT NOT NULL,
    at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.account_changes
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledgers.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('ACCOUNTS_ARE_KEPT');

CREATE FUNCTION ledgers.check_account() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW IS NOT DISTINCT FROM OLD THEN RETURN NULL; END IF;
    IF TG_OP = 'UPDATE' AND NEW.code <> OLD.code THEN
        PERFORM system.refuse('ACCOUNT_IS_KNOWN_BY_ITS_CODE', format('account %s', OLD.code));
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.type <> OLD.type THEN
        LOCK TABLE ledgers.journal_lines IN SHARE MODE;  -- postings under way are seen
        IF EXISTS (SELECT FROM ledgers.journal_lines WHERE account_code = NEW.code) THEN
            PERFORM system.refuse('ACCOUNT_HAS_POSTINGS', format('account %s', NEW.code));
        END IF;
    END IF;
    -- One at a time: of two who place accounts above each other, each would see the chart without the other.
    PERFORM pg_advisory_xact_lock(hashtextextended('ntro chart of accounts', 0));
    IF EXISTS (SELECT FROM ledgers.accounts p WHERE p.code = NEW.parent AND p.type <> NEW.type)
       OR EXISTS (SELECT FROM ledgers.accounts c WHERE c.parent = NEW.code AND c.type <> NEW.type) THEN
        PERFORM system.refuse('ACCOUNT_TYPE_DIFFERS', format('account %s and its parent or child', NEW.code));
    END IF;
    IF EXISTS (WITH RECURSIVE above (code) AS (
                   SELECT NEW.parent UNION SELECT a.parent FROM above JOIN ledgers.accounts a USING (code))
               SELECT FROM above WHERE code = NEW.code) THEN
        PERFORM system.refuse('ACCOUNT_ABOVE_ITSELF', format('account %s', NEW.code));
    END IF;
    INSERT INTO ledgers.account_changes (code, before, after, actor)
    VALUES (NEW.code, CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END, to_jsonb(NEW),
            coalesce(system.setting('actor'), session_user));
    RETURN NULL;
END $$;
CREATE TRIGGER sound AFTER INSERT OR UPDATE ON ledgers.accounts FOR EACH ROW EXECUTE FUNCTION ledgers.check_account();
INSERT INTO ledgers.account_changes (code, after, actor) SELECT code, to_jsonb(a), 'platform' FROM ledgers.accounts a;

CREATE INDEX journal_lines_account_idx ON ledgers.journal_lines (account_code);

-- ---- Dimensions: names declared once, values as they come.

CREATE TABLE ledgers.dimensions (
    name   TEXT PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    title  TEXT NOT NULL
);

-- ---- Rates: how many units of the one currency one unit of the other was worth. Said once; the last record of a day holds.

CREATE TABLE ledgers.exchange_rates (
    id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_currency  TEXT NOT NULL CHECK (from_currency ~ '^[A-Z]{3}$'),
    to_currency    TEXT NOT NULL CHECK (to_currency ~ '^[A-Z]{3}$' AND to_currency <> from_currency),
    on_date        DATE NOT NULL,
    rate           NUMERIC(38, 18) NOT NULL CHECK (rate > 0 AND rate <> 'NaN'),
    source         TEXT NOT NULL CHECK (length(trim(source)) > 0),
    recorded_by    TEXT NOT NULL CHECK (length(trim(recorded_by)) > 0),
    recorded_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX exchange_rates_idx ON ledgers.exchange_rates (from_currency, to_currency, on_date, id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.exchange_rates
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('HISTORY_IS_APPEND_ONLY');

-- ---- Journals

ALTER TABLE system.entities ADD COLUMN first_month SMALLINT NOT NULL DEFAULT 1 CHECK (first_month BETWEEN 1 AND 12);

-- An entity's year is called after the calendar year in which it ends.
CREATE FUNCTION ledgers.year_of(period TEXT, first_month SMALLINT) RETURNS INTEGER LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT left(period, 4)::INTEGER + CASE WHEN first_month > 1 AND right(period, 2)::INTEGER >= first_month THEN 1 ELSE 0 END $$;

-- What the journals of an entity were written by stays as it is: its year numbers them, its currency is what they are translated into.
CREATE FUNCTION ledgers.refuse_with_journals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledgers.journals WHERE entity_id = NEW.id) THEN
        PERFORM system.refuse(TG_ARGV[0], format('entity %s has journals', NEW.id));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER numbered_by_year AFTER UPDATE ON system.entities
    FOR EACH ROW WHEN (OLD.first_month <> NEW.first_month) EXECUTE FUNCTION ledgers.refuse_with_journals('YEAR_HAS_JOURNALS');
CREATE TRIGGER translated_into AFTER UPDATE ON system.entities
    FOR EACH ROW WHEN (OLD.currency <> NEW.currency) EXECUTE FUNCTION ledgers.refuse_with_journals('CURRENCY_HAS_JOURNALS');

ALTER TABLE ledgers.journals
    ADD COLUMN kind                 TEXT NOT NULL DEFAULT 'ENTRY' CHECK (kind IN ('ENTRY', 'OPENING', 'REVERSAL')),
    ADD COLUMN reverses             UUID UNIQUE REFERENCES ledgers.journals (id),
    ADD COLUMN functional_currency  TEXT CHECK (functional_currency ~ '^[A-Z]{3}$'),
    ADD COLUMN rate                 NUMERIC(38, 18) CHECK (rate > 0 AND rate <> 'NaN'),
    ADD COLUMN rate_source          TEXT,
    ADD CONSTRAINT reversal_names_its_original CHECK ((kind = 'REVERSAL') = (reverses IS NOT NULL)),
    ADD CONSTRAINT rate_has_a_source CHECK ((rate IS NULL) = (rate_source IS NULL) AND (rate IS NULL OR functional_currency IS NOT NULL));

-- Amounts of a line in the entity's currency. A line of them alone is what rounding left.
ALTER TABLE ledgers.journal_lines
    ADD COLUMN functional_debit   NUMERIC(38, 9) CHECK (functional_debit >= 0),
    ADD COLUMN functional_credit  NUMERIC(38, 9) CHECK (functional_credit >= 0),
    ADD COLUMN tax_code           TEXT,
    ADD COLUMN dimensions         JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(dimensions) = 'object'),
    DROP CONSTRAINT journal_lines_check,
    ADD CONSTRAINT one_side CHECK ((debit > 0) <> (credit > 0)
        OR (debit = 0 AND credit = 0 AND (coalesce(functional_debit, 0) > 0) <> (coalesce(functional_credit, 0) > 0))),
    ADD CONSTRAINT both_functional_amounts CHECK ((functional_debit IS NULL) = (functional_credit IS NULL)),
    ADD CONSTRAINT same_side CHECK ((debit = 0 OR coalesce(functional_credit, 0) = 0) AND (credit = 0 OR coalesce(functional_debit, 0) = 0)),
    ADD CONSTRAINT amounts_are_numbers CHECK (debit <> 'NaN' AND credit <> 'NaN' AND functional_debit <> 'NaN' AND functional_credit <> 'NaN');

-- Which rows a journal was made of: one, or many. A row is in one journal at most, whatever its external id says.
CREATE TABLE ledgers.journal_rows (
    row_id      UUID PRIMARY KEY,
    journal_id  UUID NOT NULL REFERENCES ledgers.journals (id)
);
CREATE INDEX journal_rows_journal_idx ON ledgers.journal_rows (journal_id);
INSERT INTO ledgers.journal_rows (row_id, journal_id) SELECT row_id, id FROM ledgers.journals WHERE row_id IS NOT NULL;

-- Numbers without gaps, by entity and year: given by the statement that writes journals, and undone with it.
CREATE TABLE ledgers.journal_counters (
    entity_id  UUID NOT NULL REFERENCES system.entities (id),
    year       INTEGER NOT NULL,
    last       BIGINT NOT NULL CHECK (last > 0),
    PRIMARY KEY (entity_id, year)
);
CREATE TABLE ledgers.journal_numbers (
    journal_id  UUID PRIMARY KEY REFERENCES ledgers.journals (id),
    entity_id   UUID NOT NULL,
    year        INTEGER NOT NULL,
    number      BIGINT NOT NULL CHECK (number > 0),
    UNIQUE (entity_id, year, number)
);

INSERT INTO ledgers.journal_numbers (journal_id, entity_id, year, number)
SELECT id, entity_id, left(period, 4)::INTEGER,
       row_number() OVER (PARTITION BY entity_id, left(period, 4) ORDER BY posted_at, posting_date, external_id)
  FROM ledgers.journals;
INSERT INTO ledgers.journal_counters (entity_id, year, last)
SELECT entity_id, year, max(number) FROM ledgers.journal_numbers GROUP BY 1, 2;

GRANT SELECT ON ledgers.account_changes, ledgers.dimensions, ledgers.exchange_rates, ledgers.journal_rows, ledgers.journal_counters,
    ledgers.journal_numbers TO ntro_app, ntro_desk, ntro_auditor;
GRANT EXECUTE ON FUNCTION ledgers.year_of(TEXT, SMALLINT) TO ntro_app, ntro_desk, ntro_auditor;
GRANT INSERT (kind, reverses, functional_currency, rate, rate_source) ON ledgers.journals TO ntro_app;
GRANT INSERT ON ledgers.journal_rows TO ntro_app;

CREATE TRIGGER posted_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.journal_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('POSTED_IS_FINAL');
CREATE TRIGGER posted_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON ledgers.journal_numbers
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('POSTED_IS_FINAL');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledgers.journal_counters
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('POSTED_IS_FINAL');

-- In the order of posting dates within a statement, so that numbers tell the order of the books.
CREATE FUNCTION ledgers.number_journals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH placed AS (
        SELECT n.id, n.entity_id, ledgers.year_of(n.period, e.first_month) AS year, n.posting_date, n.external_id
          FROM new_rows n JOIN system.entities e ON e.id = n.entity_id
    ), counted AS (
        INSERT INTO ledgers.journal_counters AS c (entity_id, year, last)
        SELECT entity_id, year, count(*) FROM placed GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (entity_id, year) DO UPDATE SET last = c.last + EXCLUDED.last
        RETURNING entity_id, year, last
    )
    INSERT INTO ledgers.journal_numbers (journal_id, entity_id, year, number)
    SELECT p.id, p.entity_id, p.year,
           c.last - count(*) OVER (PARTITION BY p.entity_id, p.year)
                  + row_number() OVER (PARTITION BY p.entity_id, p.year ORDER BY p.posting_date, p.external_id)
      FROM placed p JOIN counted c USING (entity_id, year);
    INSERT INTO ledgers.journal_rows (row_id, journal_id) SELECT row_id, id FROM new_rows WHERE row_id IS NOT NULL;
    RETURN NULL;
END $$;
-- Triggers fire in the order of their names: after `open_period`, which holds the entity, and with it the year it numbers by.
CREATE TRIGGER takes_a_number AFTER INSERT ON ledgers.journals REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.number_journals();

-- Rows are named with the journal that is made of them, by the transaction that writes it.
CREATE FUNCTION ledgers.check_journal_rows() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id WHERE j.txid <> pg_current_xact_id()) THEN
        PERFORM system.refuse('POSTED_IS_FINAL', 'rows added to a journal of an earlier transaction');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sealed AFTER INSERT ON ledgers.journal_rows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_journal_rows();

-- As in 006_general_ledger.sql, and: both currencies balance, dimensions are declared, a reversal mirrors its original.
CREATE OR REPLACE FUNCTION ledgers.check_new_lines() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found BOOLEAN;
BEGIN
    -- EXECUTE plans each check for the lines at hand: a plan cached for two lines would be wrong for a million.
    EXECUTE 'SELECT EXISTS (SELECT FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id
                            WHERE j.txid <> pg_current_xact_id())' INTO found;
    IF found THEN
        PERFORM system.refuse('POSTED_IS_FINAL', 'lines added to a journal of an earlier transaction');
    END IF;
    -- LATERAL looks up each journal's lines by its id: a join with GROUP BY walks the lines of all years.
    EXECUTE 'SELECT EXISTS (SELECT FROM (SELECT DISTINCT journal_id FROM new_rows) n CROSS JOIN LATERAL (
                                   SELECT FROM ledgers.journal_lines l WHERE l.journal_id = n.journal_id
                                   HAVING sum(l.debit - l.credit) <> 0 OR coalesce(sum(l.functional_debit - l.functional_credit), 0) <> 0
                                          OR count(l.functional_debit) NOT IN (0, count(*)) OR sum(l.debit) = 0) off)' INTO found;
    IF found THEN
        PERFORM system.refuse('JOURNAL_DOES_NOT_BALANCE', 'debits and credits differ');
    END IF;
    -- What was booked can be undone, whatever became of the account.
    EXECUTE 'SELECT EXISTS (SELECT FROM new_rows n JOIN ledgers.accounts a ON a.code = n.account_code AND NOT a.active
                              JOIN ledgers.journals j ON j.id = n.journal_id WHERE j.reverses IS NULL)' INTO found;
    IF found THEN
        PERFORM system.refuse('ACCOUNT_NOT_ACTIVE', 'lines on an account that is not active');
    END IF;
    -- In the entity's own currency nothing is translated: what is there is what was. In another, every line is, by the rate. The bound
    -- is that of a currency without minor units: the database does not know how many there are, whoever translates does.
    EXECUTE 'SELECT EXISTS (SELECT FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id
                            WHERE CASE WHEN j.functional_currency IS NULL THEN n.functional_debit IS NOT NULL
                                  WHEN j.functional_currency = j.currency
                                  THEN j.rate IS NOT NULL OR (n.functional_debit, n.functional_credit) <> (n.debit, n.credit)
                                  ELSE j.rate IS NULL OR n.functional_debit IS NULL
                                       OR n.debit + n.credit > 0
                                          AND abs(n.functional_debit + n.functional_credit - (n.debit + n.credit) * j.rate) > 0.5 END)' INTO found;
    IF found THEN
        PERFORM system.refuse('RATE_MISSING', 'amounts in the entity''s currency are missing, or not by the journal''s rate');
    END IF;
    -- What rounding leaves goes where it can be seen, and is half a unit for each line of the journal at most.
    EXECUTE 'SELECT EXISTS (SELECT FROM (SELECT DISTINCT n.journal_id FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id
                                          WHERE n.debit = 0 AND n.credit = 0 AND j.reverses IS NULL) n CROSS JOIN LATERAL (
                                   SELECT FROM ledgers.journal_lines l
                                     LEFT JOIN ledgers.accounts a ON a.code = l.account_code AND a.role = ''ROUNDING''
                                    WHERE l.journal_id = n.journal_id
                                   HAVING bool_or(l.debit + l.credit = 0 AND a.code IS NULL)
                                       OR sum(l.functional_debit + l.functional_credit) FILTER (WHERE l.debit + l.credit = 0)
                                          > 0.5 * count(*) FILTER (WHERE l.debit + l.credit > 0)) off)' INTO found;
    IF found THEN
        PERFORM system.refuse('ROUNDING_TOO_LARGE', 'a difference of rounding on another account, or above its bound');
    END IF;
    IF EXISTS (SELECT FROM new_rows n, jsonb_each(n.dimensions) d
                WHERE n.dimensions <> '{}' AND (jsonb_typeof(d.value) <> 'string' OR d.key NOT IN (SELECT name FROM ledgers.dimensions))) THEN
        PERFORM system.refuse('DIMENSION_UNKNOWN', 'a dimension that is not declared, or a value that is no text');
    END IF;
    EXECUTE 'SELECT EXISTS (SELECT FROM (SELECT DISTINCT j.id, j.reverses FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id
                                          WHERE j.reverses IS NOT NULL) r
                             WHERE (SELECT array_agg(ROW(account_code, party, tax_code, dimensions, debit, credit, functional_debit, functional_credit)::TEXT
                                                     ORDER BY account_code, debit, credit, party, tax_code, dimensions::TEXT, functional_debit, functional_credit)
                                      FROM ledgers.journal_lines WHERE journal_id = r.id)
                                IS DISTINCT FROM
                                   (SELECT array_agg(ROW(account_code, party, tax_code, dimensions, credit, debit, functional_credit, functional_debit)::TEXT
                                                     ORDER BY account_code, credit, debit, party, tax_code, dimensions::TEXT, functional_credit, functional_debit)
                                      FROM ledgers.journal_lines WHERE journal_id = r.reverses))' INTO found;
    IF found THEN
        PERFORM system.refuse('REVERSAL_DIFFERS', 'a reversal is the mirror of its original, line by line');
    END IF;
    RETURN NULL;
END $$;

-- A reversal is of the same entity and currency, and not before its original, which has all its lines: it is of an earlier
-- transaction. That its period is open is asked of every journal.
CREATE FUNCTION ledgers.check_reversals() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n JOIN ledgers.journals o ON o.id = n.reverses
                WHERE (o.entity_id, o.currency, o.functional_currency, o.rate) IS DISTINCT FROM (n.entity_id, n.currency, n.functional_currency, n.rate)
                   OR n.posting_date < o.posting_date OR o.kind = 'REVERSAL' OR o.txid = pg_current_xact_id()) THEN
        PERFORM system.refuse('REVERSAL_DIFFERS', 'of another entity, currency or rate, before its original or along with it, or of a reversal');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN system.entities e ON e.id = n.entity_id
                WHERE n.functional_currency IS NOT NULL AND n.functional_currency <> e.currency) THEN
        PERFORM system.refuse('RATE_MISSING', 'a journal translated into a currency that is not the entity''s');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER reversals AFTER INSERT ON ledgers.journals REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.check_reversals();

-- A posted row has its journal: alone, or with others. The one condition of attach_subledger that changes.
DO $$
DECLARE
    before CONSTANT TEXT := 'SELECT j.row_id = NEW.id AND j.entity_id';
    after CONSTANT TEXT := 'SELECT EXISTS (SELECT FROM ledgers.journal_rows r WHERE r.row_id = NEW.id AND r.journal_id = j.id) AND j.entity_id';
    body CONSTANT TEXT := pg_get_functiondef('system.attach_subledger(TEXT, TEXT[], JSONB)'::REGPROCEDURE);
BEGIN
    IF strpos(body, before) = 0 THEN
        RAISE EXCEPTION 'attach_subledger has no such condition';
    END IF;
    EXECUTE replace(body, before, after);
END $$;

-- Journal proposals: what they reverse, and whether they bring balances forward.
ALTER TABLE ledgers.journal_proposals
    ADD COLUMN kind      TEXT NOT NULL DEFAULT 'ENTRY' CHECK (kind IN ('ENTRY', 'OPENING', 'REVERSAL')),
    ADD COLUMN reverses  UUID;

-- Amounts of journals in the entity's currency: as translated, or as they are where that is the currency of the journal.
CREATE VIEW ledgers.functional_lines AS
    SELECT l.journal_id, l.line_no, l.account_code, l.party, l.dimensions,
           CASE WHEN j.currency = e.currency THEN l.debit ELSE l.functional_debit END AS debit,
           CASE WHEN j.currency = e.currency THEN l.credit ELSE l.functional_credit END AS credit
      FROM ledgers.journal_lines l JOIN ledgers.journals j ON j.id = l.journal_id JOIN system.entities e ON e.id = j.entity_id;
GRANT SELECT ON ledgers.functional_lines TO ntro_app, ntro_desk, ntro_auditor;

-- ---- Movements of an account in a month, kept as journals are written: what is carried forward is added up by month, not by line.
-- A close compares them with the lines (023_periods.sql).
CREATE TABLE ledgers.movements (
    entity_id          UUID NOT NULL REFERENCES system.entities (id),
    period             TEXT NOT NULL,
    currency           TEXT NOT NULL,
    account_code       TEXT NOT NULL REFERENCES ledgers.accounts (code),
    debit              NUMERIC NOT NULL,
    credit             NUMERIC NOT NULL,
    functional_debit   NUMERIC NOT NULL,
    functional_credit  NUMERIC NOT NULL,
    PRIMARY KEY (entity_id, period, currency, account_code)
) WITH (fillfactor = 70);  -- a month's rows are updated in place
GRANT SELECT ON ledgers.movements TO ntro_app, ntro_desk, ntro_auditor;
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledgers.movements
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('POSTED_IS_FINAL');

INSERT INTO ledgers.movements
SELECT j.entity_id, j.period, j.currency, l.account_code, sum(l.debit), sum(l.credit), coalesce(sum(f.debit), 0), coalesce(sum(f.credit), 0)
  FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id
  JOIN ledgers.functional_lines f ON f.journal_id = l.journal_id AND f.line_no = l.line_no GROUP BY 1, 2, 3, 4;

-- Two who write journals of one entity and year wait for each other at its counter, so nobody dies here.
CREATE FUNCTION ledgers.add_movements() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE 'INSERT INTO ledgers.movements AS m
             SELECT j.entity_id, j.period, j.currency, n.account_code, sum(n.debit), sum(n.credit),
                    coalesce(sum(CASE WHEN j.currency = e.currency THEN n.debit ELSE n.functional_debit END), 0),
                    coalesce(sum(CASE WHEN j.currency = e.currency THEN n.credit ELSE n.functional_credit END), 0)
               FROM new_rows n JOIN ledgers.journals j ON j.id = n.journal_id JOIN system.entities e ON e.id = j.entity_id
              GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
             ON CONFLICT (entity_id, period, currency, account_code) DO UPDATE
                SET debit = m.debit + EXCLUDED.debit, credit = m.credit + EXCLUDED.credit,
                    functional_debit = m.functional_debit + EXCLUDED.functional_debit,
                    functional_credit = m.functional_credit + EXCLUDED.functional_credit';
    RETURN NULL;
END $$;
CREATE TRIGGER moves AFTER INSERT ON ledgers.journal_lines REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledgers.add_movements();

CREATE OR REPLACE VIEW ledgers.trial_balance AS
    SELECT m.entity_id, m.period, m.currency, m.account_code, a.name AS account_name, a.type AS account_type, m.debit, m.credit
      FROM ledgers.movements m JOIN ledgers.accounts a ON a.code = m.account_code;

-- A subledger and its control account, as in 023_periods.sql: but the lines of a journal are looked up by its id, and its rows by
-- the journal, whatever the planner knows of the tables. A new tenant's have no statistics, and from the account's side every
-- line that was ever written on it is read, for each journal of the month again.
CREATE OR REPLACE FUNCTION ledgers.control_accounts(entity UUID, month TEXT)
    RETURNS TABLE (subledger TEXT, role TEXT, currency TEXT, posted_rows NUMERIC, account NUMERIC)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind RECORD;
BEGIN
    FOR kind IN SELECT t.table_name, t.description ->> 'control' AS role FROM system.subledger_types t
                 WHERE t.description ->> 'control' IS NOT NULL AND to_regclass(format('ledgers.%I', t.table_name)) IS NOT NULL ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format($look$
            WITH posted AS (
                SELECT coalesce(ledgers.%2$I(t), e.currency) AS currency, sum(ledgers.%3$I(t)) AS amount
                  FROM ledgers.%1$I t JOIN system.entities e ON e.id = t.entity_id
                 WHERE t.entity_id = $1 AND t.period = $2 AND t.posted_to_gl GROUP BY 1
            ), booked AS (
                SELECT j.currency, sum(CASE WHEN a.type IN ('ASSET', 'EXPENSE') THEN l.debit - l.credit ELSE l.credit - l.debit END) AS amount
                  FROM ledgers.journals j
                 CROSS JOIN LATERAL (SELECT * FROM ledgers.journal_lines l WHERE l.journal_id = j.id OFFSET 0) l
                  JOIN ledgers.accounts a ON a.code = l.account_code AND a.role = $3
                 WHERE j.entity_id = $1 AND j.period = $2
                   AND EXISTS (SELECT FROM ledgers.journal_rows r JOIN ledgers.%1$I t ON t.id = r.row_id WHERE r.journal_id = j.id OFFSET 0)
                 GROUP BY 1)
            SELECT %4$L::TEXT, $3, coalesce(p.currency, b.currency), coalesce(p.amount, 0), coalesce(b.amount, 0)
              FROM posted p FULL JOIN booked b ON b.currency = p.currency ORDER BY 3$look$,
            kind.table_name, kind.table_name || '_currency', kind.table_name || '_amount', kind.table_name)
        USING entity, month, kind.role;
    END LOOP;
END $$;

-- As in 022_books.sql: but each line meets its journal once, by the journal's id, and only what it says is there is looked into. From
-- the journals' side (those that are reversals, those that are not) years of them were read for the lines of one batch.
CREATE OR REPLACE FUNCTION ledgers.check_new_lines() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found BOOLEAN;
    lines RECORD;
BEGIN
    -- In the entity's own currency nothing is translated: what is there is what was. In another, every line is, by the rate. The bound
    -- is that of a currency without minor units: the database does not know how many there are, whoever translates does.
    -- What was booked can be undone, whatever became of the account.
    -- EXECUTE plans each look for the lines at hand: a plan cached for two lines would be wrong for a million.
    EXECUTE $look$
        SELECT bool_or(j.txid <> pg_current_xact_id()) AS late,
               bool_or(NOT a.active AND j.reverses IS NULL) AS closed_account,
               bool_or(CASE WHEN j.functional_currency IS NULL THEN n.functional_debit IS NOT NULL
                            WHEN j.functional_currency = j.currency
                            THEN j.rate IS NOT NULL OR (n.functional_debit, n.functional_credit) <> (n.debit, n.credit)
                            ELSE j.rate IS NULL OR n.functional_debit IS NULL
                                 OR n.debit + n.credit > 0
                                    AND abs(n.functional_debit + n.functional_credit - (n.debit + n.credit) * j.rate) > 0.5 END) AS off_rate,
               bool_or(n.debit = 0 AND n.credit = 0 AND j.reverses IS NULL) AS rounded,
               bool_or(n.dimensions <> '{}') AS with_dimensions,
               bool_or(j.reverses IS NOT NULL) AS reversing
          FROM new_rows n
         CROSS JOIN LATERAL (SELECT * FROM ledgers.journals j WHERE j.id = n.journal_id OFFSET 0) j
          JOIN ledgers.accounts a ON a.code = n.account_code$look$ INTO lines;
    IF lines.late THEN
        PERFORM system.refuse('POSTED_IS_FINAL', 'lines added to a journal of an earlier transaction');
    END IF;
    EXECUTE $look$
        SELECT EXISTS (SELECT FROM (SELECT DISTINCT journal_id FROM new_rows) n CROSS JOIN LATERAL (
                           SELECT FROM ledgers.journal_lines l WHERE l.journal_id = n.journal_id
                           HAVING sum(l.debit - l.credit) <> 0 OR coalesce(sum(l.functional_debit - l.functional_credit), 0) <> 0
                                  OR count(l.functional_debit) NOT IN (0, count(*)) OR sum(l.debit) = 0) off)$look$ INTO found;
    IF found THEN
        PERFORM system.refuse('JOURNAL_DOES_NOT_BALANCE', 'debits and credits differ');
    END IF;
    IF lines.closed_account THEN
        PERFORM system.refuse('ACCOUNT_NOT_ACTIVE', 'lines on an account that is not active');
    END IF;
    IF lines.off_rate THEN
        PERFORM system.refuse('RATE_MISSING', 'amounts in the entity''s currency are missing, or not by the journal''s rate');
    END IF;
    -- What rounding leaves goes where it can be seen, and is half a unit for each line of the journal at most.
    IF lines.rounded THEN
        EXECUTE $look$
            SELECT EXISTS (SELECT FROM (SELECT DISTINCT n.journal_id FROM new_rows n
                                         CROSS JOIN LATERAL (SELECT * FROM ledgers.journals j WHERE j.id = n.journal_id OFFSET 0) j
                                         WHERE n.debit = 0 AND n.credit = 0 AND j.reverses IS NULL) n CROSS JOIN LATERAL (
                               SELECT FROM ledgers.journal_lines l
                                 LEFT JOIN ledgers.accounts a ON a.code = l.account_code AND a.role = 'ROUNDING'
                                WHERE l.journal_id = n.journal_id
                               HAVING bool_or(l.debit + l.credit = 0 AND a.code IS NULL)
                                   OR sum(l.functional_debit + l.functional_credit) FILTER (WHERE l.debit + l.credit = 0)
                                      > 0.5 * count(*) FILTER (WHERE l.debit + l.credit > 0)) off)$look$ INTO found;
        IF found THEN
            PERFORM system.refuse('ROUNDING_TOO_LARGE', 'a difference of rounding on another account, or above its bound');
        END IF;
    END IF;
    IF lines.with_dimensions AND EXISTS (SELECT FROM new_rows n, jsonb_each(n.dimensions) d
                WHERE n.dimensions <> '{}' AND (jsonb_typeof(d.value) <> 'string' OR d.key NOT IN (SELECT name FROM ledgers.dimensions))) THEN
        PERFORM system.refuse('DIMENSION_UNKNOWN', 'a dimension that is not declared, or a value that is no text');
    END IF;
    IF lines.reversing THEN
        EXECUTE $look$
            SELECT EXISTS (SELECT FROM (SELECT DISTINCT j.id, j.reverses FROM new_rows n
                                         CROSS JOIN LATERAL (SELECT * FROM ledgers.journals j WHERE j.id = n.journal_id OFFSET 0) j
                                         WHERE j.reverses IS NOT NULL) r
                            WHERE (SELECT array_agg(ROW(account_code, party, tax_code, dimensions, debit, credit, functional_debit, functional_credit)::TEXT
                                                    ORDER BY account_code, debit, credit, party, tax_code, dimensions::TEXT, functional_debit, functional_credit)
                                     FROM ledgers.journal_lines WHERE journal_id = r.id)
                               IS DISTINCT FROM
                                  (SELECT array_agg(ROW(account_code, party, tax_code, dimensions, credit, debit, functional_credit, functional_debit)::TEXT
                                                    ORDER BY account_code, credit, debit, party, tax_code, dimensions::TEXT, functional_credit, functional_debit)
                                     FROM ledgers.journal_lines WHERE journal_id = r.reverses))$look$ INTO found;
        IF found THEN
            PERFORM system.refuse('REVERSAL_DIFFERS', 'a reversal is the mirror of its original, line by line');
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- As in 022_books.sql, by the journal's id.
CREATE OR REPLACE FUNCTION ledgers.check_journal_rows() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n CROSS JOIN LATERAL (SELECT j.txid FROM ledgers.journals j WHERE j.id = n.journal_id OFFSET 0) j
                WHERE j.txid <> pg_current_xact_id()) THEN
        PERFORM system.refuse('POSTED_IS_FINAL', 'rows added to a journal of an earlier transaction');
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ledgers.add_movements() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE $add$
        INSERT INTO ledgers.movements AS m
        SELECT j.entity_id, j.period, j.currency, n.account_code, sum(n.debit), sum(n.credit),
               coalesce(sum(CASE WHEN j.currency = e.currency THEN n.debit ELSE n.functional_debit END), 0),
               coalesce(sum(CASE WHEN j.currency = e.currency THEN n.credit ELSE n.functional_credit END), 0)
          FROM new_rows n
         CROSS JOIN LATERAL (SELECT j.entity_id, j.period, j.currency FROM ledgers.journals j WHERE j.id = n.journal_id OFFSET 0) j
          JOIN system.entities e ON e.id = j.entity_id
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (entity_id, period, currency, account_code) DO UPDATE
           SET debit = m.debit + EXCLUDED.debit, credit = m.credit + EXCLUDED.credit,
               functional_debit = m.functional_debit + EXCLUDED.functional_debit,
               functional_credit = m.functional_credit + EXCLUDED.functional_credit$add$;
    RETURN NULL;
END $$;

-- A row that waits for a decision is found by the signals that wait: an index that names the outcome had an entry more for each row
-- that was ever decided upon, and kept its outcome from being written in place, which the table leaves room for.
DROP INDEX system.signal_rows_undecided_idx;

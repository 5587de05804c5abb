-- Commitments, calls, receipts and default interest, and the accounts they are posted to.

CREATE TABLE ledgers.capital_calls__commitment (
    id                  UUID PRIMARY KEY,
    entity_id           UUID NOT NULL,
    period              TEXT NOT NULL,
    task_id             UUID NOT NULL,
    status              TEXT NOT NULL,
    source_ref          TEXT,
    validation_errors   JSONB,
    raw_payload         JSONB,
    created_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    made_by             TEXT,
    approved_by         TEXT,
    approved_at         TIMESTAMPTZ,
    posted_to_gl        BOOLEAN NOT NULL DEFAULT FALSE,
    posted_journal_ref  TEXT,
    investor            TEXT,
    amount              NUMERIC(38, 9),
    currency            TEXT,
    share               NUMERIC(38, 9),
    default_rate        NUMERIC(38, 9),
    default_rate_source TEXT,
    grace_days          BIGINT,
    CONSTRAINT complete_where_it_counts CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR coalesce(investor IS NOT NULL AND amount > 0 AND currency IS NOT NULL AND default_rate IS NOT NULL AND grace_days IS NOT NULL, FALSE)),
    CONSTRAINT numbers_are_numbers CHECK (amount <> 'NaN' AND share BETWEEN 0 AND 1 AND default_rate BETWEEN 0 AND 1 AND grace_days BETWEEN 0 AND 366)
);

CREATE TABLE ledgers.capital_calls__capital_call (
    id                  UUID PRIMARY KEY,
    entity_id           UUID NOT NULL,
    period              TEXT NOT NULL,
    task_id             UUID NOT NULL,
    status              TEXT NOT NULL,
    source_ref          TEXT,
    validation_errors   JSONB,
    raw_payload         JSONB,
    created_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    made_by             TEXT,
    approved_by         TEXT,
    approved_at         TIMESTAMPTZ,
    posted_to_gl        BOOLEAN NOT NULL DEFAULT FALSE,
    posted_journal_ref  TEXT,
    investor            TEXT,
    reference           TEXT,
    call_number         BIGINT,
    commitment          NUMERIC(38, 9),
    percent             NUMERIC(38, 9),
    called              NUMERIC(38, 9),
    rounding            NUMERIC(38, 9),
    currency            TEXT,
    notice_date         DATE,
    due_date            DATE,
    grace_days          BIGINT,
    default_rate        NUMERIC(38, 9),
    default_rate_source TEXT,
    day_count           TEXT,
    CONSTRAINT complete_where_it_counts CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR coalesce(investor IS NOT NULL AND reference IS NOT NULL AND called > 0 AND currency IS NOT NULL AND due_date IS NOT NULL
            AND grace_days IS NOT NULL AND default_rate IS NOT NULL, FALSE)),
    CONSTRAINT numbers_are_numbers CHECK (called <> 'NaN' AND rounding <> 'NaN' AND commitment <> 'NaN' AND percent BETWEEN 0 AND 100 AND default_rate BETWEEN 0 AND 1
        AND grace_days BETWEEN 0 AND 366)
);

CREATE TABLE ledgers.capital_calls__call_receipt (
    id                  UUID PRIMARY KEY,
    entity_id           UUID NOT NULL,
    period              TEXT NOT NULL,
    task_id             UUID NOT NULL,
    status              TEXT NOT NULL,
    source_ref          TEXT,
    validation_errors   JSONB,
    raw_payload         JSONB,
    created_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    made_by             TEXT,
    approved_by         TEXT,
    approved_at         TIMESTAMPTZ,
    posted_to_gl        BOOLEAN NOT NULL DEFAULT FALSE,
    posted_journal_ref  TEXT,
    booked_on           DATE,
    amount              NUMERIC(38, 9),
    currency            TEXT,
    payer               TEXT,
    reference           TEXT,
    call_id             UUID,
    to_call             NUMERIC(38, 9),
    CONSTRAINT complete_where_it_counts CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR coalesce(booked_on IS NOT NULL AND amount > 0 AND currency IS NOT NULL AND call_id IS NOT NULL
            AND to_call IS NOT NULL AND to_call BETWEEN 0 AND amount, FALSE)),
    CONSTRAINT numbers_are_numbers CHECK (amount <> 'NaN' AND to_call <> 'NaN')
);

CREATE TABLE ledgers.capital_calls__default_interest (
    id                  UUID PRIMARY KEY,
    entity_id           UUID NOT NULL,
    period              TEXT NOT NULL,
    task_id             UUID NOT NULL,
    status              TEXT NOT NULL,
    source_ref          TEXT,
    validation_errors   JSONB,
    raw_payload         JSONB,
    created_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    made_by             TEXT,
    approved_by         TEXT,
    approved_at         TIMESTAMPTZ,
    posted_to_gl        BOOLEAN NOT NULL DEFAULT FALSE,
    posted_journal_ref  TEXT,
    call_id             UUID,
    investor            TEXT,
    currency            TEXT,
    runs_from           DATE,
    until               DATE,
    days                BIGINT,
    rate                NUMERIC(38, 9),
    rate_source         TEXT,
    day_count           TEXT,
    stretches           JSONB,
    earned              NUMERIC(38, 9),
    charged             NUMERIC(38, 9),
    interest            NUMERIC(38, 9),
    CONSTRAINT complete_where_it_counts CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR coalesce(call_id IS NOT NULL AND investor IS NOT NULL AND currency IS NOT NULL AND interest > 0, FALSE)),
    CONSTRAINT numbers_are_numbers CHECK (interest <> 'NaN' AND earned <> 'NaN' AND charged <> 'NaN' AND rate BETWEEN 0 AND 1)
);

-- What came for a call, and what was charged on it, is looked up by the call.
CREATE INDEX capital_calls__call_receipt_call_idx ON ledgers.capital_calls__call_receipt (call_id);
CREATE INDEX capital_calls__default_interest_call_idx ON ledgers.capital_calls__default_interest (call_id);

INSERT INTO ledgers.accounts (code, name, type) VALUES
    ('1000', 'Cash at bank', 'ASSET'),
    ('1210', 'Capital calls receivable', 'ASSET'),
    ('1220', 'Default interest receivable', 'ASSET'),
    ('2000', 'Creditors', 'LIABILITY'),
    ('3100', 'Contributions of investors', 'EQUITY'),
    ('4200', 'Default interest', 'INCOME')
ON CONFLICT (code) DO NOTHING;

-- A code that is taken by an account of another kind would put figures where they do not belong.
DO $$
BEGIN
    IF EXISTS (SELECT FROM ledgers.accounts a JOIN (VALUES ('1210', 'Capital calls receivable'), ('1220', 'Default interest receivable'),
                   ('3100', 'Contributions of investors'), ('4200', 'Default interest')) w (code, name) USING (code)
               WHERE a.name <> w.name) THEN
        RAISE EXCEPTION 'an account code of capital calls is taken: 1210, 1220, 3100 or 4200';
    END IF;
END $$;

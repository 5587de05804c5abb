-- Expenses: one supplier payment a row. Columns: spec sections 8.3 and 8.6. Optional where a broken row must still be kept.

CREATE TABLE ledgers.expenses (
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
    event_id            UUID,
    vendor              TEXT,
    amount_gross        NUMERIC(38, 9),
    currency            TEXT,
    expense_date        DATE,
    payment_method      TEXT,
    line_items          JSONB,
    vat_amount          NUMERIC(38, 9),
    notes               TEXT,
    category            TEXT,
    category_source     TEXT,
    confidence          NUMERIC(5, 4),
    CONSTRAINT complete_outside_needs_attention CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR (vendor IS NOT NULL AND amount_gross IS NOT NULL AND amount_gross > 0 AND currency IS NOT NULL)),
    -- NaN is a value of NUMERIC, and greater than every number.
    CONSTRAINT amounts_are_numbers CHECK (amount_gross <> 'NaN' AND vat_amount <> 'NaN' AND confidence BETWEEN 0 AND 1),
    CONSTRAINT vat_within_gross CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED') OR vat_amount IS NULL OR vat_amount BETWEEN 0 AND amount_gross)
);

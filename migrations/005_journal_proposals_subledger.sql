-- Journal proposals: one journal a row, reviewed by a person before it is posted. Columns: spec sections 8.3 and 8.7.

CREATE TABLE ledgers.journal_proposals (
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
    description         TEXT,
    posting_date        DATE,
    currency            TEXT,
    lines               JSONB NOT NULL DEFAULT '[]',
    CONSTRAINT lines_outside_needs_attention CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED') OR jsonb_array_length(lines) > 1)
);

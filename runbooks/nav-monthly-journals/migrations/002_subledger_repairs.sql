-- Repairs: what the agent paid to vendors.

CREATE TABLE ledgers.nav_monthly_journals__repairs (
    id                    UUID PRIMARY KEY,
    entity_id             UUID NOT NULL REFERENCES system.entities (id),
    period                TEXT NOT NULL,
    task_id               UUID NOT NULL,
    status                TEXT NOT NULL,
    source_ref            TEXT,
    validation_errors     JSONB,
    raw_payload           JSONB,
    created_at            TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at            TIMESTAMPTZ NOT NULL DEFAULT now(),
    made_by               TEXT,
    approved_by           TEXT,
    approved_at           TIMESTAMPTZ,
    posted_to_gl          BOOLEAN NOT NULL DEFAULT FALSE,
    posted_journal_ref    TEXT,
    property_ref          TEXT,
    vendor                TEXT,
    issue                 TEXT,
    paid_on               DATE,
    amount                NUMERIC(38, 9),
    currency              TEXT,
    CONSTRAINT complete_outside_needs_attention CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR (property_ref IS NOT NULL AND vendor IS NOT NULL AND paid_on IS NOT NULL AND currency IS NOT NULL
            AND amount IS NOT NULL AND amount > 0)),
    CONSTRAINT amounts_are_numbers CHECK (amount <> 'NaN')
);

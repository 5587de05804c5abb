-- Landlord statement: the agent's payout to the landlord.

CREATE TABLE ledgers.nav_monthly_journals__landlord_statement (
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
    transfer_ref          TEXT,
    paid_on               DATE,
    gross                 NUMERIC(38, 9),
    fee_rate              NUMERIC(5, 4),
    fee                   NUMERIC(38, 9),
    maintenance           NUMERIC(38, 9),
    net                   NUMERIC(38, 9),
    currency              TEXT,
    CONSTRAINT complete_outside_needs_attention CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR (transfer_ref IS NOT NULL AND paid_on IS NOT NULL AND currency IS NOT NULL AND net IS NOT NULL
            AND fee_rate IS NOT NULL AND gross IS NOT NULL AND fee IS NOT NULL AND maintenance IS NOT NULL
            AND least(gross, fee, maintenance) >= 0)),
    CONSTRAINT amounts_are_numbers CHECK (gross <> 'NaN' AND fee <> 'NaN' AND maintenance <> 'NaN' AND net <> 'NaN'
                                          AND fee_rate BETWEEN 0 AND 1)
);

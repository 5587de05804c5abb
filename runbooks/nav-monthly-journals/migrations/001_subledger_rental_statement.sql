-- Rental statement: one unit's month. Columns: spec sections 8.3 and 8.8. Optional where a broken row must still be kept.

CREATE TABLE ledgers.nav_monthly_journals__rental_statement (
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
    unit                  TEXT,
    tenant_name           TEXT,
    currency              TEXT,
    monthly_rent          NUMERIC(38, 9),
    fees_charged          NUMERIC(38, 9) NOT NULL DEFAULT 0,
    rent_received         NUMERIC(38, 9) NOT NULL DEFAULT 0,
    arrears_30d           NUMERIC(38, 9) NOT NULL DEFAULT 0,
    arrears_60d           NUMERIC(38, 9) NOT NULL DEFAULT 0,
    arrears_90d_plus      NUMERIC(38, 9) NOT NULL DEFAULT 0,
    deductions_total      NUMERIC(38, 9) NOT NULL DEFAULT 0,
    management_fee_gross  NUMERIC(38, 9) NOT NULL DEFAULT 0,
    repairs_gross         NUMERIC(38, 9) NOT NULL DEFAULT 0,
    net_cash_received     NUMERIC(38, 9) NOT NULL DEFAULT 0,
    lease_start           DATE,
    lease_end             DATE,
    vacant                BOOLEAN NOT NULL DEFAULT FALSE,
    confidence            NUMERIC(5, 4),
    CONSTRAINT complete_outside_needs_attention CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR (property_ref IS NOT NULL AND unit IS NOT NULL AND currency IS NOT NULL AND monthly_rent > 0 AND monthly_rent IS NOT NULL
            AND (vacant OR tenant_name IS NOT NULL))),
    -- NaN is a value of NUMERIC, and greater than every number.
    CONSTRAINT amounts_are_numbers CHECK ('NaN' NOT IN (coalesce(monthly_rent, 0), fees_charged, rent_received, arrears_30d, arrears_60d,
                                                        arrears_90d_plus, deductions_total, management_fee_gross, repairs_gross, net_cash_received)),
    CONSTRAINT nothing_negative CHECK (
        status IN ('NEEDS_ATTENTION', 'REJECTED')
        OR least(fees_charged, rent_received, arrears_30d, arrears_60d, arrears_90d_plus,
                 deductions_total, management_fee_gross, repairs_gross, net_cash_received) >= 0)
);

-- The accounts that this runbook books to, beside those of the common chart.

INSERT INTO ledgers.accounts (code, name, type) VALUES
    ('1100', 'Rent receivable', 'ASSET'),
    ('1110', 'Rent arrears, 30 days', 'ASSET'),
    ('1120', 'Rent arrears, 60 days', 'ASSET'),
    ('1130', 'Rent arrears, 90 days and more', 'ASSET'),
    ('1200', 'Managing agent control', 'ASSET'),
    ('4100', 'Rental income', 'INCOME'),
    ('4110', 'Fees charged to tenants', 'INCOME'),
    ('5210', 'Property management fees', 'EXPENSE')
ON CONFLICT (code) DO NOTHING;

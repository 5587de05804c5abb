-- What the desk's own credential cannot do to log-ins: its process makes sessions of persons who gave their password, for a day at
-- most. Keys of programs are the operator's to make, so `kind` is not the desk's to say.

REVOKE INSERT (kind) ON system.desk_sessions FROM ntro_desk;
ALTER TABLE system.desk_sessions ALTER COLUMN kind SET DEFAULT 'session';
ALTER TABLE system.desk_sessions ADD CONSTRAINT sessions_of_persons
    CHECK (kind = 'key' OR login LIKE 'user:%' AND expires_at <= made_at + INTERVAL '1 day');

-- Passwords are set by the operator's command alone: whoever held the desk's credential for a minute would else keep a way in.
REVOKE UPDATE (password_hash) ON system.members FROM ntro_desk;

-- When a password was typed wrong is not for its typist to say.
REVOKE INSERT ON system.failed_logins FROM ntro_desk;
GRANT INSERT (login) ON system.failed_logins TO ntro_desk;

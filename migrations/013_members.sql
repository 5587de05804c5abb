-- Who may sit at the desk, and what each may decide. Names and passwords live here and nowhere else; a member's login is the
-- author of what it files (`user:ann`, `agent:extractor`).
--
-- A tenant without members is taken at its word by whoever holds the desk's credential, which is its operator. From the first
-- member on only members decide, and the database is what refuses.

CREATE TABLE system.members (
    login          TEXT PRIMARY KEY CHECK (login ~ '^(user|agent):[a-z0-9][a-z0-9._-]{0,61}$'),
    name           TEXT NOT NULL CHECK (length(trim(name)) BETWEEN 1 AND 200),
    role           TEXT NOT NULL CHECK (role IN ('preparer', 'approver', 'auditor', 'admin', 'agent')),
    password_hash  TEXT CHECK (password_hash LIKE '$argon2id$%'),
    active         BOOLEAN NOT NULL DEFAULT TRUE,
    created_by     TEXT NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK ((role = 'agent') = (login LIKE 'agent:%')),
    CHECK (role <> 'agent' OR password_hash IS NULL)
);

-- A log-in of a person, or a key of a program: what comes with a request is found by its SHA-256.
CREATE TABLE system.desk_sessions (
    digest      BYTEA PRIMARY KEY CHECK (length(digest) = 32),
    id          UUID NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    login       TEXT NOT NULL REFERENCES system.members (login),
    kind        TEXT NOT NULL CHECK (kind IN ('session', 'key')),
    label       TEXT NOT NULL DEFAULT '',
    made_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    seen_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at  TIMESTAMPTZ CHECK (expires_at > made_at),
    ended_at    TIMESTAMPTZ,
    CHECK (kind = 'key' OR expires_at IS NOT NULL)
);
CREATE INDEX desk_sessions_login_idx ON system.desk_sessions (login) WHERE ended_at IS NULL;

-- Failed log-ins, so that passwords cannot be tried in numbers. What was typed is not kept.
CREATE TABLE system.failed_logins (
    login  TEXT NOT NULL,
    at     TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX failed_logins_idx ON system.failed_logins (login, at);

GRANT SELECT ON system.members, system.desk_sessions TO ntro_desk;
GRANT SELECT (login, name, role, active, created_by, created_at) ON system.members TO ntro_app, ntro_auditor;
GRANT INSERT (digest, login, kind, label, expires_at) ON system.desk_sessions TO ntro_desk;
GRANT UPDATE (seen_at, ended_at) ON system.desk_sessions TO ntro_desk;
GRANT UPDATE (password_hash) ON system.members TO ntro_desk;
GRANT SELECT, INSERT ON system.failed_logins TO ntro_desk;

CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON system.members
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('MEMBERS_ARE_KEPT');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON system.desk_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION system.refuse_statement('SESSIONS_ARE_KEPT');
-- What ended stays ended.
CREATE TRIGGER ended_once BEFORE UPDATE ON system.desk_sessions
    FOR EACH ROW WHEN (OLD.ended_at IS NOT NULL) EXECUTE FUNCTION system.refuse_statement('SESSION_HAS_ENDED');

-- Which roles may file a kind of signal. Kinds of a type's own are for those who may approve, and for preparers.
CREATE FUNCTION system.may_file(role TEXT, kind TEXT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE role WHEN 'approver' THEN TRUE
                    WHEN 'preparer' THEN kind <> 'approve'
                    WHEN 'agent' THEN kind IN ('edit', 'accept')
                    ELSE FALSE END $$;
GRANT EXECUTE ON FUNCTION system.may_file(TEXT, TEXT) TO ntro_app, ntro_desk, ntro_auditor;

CREATE FUNCTION system.check_signal_author() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM system.members) THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM new_rows n LEFT JOIN system.members m ON m.login = n.filed_by AND m.active WHERE m.login IS NULL) THEN
        PERFORM system.refuse('NOT_A_MEMBER', 'a decision by somebody who is no active member of this tenant');
    END IF;
    IF EXISTS (SELECT FROM new_rows n JOIN system.members m ON m.login = n.filed_by WHERE NOT system.may_file(m.role, n.kind)) THEN
        PERFORM system.refuse('ROLE_MAY_NOT', 'a decision that the member''s role may not file');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER author AFTER INSERT ON system.signals REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION system.check_signal_author();

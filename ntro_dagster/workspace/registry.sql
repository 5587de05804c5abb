-- Schema `registry` of the workspace's database: ids, slugs, digests, states and times. No names and no text: see the wall.
-- Read at every start. What is there stays as it is, so a change of a table needs a statement of its own below it.

CREATE SCHEMA IF NOT EXISTS registry;

CREATE TABLE IF NOT EXISTS registry.tenants (
    slug varchar NOT NULL UNIQUE,
    data_platform varchar NOT NULL,
    status varchar NOT NULL,
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS registry.entities (
    tenant_id uuid NOT NULL REFERENCES registry.tenants,
    slug varchar NOT NULL,
    status varchar NOT NULL,
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    UNIQUE (tenant_id, slug)
);

-- With which a tenant's processes on another host reach the relay. Who has the key is the tenant; we keep its digest alone.
CREATE TABLE IF NOT EXISTS registry.relay_keys (
    tenant_id uuid NOT NULL REFERENCES registry.tenants,
    digest bytea NOT NULL UNIQUE CONSTRAINT digest_is_sha256 CHECK (octet_length(digest) = 32),
    revoked_at timestamptz,
    id uuid PRIMARY KEY,
    made_at timestamptz NOT NULL,
    CONSTRAINT revoked_after_made CHECK (revoked_at >= made_at)
);

CREATE TABLE IF NOT EXISTS registry.runbook_versions (
    slug varchar NOT NULL,
    version varchar NOT NULL,
    digest varchar NOT NULL,
    label varchar NOT NULL,
    files integer NOT NULL,
    size integer NOT NULL,
    pushed_at timestamptz NOT NULL,
    PRIMARY KEY (slug, version)
);

CREATE TABLE IF NOT EXISTS registry.deployments (
    tenant_id uuid NOT NULL REFERENCES registry.tenants,
    slug varchar NOT NULL,
    version varchar,
    act varchar NOT NULL,
    state varchar NOT NULL,
    error varchar,
    id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL,
    ended_at timestamptz
);

CREATE TABLE IF NOT EXISTS registry.workflows (
    tenant_id uuid NOT NULL REFERENCES registry.tenants,
    entity_id uuid NOT NULL REFERENCES registry.entities,
    runbook varchar NOT NULL,
    cron varchar,
    timezone varchar,
    period_offset integer NOT NULL,
    pinned varchar,
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    closed_at timestamptz
);

CREATE UNIQUE INDEX IF NOT EXISTS workflows_open_idx ON registry.workflows (tenant_id, runbook, entity_id) WHERE closed_at IS NULL;

-- Intervals in which a workflow's ticks do not count. Open: it is paused now.
CREATE TABLE IF NOT EXISTS registry.workflow_pauses (
    workflow_id uuid NOT NULL REFERENCES registry.workflows,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    id uuid PRIMARY KEY
);

CREATE UNIQUE INDEX IF NOT EXISTS workflow_pauses_open_idx ON registry.workflow_pauses (workflow_id) WHERE ended_at IS NULL;

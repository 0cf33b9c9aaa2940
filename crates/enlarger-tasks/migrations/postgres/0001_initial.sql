-- Rows are as in SQLite, whose statements and readers these tables share: times are milliseconds since the Unix epoch, ids are
-- UUIDs as text, flags are 0 or 1, and documents are JSON as text (jsonb would refuse the character U+0000 and reorder keys).
-- The CHECKs say what every reader may rely on, whoever wrote the row.

CREATE TABLE tasks (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           TEXT   COLLATE "C" NOT NULL UNIQUE,
    owner        TEXT,
    kind         TEXT   NOT NULL,
    request      TEXT   NOT NULL,
    input        TEXT   NOT NULL,
    webhook_url  TEXT,
    cost         DOUBLE PRECISION NOT NULL CHECK (cost >= 0),

    state        TEXT   NOT NULL CHECK (state IN ('CREATED', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'CANCELLED')),
    run          BIGINT NOT NULL CHECK (run >= 1),
    attempt      BIGINT NOT NULL CHECK (attempt >= 0),
    failures     BIGINT NOT NULL CHECK (failures >= 0),
    worker       TEXT,
    lease_until  BIGINT,
    due          BIGINT NOT NULL, -- the rank in the queue: queued_at + patience * cost
    not_before   BIGINT NOT NULL, -- the pause after a broken attempt
    polled_at    BIGINT, -- when its client last asked, if the client learns of the end in no other way

    created_at   BIGINT NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    expires_at   BIGINT,
    files        TEXT   NOT NULL CHECK (files IN ('present', 'deleting', 'gone')),
    hidden       BIGINT NOT NULL CHECK (hidden IN (0, 1)), -- deleted by its user, files still to go

    progress     TEXT,
    plan         TEXT,
    result       TEXT,
    error        TEXT,

    CHECK ((state = 'IN_PROGRESS') = (worker IS NOT NULL)),
    CHECK ((worker IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'COMPLETED') = (result IS NOT NULL)),
    CHECK (state NOT IN ('FAILED', 'CANCELLED') OR error IS NOT NULL),
    CHECK ((state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (finished_at IS NOT NULL)),
    CHECK (finished_at IS NOT NULL OR expires_at IS NULL), -- finished without expiry: kept until it is deleted
    CHECK (files = 'present' OR expires_at IS NOT NULL),
    CHECK (finished_at IS NOT NULL OR (files = 'present' AND hidden = 0))
);

CREATE INDEX tasks_queue ON tasks (due, seq, not_before, cost, polled_at) WHERE state = 'CREATED';
CREATE INDEX tasks_queue_owner ON tasks (owner) WHERE state = 'CREATED';
CREATE INDEX tasks_leases ON tasks (lease_until) WHERE state = 'IN_PROGRESS';
CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE files <> 'gone';
CREATE INDEX tasks_kept ON tasks (finished_at) WHERE files = 'present' AND finished_at IS NOT NULL;
CREATE INDEX tasks_history ON tasks (expires_at) WHERE files = 'gone';
CREATE INDEX tasks_list ON tasks (owner, seq, hidden, kind, state);

-- A key without a task is a reservation, held by whoever knows the token.
CREATE TABLE idempotency_keys (
    owner      TEXT   NOT NULL, -- '' when credentials are off
    key        TEXT   NOT NULL,
    body_hash  BYTEA  NOT NULL CHECK (length(body_hash) = 32),
    task       TEXT   COLLATE "C" REFERENCES tasks (id) ON DELETE CASCADE,
    token      TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (owner, key),
    CHECK ((task IS NULL) = (token IS NOT NULL))
);

CREATE INDEX idempotency_task ON idempotency_keys (task);
CREATE INDEX idempotency_token ON idempotency_keys (token) WHERE token IS NOT NULL;
CREATE INDEX idempotency_expiry ON idempotency_keys (expires_at);

-- One row per (task, run, status), however many attempts it took: a task claimed again after a crash is announced once.
CREATE TABLE outbox (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event      TEXT   NOT NULL UNIQUE,
    task       TEXT   COLLATE "C" NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    run        BIGINT NOT NULL,
    status     TEXT   NOT NULL CHECK (status IN ('IN_PROGRESS', 'COMPLETED', 'FAILED', 'CANCELLED')),
    url        TEXT   NOT NULL,
    receiver   TEXT   NOT NULL, -- the host of the url, for fairness between receivers
    state      TEXT   NOT NULL CHECK (state IN ('pending', 'delivered', 'given_up')),
    attempts   BIGINT NOT NULL,
    sending    BIGINT NOT NULL CHECK (sending IN (0, 1)), -- due_at is the end of a sender's lease
    due_at     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT,
    last_error TEXT,
    UNIQUE (task, run, status),
    CHECK ((state = 'pending') = (ended_at IS NULL))
);

CREATE INDEX outbox_due ON outbox (due_at, seq) WHERE state = 'pending';
CREATE INDEX outbox_sending ON outbox (receiver, due_at) WHERE state = 'pending' AND sending = 1;
CREATE INDEX outbox_ended ON outbox (ended_at) WHERE state <> 'pending';

CREATE TABLE objects (
    id           TEXT   COLLATE "C" PRIMARY KEY,
    owner        TEXT,
    file_name    TEXT   NOT NULL,
    content_type TEXT,
    size         BIGINT CHECK (size >= 0),
    state        TEXT   NOT NULL CHECK (state IN ('pending', 'ready', 'deleting')),
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    CHECK (state <> 'ready' OR size IS NOT NULL)
);

CREATE INDEX objects_expiry ON objects (expires_at);

CREATE TABLE api_keys (
    id           TEXT   PRIMARY KEY,
    name         TEXT   NOT NULL,
    prefix       TEXT   COLLATE "C" NOT NULL UNIQUE,
    hash         BYTEA  NOT NULL CHECK (length(hash) = 32),
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);

-- What /readyz writes to prove that writing works.
CREATE TABLE pulse (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    at  BIGINT NOT NULL
);

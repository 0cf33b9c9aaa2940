-- Times are milliseconds since the Unix epoch, ids are UUIDs as text, documents are JSON as text.
-- The CHECKs say what every reader may rely on, whoever wrote the row.

CREATE TABLE tasks (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    owner        TEXT,
    kind         TEXT    NOT NULL,
    request      TEXT    NOT NULL,
    input        TEXT    NOT NULL,
    input_object TEXT,
    webhook_url  TEXT,
    cost         REAL    NOT NULL CHECK (cost >= 0),

    state        TEXT    NOT NULL CHECK (state IN ('CREATED', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'CANCELLED')),
    run          INTEGER NOT NULL CHECK (run >= 1),
    attempt      INTEGER NOT NULL CHECK (attempt >= 0),
    failures     INTEGER NOT NULL CHECK (failures >= 0),
    worker       TEXT,
    lease_until  INTEGER,
    due          INTEGER NOT NULL, -- the rank in the queue: queued_at + patience * cost
    not_before   INTEGER NOT NULL, -- the pause after a broken attempt

    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    expires_at   INTEGER,
    files        TEXT    NOT NULL CHECK (files IN ('present', 'deleting', 'gone')),
    hidden       INTEGER NOT NULL CHECK (hidden IN (0, 1)), -- deleted by its user, files still to go

    progress     TEXT,
    plan         TEXT,
    result       TEXT,
    error        TEXT,

    CHECK ((state = 'IN_PROGRESS') = (worker IS NOT NULL)),
    CHECK ((worker IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'COMPLETED') = (result IS NOT NULL)),
    CHECK (state NOT IN ('FAILED', 'CANCELLED') OR error IS NOT NULL),
    CHECK ((state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (finished_at IS NOT NULL)),
    CHECK ((finished_at IS NULL) = (expires_at IS NULL)),
    CHECK (finished_at IS NOT NULL OR (files = 'present' AND hidden = 0))
) STRICT;

-- The planner has no statistics here, so hot queries name their index (INDEXED BY): they fail in every test rather than
-- fall back to a scan of the history.
CREATE INDEX tasks_queue ON tasks (due, seq, not_before, cost) WHERE state = 'CREATED';
CREATE INDEX tasks_queue_owner ON tasks (owner) WHERE state = 'CREATED';
CREATE INDEX tasks_leases ON tasks (lease_until) WHERE state = 'IN_PROGRESS';
CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE files <> 'gone';
CREATE INDEX tasks_history ON tasks (expires_at) WHERE files = 'gone';
CREATE INDEX tasks_list ON tasks (owner, seq, hidden, kind, state); -- also covers what lists and metrics count
CREATE INDEX tasks_by_input ON tasks (input_object) WHERE input_object IS NOT NULL;

-- A key without a task is a reservation, held by whoever knows the token.
CREATE TABLE idempotency_keys (
    owner      TEXT    NOT NULL, -- '' when credentials are off
    key        TEXT    NOT NULL,
    body_hash  BLOB    NOT NULL CHECK (length(body_hash) = 32),
    task       TEXT    REFERENCES tasks (id) ON DELETE CASCADE,
    token      TEXT,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (owner, key),
    CHECK ((task IS NULL) = (token IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_task ON idempotency_keys (task);
CREATE INDEX idempotency_token ON idempotency_keys (token) WHERE token IS NOT NULL;
CREATE INDEX idempotency_expiry ON idempotency_keys (expires_at);

-- One row per (task, run, status), however many attempts it took: a task claimed again after a crash is announced once.
CREATE TABLE outbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    event      TEXT    NOT NULL UNIQUE,
    task       TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    run        INTEGER NOT NULL,
    status     TEXT    NOT NULL CHECK (status IN ('IN_PROGRESS', 'COMPLETED', 'FAILED', 'CANCELLED')),
    url        TEXT    NOT NULL,
    receiver   TEXT    NOT NULL, -- the host of the url, for fairness between receivers
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'given_up')),
    attempts   INTEGER NOT NULL,
    sending    INTEGER NOT NULL CHECK (sending IN (0, 1)), -- due_at is the end of a sender's lease
    due_at     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    last_error TEXT,
    UNIQUE (task, run, status),
    CHECK ((state = 'pending') = (ended_at IS NULL))
) STRICT;

CREATE INDEX outbox_due ON outbox (due_at, seq) WHERE state = 'pending';
CREATE INDEX outbox_sending ON outbox (receiver, due_at) WHERE state = 'pending' AND sending = 1;
CREATE INDEX outbox_ended ON outbox (ended_at) WHERE state <> 'pending';

CREATE TABLE objects (
    id           TEXT    PRIMARY KEY,
    owner        TEXT,
    file_name    TEXT    NOT NULL,
    content_type TEXT,
    size         INTEGER CHECK (size >= 0),
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'ready', 'deleting')),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    CHECK (state <> 'ready' OR size IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX objects_expiry ON objects (expires_at);

CREATE TABLE api_keys (
    id           TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL,
    prefix       TEXT    NOT NULL UNIQUE,
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT, WITHOUT ROWID;

-- What /readyz writes to prove that writing works.
CREATE TABLE pulse (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;

-- A finished task may be kept without an expiry, and a task remembers when its client last asked for it. SQLite cannot change
-- a CHECK, so the table is made anew (https://www.sqlite.org/lang_altertable.html, section 7); foreign keys are off meanwhile.

CREATE TABLE tasks_next (
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
    polled_at    INTEGER, -- when its client last asked, if the client learns of the end in no other way

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
    CHECK (finished_at IS NOT NULL OR expires_at IS NULL), -- finished without expiry: kept until it is deleted
    CHECK (files = 'present' OR expires_at IS NOT NULL),
    CHECK (finished_at IS NOT NULL OR (files = 'present' AND hidden = 0))
) STRICT;

INSERT INTO tasks_next (
    seq, id, owner, kind, request, input, input_object, webhook_url, cost, state,
    run, attempt, failures, worker, lease_until, due, not_before, created_at, started_at, finished_at,
    expires_at, files, hidden, progress, plan, result, error)
SELECT
    seq, id, owner, kind, request, input, input_object, webhook_url, cost, state,
    run, attempt, failures, worker, lease_until, due, not_before, created_at, started_at, finished_at,
    expires_at, files, hidden, progress, plan, result, error
FROM tasks;

DROP TABLE tasks;
ALTER TABLE tasks_next RENAME TO tasks;

CREATE INDEX tasks_queue ON tasks (due, seq, not_before, cost, polled_at) WHERE state = 'CREATED';
CREATE INDEX tasks_queue_owner ON tasks (owner) WHERE state = 'CREATED';
CREATE INDEX tasks_leases ON tasks (lease_until) WHERE state = 'IN_PROGRESS';
CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE files <> 'gone';
CREATE INDEX tasks_kept ON tasks (finished_at) WHERE files = 'present' AND finished_at IS NOT NULL;
CREATE INDEX tasks_history ON tasks (expires_at) WHERE files = 'gone';
CREATE INDEX tasks_list ON tasks (owner, seq, hidden, kind, state); -- also covers what lists and metrics count
CREATE INDEX tasks_by_input ON tasks (input_object) WHERE input_object IS NOT NULL;

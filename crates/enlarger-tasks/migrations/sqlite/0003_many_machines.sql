-- Which processes there are, what they can run, whose turn it is, and how many tasks there are, counted as they change. All of it
-- is added beside what an earlier version reads and writes, so both may work on the database at once.

-- What this database is, and the storage that it was first used with.
CREATE TABLE service (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    database TEXT    NOT NULL,
    storage  TEXT,
    place    TEXT, -- of the storage, for messages
    CHECK ((storage IS NULL) = (place IS NULL))
) STRICT;

CREATE TABLE nodes (
    id         TEXT    PRIMARY KEY,
    about      TEXT    NOT NULL, -- JSON; readers ignore what they do not know
    draining   INTEGER NOT NULL CHECK (draining IN (0, 1)),
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE tasks ADD COLUMN needs TEXT; -- what its worker must have, in lines; NULL: any will do

CREATE INDEX tasks_turns ON tasks (coalesce(owner, ''), due, seq, not_before, polled_at, needs, cost) WHERE state = 'CREATED';
CREATE INDEX tasks_needs ON tasks (needs) WHERE state = 'CREATED' AND needs IS NOT NULL;

CREATE INDEX tasks_state ON tasks (state, seq);

-- When each owner's task was last claimed, counted in claims.
CREATE TABLE turns (
    owner TEXT    PRIMARY KEY, -- '' when credentials are off
    turn  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX turns_order ON turns (turn);

-- How many tasks that are not hidden there are of each owner, kind and state: among 128 in a row (block = seq / 128), and in total
-- (block = -1). Pages of lists are found by it, however long the history is.
CREATE TABLE tally (
    block INTEGER NOT NULL,
    owner TEXT    NOT NULL, -- '' when credentials are off
    kind  TEXT    NOT NULL,
    state TEXT    NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (block, owner, kind, state)
) STRICT, WITHOUT ROWID;

CREATE INDEX tally_owner ON tally (owner, block);

CREATE VIEW tallied AS SELECT block, owner, kind, state, n FROM tally;

CREATE TRIGGER tally_insert AFTER INSERT ON tasks WHEN NEW.hidden = 0 BEGIN
    INSERT INTO tally (block, owner, kind, state, n) VALUES
        (-1, coalesce(NEW.owner, ''), NEW.kind, NEW.state, 1),
        (NEW.seq / 128, coalesce(NEW.owner, ''), NEW.kind, NEW.state, 1)
    ON CONFLICT (block, owner, kind, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tally_update AFTER UPDATE OF state, hidden ON tasks
WHEN OLD.state <> NEW.state OR OLD.hidden <> NEW.hidden BEGIN
    INSERT INTO tally (block, owner, kind, state, n) VALUES
        (-1, coalesce(OLD.owner, ''), OLD.kind, OLD.state, OLD.hidden - 1),
        (OLD.seq / 128, coalesce(OLD.owner, ''), OLD.kind, OLD.state, OLD.hidden - 1),
        (-1, coalesce(NEW.owner, ''), NEW.kind, NEW.state, 1 - NEW.hidden),
        (NEW.seq / 128, coalesce(NEW.owner, ''), NEW.kind, NEW.state, 1 - NEW.hidden)
    ON CONFLICT (block, owner, kind, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tally_delete AFTER DELETE ON tasks WHEN OLD.hidden = 0 BEGIN
    INSERT INTO tally (block, owner, kind, state, n) VALUES
        (-1, coalesce(OLD.owner, ''), OLD.kind, OLD.state, -1),
        (OLD.seq / 128, coalesce(OLD.owner, ''), OLD.kind, OLD.state, -1)
    ON CONFLICT (block, owner, kind, state) DO UPDATE SET n = n + excluded.n;
END;

INSERT INTO tally (block, owner, kind, state, n)
SELECT -1, coalesce(owner, ''), kind, state, count(*) FROM tasks WHERE hidden = 0 GROUP BY 2, 3, 4
UNION ALL
SELECT seq / 128, coalesce(owner, ''), kind, state, count(*) FROM tasks WHERE hidden = 0 GROUP BY 1, 2, 3, 4;

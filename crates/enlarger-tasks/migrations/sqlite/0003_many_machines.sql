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

-- How many tasks that are not hidden there are of each kind and state, of everybody and of each owner, in blocks of several sizes
-- (block = seq / size). Pages of lists are found by descending from large blocks to small ones, however long the history is.
CREATE VIEW tally_sizes (size) AS VALUES (128), (4096), (131072), (9223372036854775807); -- the last one has all tasks

CREATE TABLE tally (
    whose TEXT    NOT NULL, -- '*': everybody's; else '=' and the owner
    size  INTEGER NOT NULL,
    block INTEGER NOT NULL,
    kind  TEXT    NOT NULL,
    state TEXT    NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (whose, size, block, kind, state)
) STRICT, WITHOUT ROWID;

CREATE INDEX tally_none ON tally (n) WHERE n = 0;

-- As PostgreSQL has it, where changes are added up later.
CREATE VIEW tallied AS SELECT whose, size, block, kind, state, n FROM tally;

-- What is inserted here is added.
CREATE VIEW tally_news AS SELECT seq, owner, kind, state, 1 AS n FROM tasks WHERE hidden = 0;

CREATE TRIGGER tally_add INSTEAD OF INSERT ON tally_news BEGIN
    INSERT INTO tally (whose, size, block, kind, state, n)
    SELECT whose, size, NEW.seq / size, NEW.kind, NEW.state, NEW.n
    FROM (SELECT '*' AS whose UNION ALL SELECT '=' || NEW.owner), tally_sizes
    WHERE whose IS NOT NULL
    ON CONFLICT (whose, size, block, kind, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tally_insert AFTER INSERT ON tasks WHEN NEW.hidden = 0 BEGIN
    INSERT INTO tally_news (seq, owner, kind, state, n) VALUES (NEW.seq, NEW.owner, NEW.kind, NEW.state, 1);
END;

CREATE TRIGGER tally_update AFTER UPDATE OF state, hidden ON tasks
WHEN OLD.state <> NEW.state OR OLD.hidden <> NEW.hidden BEGIN
    INSERT INTO tally_news (seq, owner, kind, state, n) VALUES
        (OLD.seq, OLD.owner, OLD.kind, OLD.state, OLD.hidden - 1),
        (NEW.seq, NEW.owner, NEW.kind, NEW.state, 1 - NEW.hidden);
END;

CREATE TRIGGER tally_delete AFTER DELETE ON tasks WHEN OLD.hidden = 0 BEGIN
    INSERT INTO tally_news (seq, owner, kind, state, n) VALUES (OLD.seq, OLD.owner, OLD.kind, OLD.state, -1);
END;

INSERT INTO tally (whose, size, block, kind, state, n)
SELECT '*', size, seq / size, kind, state, sum(n) FROM tally_news, tally_sizes GROUP BY 1, 2, 3, 4, 5
UNION ALL
SELECT '=' || owner, size, seq / size, kind, state, sum(n) FROM tally_news, tally_sizes
WHERE owner IS NOT NULL GROUP BY 1, 2, 3, 4, 5;

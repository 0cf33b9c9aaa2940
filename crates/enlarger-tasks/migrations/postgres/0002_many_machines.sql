-- Which processes there are, what they can run, whose turn it is, and how many tasks there are, counted as they change. All of it
-- is added beside what an earlier version reads and writes, so both may work on the database at once.

-- What this database is, and the storage that it was first used with.
CREATE TABLE service (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    database TEXT   NOT NULL,
    storage  TEXT,
    place    TEXT, -- of the storage, for messages
    CHECK ((storage IS NULL) = (place IS NULL))
);

CREATE TABLE nodes (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    about      TEXT   NOT NULL, -- JSON; readers ignore what they do not know
    draining   BIGINT NOT NULL CHECK (draining IN (0, 1)),
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);

ALTER TABLE tasks ADD COLUMN needs TEXT; -- what its worker must have, in lines; NULL: any will do

CREATE INDEX tasks_turns ON tasks (coalesce(owner, ''), due, seq, not_before, polled_at, needs, cost) WHERE state = 'CREATED';
CREATE INDEX tasks_needs ON tasks (needs) WHERE state = 'CREATED' AND needs IS NOT NULL;

CREATE INDEX tasks_state ON tasks (state, seq);

-- When each owner's task was last claimed, counted in claims.
CREATE TABLE turns (
    owner TEXT   PRIMARY KEY, -- '' when credentials are off
    turn  BIGINT NOT NULL
);

CREATE INDEX turns_order ON turns (turn);

-- How many tasks that are not hidden there are of each kind and state, of everybody and of each owner, in blocks of several sizes
-- (block = seq / size). Pages of lists are found by descending from large blocks to small ones, however long the history is.
CREATE VIEW tally_sizes (size) AS VALUES (128::bigint), (4096), (131072), (9223372036854775807); -- the last one has all tasks

CREATE TABLE tally (
    whose TEXT   COLLATE "C" NOT NULL, -- '*': everybody's; else '=' and the owner
    size  BIGINT NOT NULL,
    block BIGINT NOT NULL,
    kind  TEXT   COLLATE "C" NOT NULL,
    state TEXT   COLLATE "C" NOT NULL,
    n     BIGINT NOT NULL,
    PRIMARY KEY (whose, size, block, kind, state)
);

-- What has changed since: transactions that added to the same row would wait for each other. Folded in by every 64th change.
CREATE TABLE tally_news (
    seq   BIGINT NOT NULL,
    owner TEXT   COLLATE "C",
    kind  TEXT   COLLATE "C" NOT NULL,
    state TEXT   COLLATE "C" NOT NULL,
    n     BIGINT NOT NULL
);

CREATE VIEW tallied AS
SELECT whose, size, block, kind, state, n FROM tally
UNION ALL
SELECT whose, size, seq / size, kind, state, n
FROM tally_news CROSS JOIN tally_sizes CROSS JOIN LATERAL (VALUES ('*'), ('=' || owner)) AS of (whose)
WHERE whose IS NOT NULL;

-- Under an advisory lock of the program ("enlr", 3), so that two do not wait for each other's rows.
CREATE FUNCTION fold_tally() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_try_advisory_xact_lock(1701735538, 3) THEN
        WITH gone AS (DELETE FROM tally_news RETURNING seq, owner, kind, state, n)
        INSERT INTO tally (whose, size, block, kind, state, n)
        SELECT whose, size, seq / size AS block, kind, state, sum(n)
        FROM gone CROSS JOIN tally_sizes CROSS JOIN LATERAL (VALUES ('*'), ('=' || owner)) AS of (whose)
        WHERE whose IS NOT NULL
        GROUP BY whose, size, seq / size, kind, state
        HAVING sum(n) <> 0
        ON CONFLICT (whose, size, block, kind, state) DO UPDATE SET n = tally.n + excluded.n;
    END IF;
END $$;

-- The same, and forgets blocks that have none any more.
CREATE FUNCTION tidy_tally() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_try_advisory_xact_lock(1701735538, 3) THEN
        PERFORM fold_tally();
        DELETE FROM tally WHERE n = 0;
    END IF;
END $$;

CREATE FUNCTION count_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.hidden = 0 THEN
        INSERT INTO tally_news (seq, owner, kind, state, n) VALUES (OLD.seq, OLD.owner, OLD.kind, OLD.state, -1);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.hidden = 0 THEN
        INSERT INTO tally_news (seq, owner, kind, state, n) VALUES (NEW.seq, NEW.owner, NEW.kind, NEW.state, 1);
        IF NEW.seq % 64 = 0 THEN
            PERFORM fold_tally();
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_task AFTER INSERT OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION count_task();
CREATE TRIGGER count_change AFTER UPDATE OF state, hidden ON tasks FOR EACH ROW
WHEN (OLD.state <> NEW.state OR OLD.hidden <> NEW.hidden) EXECUTE FUNCTION count_task();

-- Nobody changes a task meanwhile: the triggers lock the table until this is committed.
INSERT INTO tally_news (seq, owner, kind, state, n) SELECT seq, owner, kind, state, 1 FROM tasks WHERE hidden = 0;
SELECT fold_tally();

-- What was run before, by what it did: the digest of its key. Only a cache: it may be lost, and nothing is wrong then.
CREATE TABLE runs (
    key        TEXT PRIMARY KEY,    -- 64 hexadecimal digits
    holder     TEXT NOT NULL,       -- the execution that has the artifacts: the newest of them
    execution  TEXT NOT NULL,       -- who ran
    layer      INTEGER NOT NULL,
    split      INTEGER NOT NULL,
    artifacts  TEXT NOT NULL        -- JSON, as in events
) WITHOUT ROWID;
CREATE INDEX runs_by_holder ON runs (holder);

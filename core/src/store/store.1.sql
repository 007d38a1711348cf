-- The execution as it was created. One row; it never changes.
CREATE TABLE creation (
  one            INTEGER PRIMARY KEY CHECK (one = 1),
  id             TEXT NOT NULL,             -- 32 hexadecimal digits
  flow           TEXT NOT NULL,
  backend        TEXT NOT NULL,
  created_ms     INTEGER NOT NULL,          -- all times: milliseconds since 1970, UTC
  workdir        BLOB NOT NULL,             -- text where it is UTF-8
  jobs           INTEGER NOT NULL,
  cpu_millis     NOT NULL,                  -- counts beyond 2^63 are decimal text
  memory         NOT NULL,
  parameters     TEXT NOT NULL,             -- JSON: [[name, value], ...]
  source_name    TEXT NOT NULL,
  source_format  TEXT NOT NULL,             -- yaml, json
  source_text    TEXT NOT NULL
);

-- What a scheduler must know of those before and after it. One row.
CREATE TABLE meta (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  epoch  INTEGER NOT NULL,                  -- raised by each scheduler that takes the execution over
  ended  INTEGER                            -- the number of the event with which it ended; NULL: it has not
);

CREATE TABLE layers (
  id    INTEGER PRIMARY KEY,                -- from 0, in the order of the flow file
  name  TEXT NOT NULL
);

-- What the kinds of events are called, and what `detail` holds of them.
CREATE TABLE kinds (
  kind    INTEGER PRIMARY KEY,
  word    TEXT NOT NULL,
  detail  TEXT NOT NULL
);
INSERT INTO kinds VALUES
  (1, 'launched',         '{"outputs": the number of its outputs folder}'),
  (2, 'started',          'the token of its handle; the whole handle where that is another task''s; NULL: an empty token'),
  (3, 'exited',           '{"cause", "evidence", "usage"}'),
  (4, 'published',        '[{"name", "content"}, ...]; NULL: no artifacts'),
  (5, 'rejected',         'why'),
  (6, 'retry scheduled',  '{"delay_ms"}'),
  (7, 'retry due',        'NULL'),
  (8, 'cancel requested', '{"force"}'),
  (9, 'ended',            '"finished", "failed" or "cancelled"'),
  (10, 'resumed',         '[the layers that run again with all that need them, ...]; NULL: none');

-- The truth about the execution: what happened, in order, without gaps. Everything below can be had from it.
CREATE TABLE events (
  seq      INTEGER PRIMARY KEY,             -- from 1
  at_ms    INTEGER NOT NULL,
  kind     INTEGER NOT NULL,
  layer    INTEGER,
  split    INTEGER,                         -- the split's index
  attempt  INTEGER,
  detail   TEXT                             -- JSON, see `kinds`
);

-- Where each split is that was launched or has settled.
CREATE TABLE splits (
  layer        INTEGER NOT NULL,
  split        INTEGER NOT NULL,
  state        TEXT NOT NULL,               -- running, resting, finished, cached, skipped, caught, failed, cancelled
  attempt      INTEGER NOT NULL,            -- its last; 0: never launched
  outputs      INTEGER,                     -- of that attempt, like all that follows
  launched_ms  INTEGER,
  ended_ms     INTEGER,
  exited       INTEGER,                     -- the number of the event that says how
  rejected     INTEGER,                     -- the number of the event that says why
  PRIMARY KEY (layer, split)
) WITHOUT ROWID;

-- What splits left.
CREATE TABLE artifacts (
  layer    INTEGER NOT NULL,
  split    INTEGER NOT NULL,
  name     TEXT NOT NULL,
  kind     TEXT NOT NULL,                   -- file, folder
  digest   TEXT NOT NULL,                   -- of the file, or of the folder's manifest
  entries,                                  -- of a folder
  size     NOT NULL,                        -- in bytes
  PRIMARY KEY (layer, split, name)
) WITHOUT ROWID;

-- The log, to be read by people.
CREATE VIEW log AS
  SELECT events.seq, strftime('%Y-%m-%dT%H:%M:%fZ', at_ms / 1000.0, 'unixepoch') AS at, kinds.word AS event,
         layers.name AS layer, events.split, attempt, events.detail
  FROM events LEFT JOIN kinds USING (kind) LEFT JOIN layers ON layers.id = events.layer
  ORDER BY events.seq;

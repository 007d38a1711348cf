-- A cache of what the executions' own stores say. Whatever is missing or doubtful here is read from there.
CREATE TABLE executions (
  id          TEXT PRIMARY KEY,
  flow        TEXT NOT NULL,
  backend     TEXT NOT NULL,
  created_ms  INTEGER NOT NULL,
  layers      INTEGER NOT NULL,
  ended_ms    INTEGER,                      -- all that follows: NULL until it has ended
  outcome     TEXT,
  counts      TEXT                          -- JSON: running, resting, finished, cached, skipped, caught, failed, cancelled
) WITHOUT ROWID;

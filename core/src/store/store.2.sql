UPDATE kinds SET detail = '{"delay_ms", "memory": of the next attempt, where it has grown}' WHERE kind = 6;

-- Options of backends, and layers that run elsewhere than the rest.
ALTER TABLE creation ADD COLUMN options TEXT NOT NULL DEFAULT '[]';  -- JSON: [[backend, option, value], ...], as said on the command line
ALTER TABLE layers ADD COLUMN backend TEXT;                          -- NULL: the execution's

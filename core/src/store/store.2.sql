-- Options of backends, and layers that run elsewhere than the rest.
ALTER TABLE creation ADD COLUMN options TEXT NOT NULL DEFAULT '[]';  -- JSON: [[backend, option, value], ...], as said on the command line
ALTER TABLE layers ADD COLUMN backend TEXT;                          -- NULL: the execution's

ALTER TABLE executions ADD COLUMN backends TEXT NOT NULL DEFAULT '[]';  -- JSON: the names of all that are used

-- Layers that are skipped, and those that have many splits or none.
ALTER TABLE layers ADD COLUMN splits INTEGER;  -- how many it was opened with last; NULL: it was not, or it has one anyway
ALTER TABLE layers ADD COLUMN state TEXT;      -- skipped: it was, as a whole; failed: before it had splits; NULL: its splits tell
ALTER TABLE layers ADD COLUMN reason TEXT;     -- why it failed before it had splits
ALTER TABLE layers ADD COLUMN opened INTEGER;  -- the number of the event with which it was opened last, which has the splits' values
INSERT INTO kinds VALUES
  (11, 'layer opened',  '{"each": [[[name of each, [a value, ...]], ...of keys that go together], ...]}, the last varies fastest; NULL: one split without values'),
  (12, 'layer skipped', 'NULL'),
  (13, 'layer failed',  'why it could not be opened'),
  (14, 'sized',         '{"cpu_millis", "memory"}; 0: nothing is asked for'),
  (15, 'keyed',         '{"key": its digest, "parts": [[name, value], ...]}'),
  (16, 'cached',        '{"key", "parts", "execution", "layer", "split": whose artifacts they are; the layer is one of that execution, "artifacts"}');
UPDATE kinds SET detail = '[the layers that run again with all that need them, ...]; NULL: none; with another flow or splits that run again {"again": them, "splits": [[layer, split], ...], "update": its number}' WHERE kind = 10;

-- Where the key of a split is found again.
CREATE INDEX keys ON events (layer, split) WHERE kind IN (15, 16);

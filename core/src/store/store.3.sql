UPDATE kinds SET detail = '[the layers that run again with all that need them, ...]; NULL: none; where the flow was updated {"again": those layers, "update": its number}' WHERE kind = 10;

-- The flows that took the place of the creation's, one after the other; each is written with the event that says so. Of what
-- is in both tables the last counts. Layers keep their ids: new ones are added at the end, and those that are gone stay.
CREATE TABLE updates (
  number         INTEGER PRIMARY KEY,       -- from 1
  flow           TEXT NOT NULL,
  backend        TEXT NOT NULL,
  parameters     TEXT NOT NULL,
  source_name    TEXT NOT NULL,
  source_format  TEXT NOT NULL,
  source_text    TEXT NOT NULL,
  options        TEXT NOT NULL
);

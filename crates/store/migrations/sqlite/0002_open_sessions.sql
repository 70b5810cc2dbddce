-- Sessions that have ended stay for ever; those that have not are looked for again and again. In the order of their numbers,
-- which every index ends with.
CREATE INDEX sessions_open ON sessions (ended) WHERE ended = 0;

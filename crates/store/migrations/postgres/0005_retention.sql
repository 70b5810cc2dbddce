-- When the session has ended. None before that, and where an older program has ended it: then it is taken to have ended when
-- this is noticed.
ALTER TABLE chaarfm.sessions ADD COLUMN ended_ms BIGINT;

CREATE INDEX sessions_ended ON chaarfm.sessions (ended_ms) WHERE ended;

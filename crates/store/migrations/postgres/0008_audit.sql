-- Who did what. Kept apart from the log, and without secrets.
CREATE TABLE chaarfm.audit (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    event   TEXT   NOT NULL,
    -- Number of the session, which may have been deleted since.
    session BIGINT,
    actor   TEXT   NOT NULL,
    address TEXT   NOT NULL,
    detail  TEXT   NOT NULL
);

CREATE INDEX audit_by_time ON chaarfm.audit (at_ms);

-- Whether a worker that is set aside has lied; none for a worker that is not set aside.
ALTER TABLE chaarfm.worker_keys ADD COLUMN has_lied BOOLEAN;

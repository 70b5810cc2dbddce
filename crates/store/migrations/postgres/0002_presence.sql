-- What coordinators show each other of their sessions: their workers, their newest notices. Each row is written by one
-- coordinator and counts until its moment has come. Nothing of it has to survive.
CREATE UNLOGGED TABLE chaarfm.presence (
    session     BIGINT NOT NULL,
    coordinator TEXT   NOT NULL,
    until_ms    BIGINT NOT NULL,
    -- JSON, as text: notices quote files and workers, and JSONB refuses some characters.
    view        TEXT   NOT NULL,
    PRIMARY KEY (session, coordinator)
);

-- Numbers for workers, so that no two of them are called the same, whichever coordinators they are connected to.
CREATE SEQUENCE chaarfm.worker_numbers;

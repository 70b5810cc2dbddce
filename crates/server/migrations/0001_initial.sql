-- All that outlives a restart. Moments are milliseconds since 1970, UTC.

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    model      TEXT    NOT NULL,
    collection TEXT    NOT NULL,
    paused     INTEGER NOT NULL DEFAULT 0,
    ended      INTEGER NOT NULL DEFAULT 0,
    -- Number of the newest scan, and its library while it runs. A scan that was cut off by a restart is begun again.
    scan       INTEGER NOT NULL DEFAULT 0,
    scanning   TEXT,
    -- Files of the newest scan that were known already.
    skipped    INTEGER NOT NULL DEFAULT 0
);

-- AUTOINCREMENT: the number of a job that was dropped must not come back, a late answer may still name it.
CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    session       INTEGER NOT NULL REFERENCES sessions (id),
    scan          INTEGER NOT NULL,
    model         TEXT    NOT NULL,
    collection    TEXT    NOT NULL,
    library       TEXT    NOT NULL,
    file          TEXT    NOT NULL,
    artist        TEXT,
    title         TEXT,
    album         TEXT,
    bytes         INTEGER NOT NULL,
    -- Empty when the file could not be read.
    content_hash  TEXT    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('queued', 'leased', 'done', 'failed')),
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    -- The same for the worker that had it last.
    not_again_before_ms INTEGER NOT NULL DEFAULT 0,
    deadline_ms   INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    leases        INTEGER NOT NULL DEFAULT 0,
    token         TEXT,
    -- Name of the worker of the newest lease.
    holder        TEXT,
    answered      INTEGER NOT NULL DEFAULT 0,
    -- Times it was queued again after it had failed, because its worker was in doubt.
    reopened      INTEGER NOT NULL DEFAULT 0,
    error         TEXT
);

-- The queue: finding the first job for a worker reads this index alone, from its beginning. It passes over what was tried
-- in the last ten minutes and has to wait, and over files too large for the worker.
CREATE INDEX jobs_by_state ON jobs (session, state, id, not_before_ms, bytes, not_again_before_ms, holder);
CREATE INDEX jobs_by_content ON jobs (session, content_hash);
CREATE INDEX jobs_by_deadline ON jobs (deadline_ms) WHERE state = 'leased';
CREATE INDEX jobs_failed_by_file ON jobs (session, library, file) WHERE state = 'failed';

-- Jobs by session and state, kept by triggers: pages ask for it several times a second, however long the queue is.
CREATE TABLE job_counts (
    session INTEGER NOT NULL REFERENCES sessions (id),
    state   TEXT    NOT NULL,
    jobs    INTEGER NOT NULL,
    PRIMARY KEY (session, state)
) WITHOUT ROWID;

CREATE TRIGGER jobs_inserted AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts (session, state, jobs) VALUES (new.session, new.state, 1)
    ON CONFLICT (session, state) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE session = old.session AND state = old.state;
END;

CREATE TRIGGER jobs_changed AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE session = old.session AND state = old.state;
    INSERT INTO job_counts (session, state, jobs) VALUES (new.session, new.state, 1)
    ON CONFLICT (session, state) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TABLE vectors (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    collection   TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    -- BLAKE3 of the file's bytes, in lower-case hexadecimal.
    content_hash TEXT    NOT NULL,
    artist       TEXT,
    title        TEXT,
    album        TEXT,
    file         TEXT    NOT NULL,
    seconds      REAL    NOT NULL,
    backend      TEXT    NOT NULL,
    device       TEXT    NOT NULL,
    worker       TEXT    NOT NULL CHECK (worker IN ('native', 'browser')),
    -- A JSON array of texts.
    flags        TEXT    NOT NULL,
    stored_ms    INTEGER NOT NULL,
    -- 32-bit floats, little endian.
    embedding    BLOB    NOT NULL,
    tags         BLOB    NOT NULL,
    UNIQUE (collection, model, content_hash)
);

CREATE INDEX vectors_by_content ON vectors (content_hash, model);
CREATE INDEX vectors_by_number ON vectors (collection, id);

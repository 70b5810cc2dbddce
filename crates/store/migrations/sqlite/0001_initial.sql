-- All that outlives a restart. Moments are milliseconds since 1970, UTC.

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    model      TEXT    NOT NULL,
    collection TEXT    NOT NULL,
    paused     INTEGER NOT NULL DEFAULT 0,
    ended      INTEGER NOT NULL DEFAULT 0,
    -- Number of the newest scan, and while it runs its library, the process that does it, and until when that process is
    -- believed to be alive. A scan whose process has died is begun again.
    scan             INTEGER NOT NULL DEFAULT 0,
    scanning         TEXT,
    scan_owner       TEXT,
    scan_deadline_ms INTEGER NOT NULL DEFAULT 0,
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
    -- Artist and title, normalised; none when either is missing.
    track_key     TEXT,
    state         TEXT    NOT NULL CHECK (state IN ('queued', 'leased', 'done', 'failed')),
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    -- The same for the worker that had it last.
    not_again_before_ms INTEGER NOT NULL DEFAULT 0,
    deadline_ms   INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    leases        INTEGER NOT NULL DEFAULT 0,
    token         TEXT,
    -- Name and kind of the worker of the newest lease.
    holder        TEXT,
    holder_kind   TEXT,
    answered      INTEGER NOT NULL DEFAULT 0,
    -- Times it was queued again after it had failed, because its worker was in doubt.
    reopened      INTEGER NOT NULL DEFAULT 0,
    error         TEXT
);

-- The queue: finding the first job for a worker reads this index alone, from its beginning. It passes over what was tried
-- in the last ten minutes and has to wait, over files too large for the worker, and over last tries if those are not for it.
CREATE INDEX jobs_by_state ON jobs (session, state, id, not_before_ms, bytes, not_again_before_ms, holder, attempts);
-- By number, which every index ends with.
CREATE INDEX jobs_by_number ON jobs (session);
CREATE INDEX jobs_by_content ON jobs (session, content_hash);

-- What is to be done in a collection is done once, whichever session asks for it.
CREATE UNIQUE INDEX jobs_once_by_content ON jobs (collection, model, content_hash) WHERE state IN ('queued', 'leased');
CREATE UNIQUE INDEX jobs_once_by_track ON jobs (collection, model, track_key)
    WHERE state IN ('queued', 'leased') AND track_key IS NOT NULL;

CREATE INDEX jobs_by_deadline ON jobs (deadline_ms) WHERE state = 'leased';
CREATE INDEX jobs_failed_by_file ON jobs (session, library, file) WHERE state = 'failed';
CREATE INDEX jobs_failed_by_holder ON jobs (session, holder, id) WHERE state = 'failed';

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
    -- Artist and title, normalised; none when either is missing.
    track_key    TEXT,
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
    tags         BLOB    NOT NULL
);

-- One vector of a model for each content and for each track, the one that came first.
CREATE UNIQUE INDEX vectors_once_by_content ON vectors (collection, model, content_hash);
CREATE UNIQUE INDEX vectors_once_by_track ON vectors (collection, model, track_key) WHERE track_key IS NOT NULL;

CREATE INDEX vectors_by_content ON vectors (content_hash, model);
CREATE INDEX vectors_by_number ON vectors (collection, id);

-- Imports that have begun, and how many of their file's records are in, of how many.
CREATE TABLE imports (
    export TEXT    PRIMARY KEY,
    lines  INTEGER NOT NULL,
    total  INTEGER NOT NULL
) WITHOUT ROWID;

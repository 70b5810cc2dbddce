-- By which workers join a session. The code is kept as it is: its owner has to see it again to share it, it does nothing but let
-- workers join, and whoever can read this has the tracks and vectors anyway.
CREATE TABLE invitations (
    -- AUTOINCREMENT: vectors remember the number for longer than the invitation is kept.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    session     INTEGER NOT NULL REFERENCES sessions (id),
    code        TEXT    NOT NULL UNIQUE,
    name        TEXT    NOT NULL,
    created_ms  INTEGER NOT NULL,
    expires_ms  INTEGER NOT NULL,
    -- None as long as it has not been revoked.
    revoked_ms  INTEGER,
    -- None where there is no limit.
    max_workers INTEGER,
    max_uses    INTEGER,
    max_bytes   INTEGER,
    uses        INTEGER NOT NULL DEFAULT 0,
    -- Sizes of the files that its workers were given.
    bytes       INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX invitations_by_session ON invitations (session, id);

-- Workers that have joined. Of a key there is only the hash (the first half of BLAKE3, lower-case hexadecimal), which is what
-- jobs call their holders.
CREATE TABLE worker_keys (
    hash       TEXT    PRIMARY KEY,
    invitation INTEGER NOT NULL REFERENCES invitations (id),
    created_ms INTEGER NOT NULL,
    -- From where it joined; empty when that is not known.
    address    TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX worker_keys_by_invitation ON worker_keys (invitation);

-- Who made a vector: the worker's key and its invitation. None for those from before.
ALTER TABLE vectors ADD COLUMN worker_key TEXT;
ALTER TABLE vectors ADD COLUMN invitation INTEGER;

-- The code of each open session becomes its first invitation, good for seven days more.
INSERT INTO invitations (session, code, name, created_ms, expires_ms)
SELECT id, code, 'first', created_ms, (CAST(strftime('%s', 'now') AS INTEGER) + 7 * 24 * 60 * 60) * 1000
FROM sessions WHERE ended = 0;

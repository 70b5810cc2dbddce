-- By which workers join a session. The code is kept as it is: its owner has to see it again to share it, it does nothing but let
-- workers join, and whoever can read this has the tracks and vectors anyway.
CREATE TABLE chaarfm.invitations (
    -- Never used again: vectors remember the number for longer than the invitation is kept.
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session     BIGINT NOT NULL REFERENCES chaarfm.sessions (id),
    code        TEXT    NOT NULL UNIQUE,
    name        TEXT    NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    -- None as long as it has not been revoked.
    revoked_ms  BIGINT,
    -- None where there is no limit.
    max_workers BIGINT,
    max_uses    BIGINT,
    max_bytes   BIGINT,
    uses        BIGINT NOT NULL DEFAULT 0,
    -- Sizes of the files that its workers were given.
    bytes       BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX invitations_by_session ON chaarfm.invitations (session, id);

-- Workers that have joined. Of a key there is only the hash (the first half of BLAKE3, lower-case hexadecimal), which is what
-- jobs call their holders.
CREATE TABLE chaarfm.worker_keys (
    hash       TEXT    PRIMARY KEY,
    invitation BIGINT NOT NULL REFERENCES chaarfm.invitations (id),
    created_ms BIGINT NOT NULL,
    -- From where it joined; empty when that is not known.
    address    TEXT    NOT NULL
);

CREATE INDEX worker_keys_by_invitation ON chaarfm.worker_keys (invitation);

-- Who made a vector: the worker's key and its invitation. None for those from before.
ALTER TABLE chaarfm.vectors ADD COLUMN worker_key TEXT;
ALTER TABLE chaarfm.vectors ADD COLUMN invitation BIGINT;

-- The code of each open session becomes its first invitation, good for seven days more.
INSERT INTO chaarfm.invitations (session, code, name, created_ms, expires_ms)
SELECT id, code, 'first', created_ms, (EXTRACT(EPOCH FROM now())::BIGINT + 7 * 24 * 60 * 60) * 1000
FROM chaarfm.sessions WHERE NOT ended;

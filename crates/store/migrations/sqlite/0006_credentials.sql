-- What lets people and programs in: links that are good once, browsers that came in by one, tokens of programs. Of each secret
-- there is only the hash (BLAKE3, lower-case hexadecimal), so that whoever reads this gets in nowhere.
CREATE TABLE credentials (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL CHECK (kind IN ('link', 'browser', 'token')),
    role       TEXT NOT NULL CHECK (role IN ('owner', 'reader')),
    -- By which people know a token; empty for the other kinds.
    name       TEXT NOT NULL,
    hash       TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    -- None when it is good until it is revoked.
    expires_ms INTEGER
);

CREATE UNIQUE INDEX credentials_by_name ON credentials (name) WHERE kind = 'token';

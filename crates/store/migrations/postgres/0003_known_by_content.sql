-- A track is known by its content. Artist, title and length are a reason to leave a file alone when a scan finds it, unless the
-- scan is to take every file; no index sees to it, since lengths that differ a little are the same.
DROP INDEX chaarfm.jobs_once_by_track;
DROP INDEX chaarfm.vectors_once_by_track;

-- Length by the file's own account; none when it says nothing, which is no other track's length.
ALTER TABLE chaarfm.jobs ADD COLUMN seconds DOUBLE PRECISION;

-- What changes when the file is replaced, whatever its size; none when that is not known.
ALTER TABLE chaarfm.jobs ADD COLUMN version TEXT;

CREATE INDEX jobs_by_track ON chaarfm.jobs (collection, model, track_key)
    WHERE state IN ('queued', 'leased') AND track_key IS NOT NULL;
CREATE INDEX vectors_by_track ON chaarfm.vectors (collection, model, track_key) WHERE track_key IS NOT NULL;

-- Of the newest scan: whether it takes every file, how many of the files skipped have another content, and what it left out,
-- as JSON.
ALTER TABLE chaarfm.sessions ADD COLUMN every_file BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE chaarfm.sessions ADD COLUMN alike BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chaarfm.sessions ADD COLUMN left_out TEXT NOT NULL DEFAULT '[]';

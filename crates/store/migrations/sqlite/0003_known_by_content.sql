-- A track is known by its content. Artist, title and length are a reason to leave a file alone when a scan finds it, unless the
-- scan is to take every file; no index sees to it, since lengths that differ a little are the same.
DROP INDEX jobs_once_by_track;
DROP INDEX vectors_once_by_track;

-- Length by the file's own account; none when it says nothing, which is no other track's length.
ALTER TABLE jobs ADD COLUMN seconds REAL;

-- What changes when the file is replaced, whatever its size; none when that is not known.
ALTER TABLE jobs ADD COLUMN version TEXT;

CREATE INDEX jobs_by_track ON jobs (collection, model, track_key)
    WHERE state IN ('queued', 'leased') AND track_key IS NOT NULL;
CREATE INDEX vectors_by_track ON vectors (collection, model, track_key) WHERE track_key IS NOT NULL;

-- Of the newest scan: whether it takes every file, how many of the files skipped have another content, and what it left out,
-- as JSON.
ALTER TABLE sessions ADD COLUMN every_file INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN alike INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN left_out TEXT NOT NULL DEFAULT '[]';

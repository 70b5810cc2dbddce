-- Vectors by collection, kept by triggers: pages ask for it every few seconds, however many there are. Each connection counts
-- on a row of its own, of `shard`, as in `job_counts`, where more is said about it. The sums are what counts; a single row's
-- numbers may be negative.
CREATE TABLE chaarfm.vector_counts (
    collection TEXT     NOT NULL,
    shard      SMALLINT NOT NULL,
    vectors    BIGINT   NOT NULL,
    PRIMARY KEY (collection, shard)
) WITH (fillfactor = 20);

CREATE FUNCTION chaarfm.add_to_vector_counts(TEXT, BIGINT) RETURNS VOID LANGUAGE sql AS $$
    INSERT INTO chaarfm.vector_counts AS own (collection, shard, vectors) VALUES ($1, pg_backend_pid() % 64, $2)
    ON CONFLICT (collection, shard) DO UPDATE SET vectors = own.vectors + excluded.vectors
$$;

CREATE FUNCTION chaarfm.count_vectors_inserted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaarfm.add_to_vector_counts(collection, COUNT(*)) FROM inserted GROUP BY collection ORDER BY collection;
    RETURN NULL;
END $$;

CREATE FUNCTION chaarfm.count_vectors_deleted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaarfm.add_to_vector_counts(collection, -COUNT(*)) FROM deleted GROUP BY collection ORDER BY collection;
    RETURN NULL;
END $$;

CREATE FUNCTION chaarfm.count_vectors_moved() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaarfm.add_to_vector_counts(old.collection, -1);
    PERFORM chaarfm.add_to_vector_counts(new.collection, 1);
    RETURN NULL;
END $$;

-- What an operator empties at a stroke is counted as well.
CREATE FUNCTION chaarfm.count_vectors_truncated() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM chaarfm.vector_counts;
    RETURN NULL;
END $$;

CREATE TRIGGER vectors_inserted AFTER INSERT ON chaarfm.vectors
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION chaarfm.count_vectors_inserted();
CREATE TRIGGER vectors_deleted AFTER DELETE ON chaarfm.vectors
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION chaarfm.count_vectors_deleted();
CREATE TRIGGER vectors_moved AFTER UPDATE OF collection ON chaarfm.vectors
    FOR EACH ROW WHEN (old.collection <> new.collection) EXECUTE FUNCTION chaarfm.count_vectors_moved();
CREATE TRIGGER vectors_truncated AFTER TRUNCATE ON chaarfm.vectors
    FOR EACH STATEMENT EXECUTE FUNCTION chaarfm.count_vectors_truncated();

-- The triggers keep writers away until this step is through, so that none is missed or counted twice.
INSERT INTO chaarfm.vector_counts (collection, shard, vectors)
    SELECT collection, 0, COUNT(*) FROM chaarfm.vectors GROUP BY collection;

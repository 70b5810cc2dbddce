-- Vectors by collection, kept by triggers: pages ask for it every few seconds, however many there are.
CREATE TABLE vector_counts (
    collection TEXT    PRIMARY KEY,
    vectors    INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO vector_counts (collection, vectors) SELECT collection, COUNT(*) FROM vectors GROUP BY collection;

CREATE TRIGGER vectors_inserted AFTER INSERT ON vectors BEGIN
    INSERT INTO vector_counts (collection, vectors) VALUES (new.collection, 1)
    ON CONFLICT (collection) DO UPDATE SET vectors = vectors + 1;
END;

CREATE TRIGGER vectors_deleted AFTER DELETE ON vectors BEGIN
    UPDATE vector_counts SET vectors = vectors - 1 WHERE collection = old.collection;
END;

CREATE TRIGGER vectors_moved AFTER UPDATE OF collection ON vectors WHEN old.collection <> new.collection BEGIN
    UPDATE vector_counts SET vectors = vectors - 1 WHERE collection = old.collection;
    INSERT INTO vector_counts (collection, vectors) VALUES (new.collection, 1)
    ON CONFLICT (collection) DO UPDATE SET vectors = vectors + 1;
END;

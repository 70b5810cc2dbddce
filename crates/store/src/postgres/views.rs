//! The views through which other programs read collections.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{StoreError, Stored};

/// Longest name that PostgreSQL does not truncate.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// Makes a collection readable by other programs, unless it is already. Its index is built later: see [`super::indexes`].
pub(super) async fn publish(tx: &mut PgConnection, collection: &str) -> Stored<()> {
    // A second coordinator waits here until the first has committed, and then has nothing to do.
    let fresh =
        sqlx::query("INSERT INTO chaarfm.collections (name) VALUES ($1) ON CONFLICT DO NOTHING").bind(collection);
    if fresh.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    let name = identifier("vectors_", collection);
    let taken = sqlx::query_scalar("SELECT to_regclass(quote_ident($1)) IS NOT NULL").bind(&name);
    if taken.fetch_one(&mut *tx).await? {
        return Err(StoreError::NameTaken(name));
    }
    let view = format!(
        "CREATE VIEW {} AS
            SELECT id, artist, title, s3_url, youtube_id, embedding,
                to_timestamp(stored_ms / 1000.0) AT TIME ZONE 'UTC' AS created_at
            FROM chaarfm.vectors WHERE collection = {}",
        quoted(&name, '"'),
        quoted(collection, '\''),
    );
    sqlx::query(AssertSqlSafe(view)).execute(&mut *tx).await?;
    Ok(())
}

/// The prefix and the collection's name; if that is too long, its beginning and a hash of the name.
pub(super) fn identifier(prefix: &str, collection: &str) -> String {
    const HASH_DIGITS: usize = 16;
    let plain = format!("{prefix}{collection}");
    if plain.len() <= MAX_IDENTIFIER_BYTES {
        return plain;
    }
    let kept = plain.floor_char_boundary(MAX_IDENTIFIER_BYTES - HASH_DIGITS - 1);
    format!("{}_{}", &plain[..kept], &blake3::hash(collection.as_bytes()).to_hex()[..HASH_DIGITS])
}

/// Quotes a text for use in a statement where parameters are not allowed.
pub(super) fn quoted(text: &str, mark: char) -> String {
    format!("{mark}{}{mark}", text.replace(mark, &format!("{mark}{mark}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_whatever_is_in_it() {
        assert_eq!(quoted("plain", '"'), r#""plain""#);
        assert_eq!(quoted(r#"a"; DROP TABLE b; --"#, '"'), r#""a""; DROP TABLE b; --""#);
        assert_eq!(quoted("it's 'so'", '\''), "'it''s ''so'''");
        assert_eq!(quoted("", '\''), "''");
    }

    #[test]
    fn a_long_name_is_cut_where_a_character_ends_and_stays_one_of_its_own() {
        let [one, other] = ["ä".repeat(40) + "1", "ä".repeat(40) + "2"].map(|name| identifier("vectors_", &name));
        assert!(one.len() <= MAX_IDENTIFIER_BYTES && one != other, "{one} {other}");
        assert_eq!(identifier("vectors_", "short"), "vectors_short");
    }
}

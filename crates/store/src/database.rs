//! The database that a coordinator uses, as specified by its address.

use std::{fmt, path::PathBuf, str::FromStr};

/// Location of a coordinator's persistent data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file, used by this coordinator alone.
    Sqlite(PathBuf),
    /// The address of a PostgreSQL database, which several coordinators may share.
    Postgres(String),
}

/// The text is not a database address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a database is given as sqlite:PATH or as postgres://USER:PASSWORD@HOST/NAME")]
pub struct DatabaseError;

impl FromStr for Database {
    type Err = DatabaseError;

    fn from_str(address: &str) -> Result<Self, DatabaseError> {
        match address.split_once(':') {
            Some(("sqlite", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() { Err(DatabaseError) } else { Ok(Self::Sqlite(path.into())) }
            }
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Self::Postgres(address.to_owned())),
            _ => Err(DatabaseError),
        }
    }
}

impl fmt::Display for Database {
    /// Omits the user and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(address) => {
                let place = address.split_once("://").map_or("", |(_, place)| place);
                let (place, rest) = place.split_once('?').unwrap_or((place, ""));
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                // If the password contains a `?`, the text before it is part of the password.
                write!(f, "postgres://{}", if rest.contains('@') { "…" } else { place })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_file_or_a_server() {
        let file = |path: &str| Ok(Database::Sqlite(path.into()));
        assert_eq!("sqlite:a/b.sqlite3".parse(), file("a/b.sqlite3"));
        assert_eq!("sqlite:///var/b.sqlite3".parse(), file("/var/b.sqlite3"));
        let address = "postgres://me:secret@host:1/music?password=secret";
        let server: Database = address.parse().unwrap();
        assert_eq!(server, Database::Postgres(address.into()));
        assert_eq!(server.to_string(), "postgres://host:1/music");
        for careless in ["postgres://me:se?cret@host/music", "postgres://me@x:se?cret@host", "postgres://h?user=m@x"] {
            assert_eq!(careless.parse::<Database>().unwrap().to_string(), "postgres://…", "{careless}");
        }
        for odd in ["postgres://me:se/cr@et@host/music", "postgres://me:se#cret@host/music?sslmode=disable"] {
            assert_eq!(odd.parse::<Database>().unwrap().to_string(), "postgres://host/music", "{odd}");
        }
        for nonsense in ["", "sqlite:", "mysql://host/x", "/var/b.sqlite3", "postgres:host"] {
            assert_eq!(nonsense.parse::<Database>(), Err(DatabaseError), "{nonsense}");
        }
    }
}

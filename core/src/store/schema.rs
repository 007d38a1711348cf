//! The layouts of the run store and the index, how one version becomes the next, and how their files are opened.
//!
//! A file tells what it is by `application_id` and which version it has by `user_version`: the number of migrations that
//! were applied to it. A migration, once released, never changes; new ones are added at the end.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;

/// A kind of file: what identifies it, and its migrations.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) application_id: i32,
    pub(super) migrations: &'static [&'static str],
    /// The oldest version that can be read as it is.
    pub(super) readable: i64,
}

/// The run store: `store.db`.
pub(super) const STORE: Schema = Schema {
    application_id: i32::from_be_bytes(*b"LmRs"),
    migrations: &[
        include_str!("store.1.sql"),
        include_str!("store.2.sql"),
        include_str!("store.3.sql"),
        include_str!("store.4.sql"),
        include_str!("store.5.sql"),
    ],
    readable: 1,
};

/// The index of executions: `index.db`. It has no migrations: one of another version is built anew.
pub(super) const INDEX: Schema = Schema {
    application_id: i32::from_be_bytes(*b"LmIx"),
    migrations: &[include_str!("index.1.sql"), include_str!("index.2.sql")],
    readable: 2,
};

/// What was run before: `cache.db`. It has no migrations either.
pub(super) const CACHE: Schema =
    Schema { application_id: i32::from_be_bytes(*b"LmCa"), migrations: &[include_str!("cache.1.sql")], readable: 1 };

impl Schema {
    /// The newest version.
    pub(super) fn known(&self) -> i64 {
        self.migrations.len() as i64
    }

    /// Makes an empty database one of this kind.
    pub(super) fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "application_id", self.application_id)?;
        self.migrate(connection)
    }

    /// Brings the file to the newest version, each step in a transaction of its own.
    pub(super) fn migrate(&self, connection: &Connection) -> rusqlite::Result<()> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        for (done, migration) in self.migrations.iter().enumerate().skip(usize::try_from(version).unwrap_or(0)) {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", done as i64 + 1)?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// Whether the file is of this kind and not newer than this program; returns its version.
    pub(super) fn check(&self, connection: &Connection, path: &Path) -> Result<i64, StoreError> {
        let number = |name| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(|error| StoreError::database("read", path, error))
        };
        let (application_id, version) = (number("application_id")?, number("user_version")?);
        let foreign = |reason: &str| StoreError::Foreign { path: path.to_owned(), reason: reason.to_owned() };
        match (application_id == i64::from(self.application_id), version) {
            (true, 1..) if version > self.known() => {
                Err(StoreError::Newer { path: path.to_owned(), version, known: self.known() })
            }
            (true, 1..) => Ok(version),
            (true, _) => Err(StoreError::damaged(path, format!("its layout has version {version}"))),
            (false, 0) if application_id == 0 => Err(foreign("it is empty, or a database of something else")),
            (false, _) => Err(foreign("it is a database of something else")),
        }
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To be read.
    Read,
    /// To be read, on a file system where not even locks can be taken: nobody writes it.
    ReadUnchanging,
    /// To be written; it must exist.
    Write,
}

/// Opens an existing file. What it holds is not trusted. SQLite reads it only later, so damage shows with the first query.
pub(super) fn open(path: &Path, access: Access, patience: Duration) -> rusqlite::Result<Connection> {
    let base = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = match access {
        Access::Read => Connection::open_with_flags(uri(path, ""), base | OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        Access::ReadUnchanging => {
            Connection::open_with_flags(uri(path, "?immutable=1"), base | OpenFlags::SQLITE_OPEN_READ_ONLY)?
        }
        Access::Write => Connection::open_with_flags(uri(path, ""), base | OpenFlags::SQLITE_OPEN_READ_WRITE)?,
    };
    connection.busy_timeout(patience)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, access != Access::Write)?;
    connection.execute_batch("PRAGMA cell_size_check = ON")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// The file that SQLite keeps beside a database: its write-ahead log, say.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A `file:` URI of an absolute path; `?`, `#` and `%` mean something in one.
fn uri(path: &Path, query: &str) -> PathBuf {
    let mut bytes = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'?' | b'#' | b'%' => bytes.extend(format!("%{byte:02x}").bytes()),
            _ => bytes.push(*byte),
        }
    }
    bytes.extend(query.bytes());
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OLD: Schema =
        Schema { application_id: 7, migrations: &["CREATE TABLE a (x); INSERT INTO a VALUES (1)"], readable: 1 };
    const NEW: Schema = Schema {
        application_id: 7,
        migrations: &[OLD.migrations[0], "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1", "CREATE TABLE b (z)"],
        readable: 1,
    };

    #[test]
    fn an_old_file_becomes_a_new_one_and_is_shut_to_the_old_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a%20b?c#d.db");
        std::fs::File::create(&path).unwrap();
        let connection = open(&path, Access::Write, Duration::ZERO).unwrap();
        assert!(matches!(OLD.check(&connection, &path), Err(StoreError::Foreign { .. })), "empty");
        OLD.create(&connection).unwrap();
        assert_eq!(OLD.check(&connection, &path).unwrap(), 1);
        assert_eq!(NEW.check(&connection, &path).unwrap(), 1, "readable as it is");
        NEW.migrate(&connection).unwrap();
        NEW.migrate(&connection).unwrap();
        assert_eq!(NEW.check(&connection, &path).unwrap(), 3);
        let row = connection.query_row("SELECT x, y, (SELECT count(*) FROM b) FROM a", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        assert_eq!(row.unwrap(), (1, 2, 0));
        let error = OLD.check(&connection, &path).unwrap_err().to_string();
        assert!(error.contains("was written by a newer laminar: its layout is version 3"), "{error}");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before() {
        const BAD: Schema =
            Schema { migrations: &[OLD.migrations[0], "CREATE TABLE b (z); INSERT INTO nowhere VALUES (1)"], ..OLD };
        let connection = Connection::open_in_memory().unwrap();
        OLD.create(&connection).unwrap();
        assert!(BAD.migrate(&connection).is_err());
        assert_eq!(OLD.check(&connection, Path::new("memory")).unwrap(), 1);
        assert!(connection.prepare("SELECT * FROM b").is_err());
    }
}

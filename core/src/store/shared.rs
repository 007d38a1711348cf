//! A small database that is only a cache, shared by all executions of a root: it may be lost at any time.
//!
//! When it is missing, damaged or of another version, it is built anew, empty. It is unaware of what is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::error::StoreError;
use super::lock::Lock;
use super::schema::{self, Access, Schema};

/// Many executions may start at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of it is kept in memory at most. Keys are spread over all of it, so with less each look would read a page.
const MOST_KIB: u32 = 32 * 1024;

/// Such a database.
#[derive(Debug)]
pub(super) struct Shared {
    /// Its file.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) schema: &'static Schema,
}

impl Shared {
    /// Does something with it; where it is missing or damaged, it is built anew, and then once more.
    pub(super) fn with<T>(&self, act: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = None;
        let result = self.keep(&mut connection, act)?;
        if let Some(connection) = connection {
            connection.close().map_err(|(_, error)| self.failed(error))?;
        }
        Ok(result)
    }

    /// The same, with a connection that is used again.
    pub(super) fn keep<T>(
        &self,
        connection: &mut Option<Connection>,
        act: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        match self.attempt(connection, &act) {
            Err(error) if self.is_lost(&error) => {
                let lock_path = self.path.with_extension("lock");
                let _lock =
                    Lock::wait(&lock_path, PATIENCE).map_err(|source| StoreError::file("lock", &lock_path, source))?;
                // Somebody else may have built it meanwhile.
                match self.attempt(connection, &act) {
                    Err(error) if self.is_lost(&error) => {
                        self.build()?;
                        self.attempt(connection, &act)
                    }
                    result => result,
                }
            }
            result => result,
        }
    }

    fn attempt<T>(
        &self,
        kept: &mut Option<Connection>,
        act: &impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let connection = match kept.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let result = act(&connection).map_err(|error| self.failed(error))?;
        *kept = Some(connection);
        Ok(result)
    }

    fn open(&self) -> Result<Connection, StoreError> {
        let connection = schema::open(&self.path, Access::Write, PATIENCE)
            .map_err(|error| StoreError::database("open", &self.path, error))?;
        let settings = format!("PRAGMA synchronous = OFF; PRAGMA cache_size = -{MOST_KIB}");
        connection.execute_batch(&settings).map_err(|error| self.failed(error))?;
        if self.schema.check(&connection, &self.path)? != self.schema.known() {
            return Err(StoreError::damaged(&self.path, "its layout is old"));
        }
        Ok(connection)
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database("use", &self.path, error)
    }

    /// Whether building it anew could help.
    fn is_lost(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Damaged { .. } | StoreError::Foreign { .. } | StoreError::Newer { .. } => true,
            StoreError::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) && !self.path.is_dir()
            }
            _ => false,
        }
    }

    /// Puts an empty one in the place of whatever there is.
    fn build(&self) -> Result<(), StoreError> {
        let path = &self.path;
        let parent = path.parent().unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new()
            .prefix(".index-")
            .tempdir_in(parent)
            .map_err(|source| StoreError::file("make a folder in", parent, source))?;
        let new = folder.path().join("new.db");
        let made = {
            use std::os::unix::fs::OpenOptionsExt;
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)
        };
        made.map_err(|source| StoreError::file("make", &new, source))?;
        let fill = || {
            let connection = schema::open(&new, Access::Write, PATIENCE)?;
            connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
            self.schema.create(&connection)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            connection.close().map_err(|(_, error)| error)
        };
        fill().map_err(|error| StoreError::database("write", &new, error))?;
        for old in [path.to_owned(), schema::beside(path, "-wal"), schema::beside(path, "-shm")] {
            match fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::file("remove", &old, error));
                }
                _ => {}
            }
        }
        fs::rename(&new, path).map_err(|source| StoreError::file("make", path, source))
    }
}

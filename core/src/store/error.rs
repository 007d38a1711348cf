//! What the run store could not do. Every message names the file or the execution it is about.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::ErrorCode;

use crate::id::ExecutionId;

use super::lock::Holder;

/// What the run store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be used.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    File {
        /// What was tried, an imperative: "open".
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The database could not be used, and is not to blame: the disk is full, somebody blocks it, it may not be written.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    Database {
        /// What was tried, an imperative: "read".
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was a run store, and something in it is not as it was written.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is something else.
    #[error("`{}` is not a run store: {reason}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// Somebody else has updated the flow of the execution since it was looked at.
    #[error("the flow of execution {id} was updated meanwhile")]
    Updated {
        /// Which.
        id: ExecutionId,
    },
    /// The file has a layout that this program does not know yet.
    #[error(
        "`{}` was written by a newer laminar: its layout is version {version}, the newest this one knows is {known}",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The newest known.
        known: i64,
    },
    /// The execution's scheduler is alive.
    #[error("execution {id} is held by {}", owner(holder))]
    Locked {
        /// Which execution.
        id: ExecutionId,
        /// Who holds it, as far as that is known.
        holder: Holder,
    },
    /// Another scheduler has taken the execution over, since this one was believed dead.
    #[error("execution {id} was taken over by another scheduler")]
    ShutOut {
        /// Which execution.
        id: ExecutionId,
    },
    /// There is an execution with this id.
    #[error("execution {id} exists already")]
    Exists {
        /// Which.
        id: ExecutionId,
    },
    /// A folder cannot be relied on, since others can write to it.
    #[error("`{}` {reason}", path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// Who, as a fragment that follows the path.
        reason: String,
    },
    /// There are no executions.
    #[error("there are no executions in `{}`", root.display())]
    NoExecutions {
        /// Where.
        root: PathBuf,
    },
    /// There is no such execution.
    #[error("no execution `{text}`{}", suggestion(similar))]
    Unknown {
        /// What was asked for.
        text: String,
        /// Executions that are written much like it, the most similar first.
        similar: Vec<ExecutionId>,
    },
    /// A beginning that several executions share.
    #[error("`{text}` could be any of {}", listed(candidates))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The executions it could be, the newest first.
        candidates: Vec<ExecutionId>,
    },
}

fn owner(holder: &Holder) -> String {
    let pid = holder.pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let since = holder.since_ms.and_then(|ms| u64::try_from(ms).ok());
    match since.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))) {
        // A year beyond 9999 cannot be written.
        Some(since) if since < UNIX_EPOCH + Duration::from_secs(253_402_300_800) => {
            format!("{pid} since {}", humantime::format_rfc3339_seconds(since))
        }
        _ => pid,
    }
}

fn suggestion(similar: &[ExecutionId]) -> String {
    if similar.is_empty() { String::new() } else { format!("; similar: {}", listed(similar)) }
}

fn listed(ids: &[ExecutionId]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{}, and {more} more", shown.join(", ")) }
}

impl StoreError {
    /// Whether we lack the permission, and nothing else is known to be wrong.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, StoreError::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    }

    pub(super) fn file(verb: &'static str, path: &Path, source: std::io::Error) -> StoreError {
        StoreError::File { verb, path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    /// Tells damage from what is not the file's fault.
    pub(super) fn database(verb: &'static str, path: &Path, source: rusqlite::Error) -> StoreError {
        let harmless = match &source {
            rusqlite::Error::SqliteFailure(error, _) => match error.code {
                ErrorCode::NotADatabase => {
                    return StoreError::Foreign { path: path.to_owned(), reason: "it is no SQLite database".into() };
                }
                ErrorCode::DatabaseCorrupt | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => false,
                // SQLITE_ERROR: a table or column that is not there, a schema that cannot be parsed.
                _ => error.extended_code != rusqlite::ffi::SQLITE_ERROR,
            },
            rusqlite::Error::SqlInputError { .. } => false,
            rusqlite::Error::QueryReturnedNoRows => return StoreError::damaged(path, "a row is missing"),
            _ => false,
        };
        if harmless {
            StoreError::Database { verb, path: path.to_owned(), source }
        } else {
            StoreError::damaged(path, source.to_string())
        }
    }
}

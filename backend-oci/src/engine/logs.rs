//! The output of tasks without a supervisor inside: the engine keeps it, and it is fetched from there.
//!
//! While a task runs, a client of the engine follows its output into the log, for people who watch. When it is over, all of
//! it is fetched once more from its beginning, and takes the place of what the followers have left: so it is complete, byte
//! for byte, whoever died meanwhile.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use laminar_core::executor::{ExecutorError, LogRoom};

use super::Engine;
use crate::client::PULL;
use crate::execution::{Execution, Slot};
use crate::place::{Terms, file};

/// How often a follower that began anew is looked at: whether it has come as far as the one before.
const LOOK: Duration = Duration::from_millis(50);
/// How often a log is looked at: whether there is more in it than is kept.
const LENGTH: Duration = Duration::from_millis(250);
/// The pauses before a follower that has died is followed by another: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl Engine {
    /// Fetches the whole output of a task that is over, as far as it is kept. What is to be told if there was more.
    pub(super) async fn collect(
        &self,
        execution: &Execution,
        slot: &Slot,
        terms: &Terms,
    ) -> Result<Option<String>, ExecutorError> {
        let draft = Draft::new(terms.log())?;
        let args = self.dialect.quiet.iter().copied().chain(["logs", &slot.name]);
        let args: Vec<&str> = args.collect();
        let room = LogRoom::new(terms.log_limit());
        let fetched = self.client.fetch(&execution.private, &args, &draft.file, room, PULL).await?;
        let (answer, room) = fetched.map_err(|source| file("write", terms.log(), source))?;
        if answer.killed {
            // Not the engine's word: it is asked again.
            return Err(self.client.unavailable(answer.err));
        }
        if !answer.ok {
            return Err(self.client.refused("show what the container has written", &answer));
        }
        let _renaming = slot.renaming();
        draft.keep().map(|()| room.told())
    }
}

/// Follows the output of a task until it is over; then finds out how it ended.
pub(crate) async fn follow(engine: Arc<Engine>, execution: Arc<Execution>, slot: Arc<Slot>) {
    let terms = slot.terms();
    let mut pause = PAUSES.0;
    while slot.is_watched() {
        // An engine that does not answer is asked again.
        let following = follow_once(&engine, &execution, &slot, terms.log());
        tokio::select! {
            _ = following => {}
            // Whoever watches sees no more than is kept; and the client goes, which would write on.
            () = is_full(&slot, &terms) => while slot.is_watched() {
                tokio::time::sleep(PAUSES.1).await;
                let _ = engine.look(&execution, &[&slot]).await;
            },
        }
        let _ = engine.look(&execution, &[&slot]).await;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Waits until there is more in a log than is kept. What is too much goes when the whole is fetched.
async fn is_full(slot: &Slot, terms: &Terms) {
    loop {
        tokio::time::sleep(LENGTH).await;
        let length = terms.log().metadata().map_or(0, |metadata| metadata.len());
        if length > terms.log_limit() || !slot.is_watched() {
            return;
        }
    }
}

async fn follow_once(engine: &Engine, execution: &Execution, slot: &Slot, log: &Path) -> Result<(), ExecutorError> {
    let args = engine.dialect.quiet.iter().copied().chain(["logs", "--follow", &slot.name]);
    let args: Vec<&str> = args.collect();
    let length = || log.metadata().map_or(0, |metadata| metadata.len());
    if length() == 0 && slot.is_first_follower() {
        let file = OpenOptions::new().read(true).append(true).open(log).map_err(|source| file("open", log, source))?;
        return engine.client.pour(&execution.private, &args, &file, Duration::MAX).await.map(drop);
    }
    // Another one has followed before, and may still do so. What it wrote stays until this one has caught up.
    let mut draft = Some(Draft::new(log)?);
    let Some(target) = draft.as_ref().map(|draft| draft.file.try_clone()) else { return Ok(()) };
    let target = target.map_err(|source| file("open", log, source))?;
    let pouring = engine.client.pour(&execution.private, &args, &target, Duration::MAX);
    tokio::pin!(pouring);
    loop {
        tokio::select! {
            answer = &mut pouring => return answer.map(drop),
            () = tokio::time::sleep(LOOK), if draft.is_some() => {
                let _renaming = slot.renaming();
                let caught_up = target.metadata().is_ok_and(|it| it.len() >= length());
                if caught_up && slot.is_watched() && let Some(draft) = draft.take() {
                    draft.keep()?;
                }
            }
        }
    }
}

/// A new log, beside the one whose place it is to take.
struct Draft {
    file: File,
    path: PathBuf,
    log: PathBuf,
    kept: bool,
}

impl Draft {
    fn new(log: &Path) -> Result<Draft, ExecutorError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut name = prefix(log);
        name.push(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let path = log.with_file_name(name);
        let _ = std::fs::remove_file(&path); // of a process that had our number and died
        let opened = OpenOptions::new().create_new(true).read(true).append(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| file("make", &path, source))?;
        Ok(Draft { file, path, log: log.to_owned(), kept: false })
    }

    fn keep(mut self) -> Result<(), ExecutorError> {
        std::fs::rename(&self.path, &self.log).map_err(|source| file("replace", &self.log, source))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How the names of a log's drafts begin.
fn prefix(log: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(log.file_name().unwrap_or_default());
    name.push(".draft-");
    name
}

/// Removes what schedulers that died have left of drafts.
pub(super) fn sweep(log: &Path) {
    let prefix = prefix(log);
    let Some(entries) = log.parent().and_then(|folder| folder.read_dir().ok()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_takes_the_logs_place_or_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("Layer.0.1.log");
        std::fs::write(&log, "old").unwrap();
        drop(Draft::new(&log).unwrap());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        let draft = Draft::new(&log).unwrap();
        std::io::Write::write_all(&mut &draft.file, b"new").unwrap();
        draft.keep().unwrap();
        std::mem::forget(Draft::new(&log).unwrap());
        sweep(&log);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "new");
    }
}

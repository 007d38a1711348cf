//! Syncs the log beside the execution, at most every [`PAUSE`], and moves it into the database from time to time.
//!
//! It is unaware of what is written. Two rules of SQLite hold: a page reaches the database only after the log that has it
//! is synced, and the log starts over only after the database is synced; so the checkpoint runs with `synchronous=NORMAL`.
//! The descriptor that is synced is the log's: closing one of the database itself would drop this process's locks on it.
//!
//! A sync that failed may succeed when repeated without having written anything; so the first failure is kept, and every
//! later append learns of it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::StoreError;
use super::schema::{self, Access};

/// The shortest time from one sync to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// How much is left in the log before it is moved into the database: about 20 MB of log. An append counts once for itself,
/// and once more for each so many of its events beyond the first of them.
const WEIGHT_PER_CHECKPOINT: u64 = 4000;
const EVENTS_PER_WEIGHT: usize = 10;

/// The thread that syncs. Ends, after a last sync, when this is dropped.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    /// The database.
    path: PathBuf,
}

#[derive(Debug, Default)]
struct Progress {
    /// The weight of the appends that there were.
    written: u64,
    /// Whether the thread waits for the next.
    idle: bool,
    /// Whether the thread is to end.
    leaving: bool,
    failure: Option<Failure>,
}

/// What is kept of the first failure.
#[derive(Debug)]
enum Failure {
    Sync(i32),
    Checkpoint(rusqlite::ffi::Error, Option<String>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Syncer {
    /// Starts syncing `log`, the write-ahead log of the database at `path`.
    pub(super) fn start(path: &Path, log: File) -> io::Result<Syncer> {
        Syncer::start_with(path, move || sync(&log))
    }

    fn start_with(path: &Path, sync: impl FnMut() -> Result<(), Failure> + Send + 'static) -> io::Result<Syncer> {
        let shared = Arc::new(Shared { progress: Mutex::default(), changed: Condvar::new(), path: path.to_owned() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store-sync".to_owned()).spawn(move || run(&theirs, sync))?;
        Ok(Syncer { shared, thread: Some(thread) })
    }

    /// Fails when a sync has failed since the start.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &self.shared.lock().failure {
            None => Ok(()),
            Some(failure) => Err(failure.to_error(&self.shared.path)),
        }
    }

    /// Tells that so many events were written.
    pub(super) fn written(&self, events: usize) {
        let mut progress = self.shared.lock();
        progress.written += 1 + (events.saturating_sub(1) / EVENTS_PER_WEIGHT) as u64;
        if progress.idle {
            self.shared.changed.notify_one();
        }
    }

    /// Syncs what is not, and ends.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.leave();
        self.check()
    }

    fn leave(&mut self) {
        self.shared.lock().leaving = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot panic: nothing in it does.
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Failure {
    fn to_error(&self, path: &Path) -> StoreError {
        match self {
            Failure::Sync(code) => {
                StoreError::file("sync", &schema::beside(path, "-wal"), io::Error::from_raw_os_error(*code))
            }
            Failure::Checkpoint(error, message) => {
                StoreError::database("write", path, rusqlite::Error::SqliteFailure(*error, message.clone()))
            }
        }
    }
}

fn run(shared: &Shared, mut sync: impl FnMut() -> Result<(), Failure>) {
    let mut synced = 0;
    let mut checkpoint = Checkpoint { connection: None, at: 0 };
    loop {
        let (written, leaving) = next(shared, synced);
        if written > synced {
            let begun = Instant::now();
            let result = sync().and_then(|()| checkpoint.run(shared, written, leaving));
            if let Err(failure) = result {
                shared.lock().failure = Some(failure);
                return;
            }
            synced = written;
            rest(shared, PAUSE.saturating_sub(begun.elapsed()));
        } else if leaving {
            return;
        }
    }
}

/// Waits for something to sync, or for the end.
fn next(shared: &Shared, synced: u64) -> (u64, bool) {
    let mut progress = shared.lock();
    progress.idle = true;
    let mut progress = shared
        .changed
        .wait_while(progress, |progress| progress.written == synced && !progress.leaving)
        .unwrap_or_else(PoisonError::into_inner);
    progress.idle = false;
    (progress.written, progress.leaving)
}

fn rest(shared: &Shared, pause: Duration) {
    let progress = shared.lock();
    drop(shared.changed.wait_timeout_while(progress, pause, |progress| !progress.leaving));
}

fn sync(log: &File) -> Result<(), Failure> {
    log.sync_data().map_err(|error| Failure::Sync(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Moves the log into the database, on a connection of its own, so that the writer does not wait for it.
struct Checkpoint {
    connection: Option<Connection>,
    /// The weight of the appends that there were at the last one.
    at: u64,
}

impl Checkpoint {
    fn run(&mut self, shared: &Shared, written: u64, leaving: bool) -> Result<(), Failure> {
        if leaving || written - self.at < WEIGHT_PER_CHECKPOINT {
            return Ok(());
        }
        match self.perform(&shared.path) {
            Ok(restarted) => {
                // Somebody writes or reads just now: again after the next sync.
                self.at = if restarted { written } else { self.at };
                Ok(())
            }
            Err(rusqlite::Error::SqliteFailure(error, message)) => Err(Failure::Checkpoint(error, message)),
            Err(_) => Err(Failure::Sync(libc::EIO)),
        }
    }

    /// First all that can be moved without anybody noticing, then, with the writer kept out, the little that came
    /// meanwhile.
    fn perform(&mut self, path: &Path) -> rusqlite::Result<bool> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = schema::open(path, Access::Write, Duration::ZERO)?;
                connection.busy_handler(Some(wait_a_little))?;
                connection.execute_batch("PRAGMA synchronous = NORMAL")?;
                connection
            }
        };
        let connection = self.connection.insert(connection);
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
        Ok(busy == 0)
    }
}

/// Long enough to find a gap between two appends. Not longer: while this waits for a reader, the writer waits too.
fn wait_a_little(times: i32) -> bool {
    std::thread::sleep(Duration::from_micros(50));
    times < 20
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn poll(mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "it never came to pass");
            std::thread::yield_now();
        }
    }

    /// A pipe cannot be synced.
    fn unsyncable() -> File {
        File::from(OwnedFd::from(std::io::pipe().unwrap().0))
    }

    #[test]
    fn a_failed_sync_is_told_ever_after() {
        let syncer = Syncer::start(Path::new("/of/store.db"), unsyncable()).unwrap();
        syncer.check().unwrap();
        syncer.written(1);
        poll(|| syncer.check().is_err());
        syncer.written(1);
        let text = syncer.check().unwrap_err().to_string();
        assert!(text.starts_with("cannot sync `/of/store.db-wal`: "), "{text}");
        assert!(syncer.finish().is_err());
    }

    /// However long the disk takes for one sync, nobody waits for it, and the next carries all that came meanwhile.
    #[test]
    fn a_slow_sync_holds_nobody_up_and_the_next_carries_all() {
        let (begun, held) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel();
        let slow = move || {
            begun.send(()).map_err(|_| Failure::Sync(libc::EIO))?;
            released.recv().map_err(|_| Failure::Sync(libc::EIO))
        };
        let syncer = Syncer::start_with(Path::new("/of/store.db"), slow).unwrap();
        syncer.written(1);
        held.recv().unwrap();
        // Fewer than would be moved into the database, which is not there.
        for _ in 0..WEIGHT_PER_CHECKPOINT - 2 {
            syncer.written(1);
            syncer.check().unwrap();
        }
        assert!(held.try_recv().is_err(), "the first is still under way");
        release.send(()).unwrap();
        held.recv().unwrap();
        release.send(()).unwrap();
        syncer.finish().unwrap();
        assert!(held.try_recv().is_err(), "two syncs in all");
    }

    #[test]
    fn the_last_sync_is_not_forgotten() {
        let syncer = Syncer::start(Path::new("/of/store.db"), unsyncable()).unwrap();
        syncer.written(1);
        assert!(syncer.finish().is_err(), "it was tried");
        let syncer = Syncer::start(Path::new("/of/store.db"), unsyncable()).unwrap();
        syncer.finish().unwrap();
    }
}

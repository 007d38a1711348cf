//! The run store as its scheduler sees it: create, append, close.
//!
//! It is unaware of what the events mean; it numbers them, stamps them, and keeps the projections in step. Nothing in
//! memory changes before a transaction is committed, so a failed append can be tried again.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::event::{Event, Record};
use crate::folder::{ExecutionFolder, Root};
use crate::id::{ExecutionId, Split};
use crate::scheduler::State;

use super::error::StoreError;
use super::folders::{self, Staging};
use super::index::{self, Entry};
use super::keys::Bases;
use super::lock::Lock;
use super::reader::{self, check_gaps, read_records};
use super::row::{self, Count, Detail, Names};
use super::schema::{self, Access, STORE};
use super::sync::Syncer;
use super::{Change, Creation, Durability, Status, Summary, creation, now_ms};

mod projection;

use projection::Line;

/// How long to wait for somebody who has the database locked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the write-ahead log is moved into the database by the writer itself: with strict durability only.
const STRICT_CHECKPOINT_PAGES: i64 = 2000;

/// The run store of one execution, held by its scheduler.
#[derive(Debug)]
pub struct RunStore {
    connection: Connection,
    syncer: Option<Syncer>,
    root: Root,
    folder: ExecutionFolder,
    path: PathBuf,
    names: Names,
    /// What the index is told of it, but for how it ended.
    summary: Summary,
    /// What it is once its flow is updated.
    proposed: Option<Box<Creation>>,
    epoch: i64,
    /// The number of the last event.
    last: u64,
    /// The number of the event with which the execution ended, if nothing came after it.
    ended: Option<u64>,
    /// What is under way to be entered into the index.
    entry: Option<Entry>,
    /// Whether there may be a row of any split of a layer, by its place: of most splits of a new execution nothing need be
    /// read.
    rows: Vec<bool>,
    /// What is stored of splits that have not settled.
    lines: HashMap<Split, Line>,
    /// The splits that the current append is about, and what is being written of the event at hand.
    touched: Vec<Split>,
    detail: Vec<u8>,
    bases: Bases,
    /// Dropped last: whoever gets it finds the store closed.
    _lock: Lock,
}

impl RunStore {
    /// Creates an execution: its folder, its store and its lock. When this returns, the execution
    /// is on disk for good, and it appears to others at once and complete. It is entered into the index meanwhile.
    ///
    /// # Errors
    /// When something cannot be written, or an execution with this id exists. Nothing is left then.
    pub fn create(root: &Root, creation: &Creation, durability: Durability) -> Result<RunStore, StoreError> {
        folders::make_root(root)?;
        let staging = Staging::make(root, creation.id)?;
        let lock = take_lock(&staging.make_file("lock")?, creation.id)?;
        fill(&staging.make_file("store.db")?, creation)?;
        staging.adopt(root, creation.id)?;
        let entry = Entry::begin(root, index::of_creation(creation));
        let mut store = RunStore::start(root, creation.id, Some(creation), durability, lock).inspect_err(|_| {
            // The error is the one to report.
            let _ = std::fs::remove_dir_all(root.execution(creation.id).path());
        })?;
        store.entry = Some(entry);
        Ok(store)
    }

    /// Takes over an execution whose scheduler is gone, or has ended, and goes on after its last event.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when its scheduler is alive; when the store is missing or damaged.
    pub fn open(root: &Root, id: ExecutionId, durability: Durability) -> Result<RunStore, StoreError> {
        let folder = root.execution(id);
        if !folder.path().is_dir() {
            return Err(StoreError::Unknown { text: id.to_string(), similar: Vec::new() });
        }
        let lock = take_lock(&folder.lock(), id)?;
        let path = folder.store();
        let failed = |error| StoreError::database("open", &path, error);
        let connection = schema::open(&path, Access::Write, PATIENCE).map_err(failed)?;
        STORE.check(&connection, &path)?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(StoreError::damaged(&path, verdict));
        }
        connection.execute_batch("PRAGMA synchronous = FULL").map_err(failed)?;
        // First, so that a crash in the middle leaves nothing that readers would have to roll back.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(failed)?;
        STORE.migrate(&connection).map_err(failed)?;
        connection.execute("UPDATE meta SET epoch = epoch + 1", []).map_err(failed)?;
        connection.close().map_err(|(_, error)| failed(error))?;
        RunStore::start(root, id, None, durability, lock)
    }

    /// `written` is what was written to a store of which nothing has happened.
    fn start(
        root: &Root,
        id: ExecutionId,
        written: Option<&Creation>,
        durability: Durability,
        lock: Lock,
    ) -> Result<RunStore, StoreError> {
        let folder = root.execution(id);
        let path = folder.store();
        let failed = |error| StoreError::database("open", &path, error);
        let mut connection = schema::open(&path, Access::Write, PATIENCE).map_err(failed)?;
        connection.busy_handler(Some(wait_for_checkpoint)).map_err(failed)?;
        configure(&connection, durability).map_err(failed)?;
        let stored = match written {
            Some(_) => None,
            None => Some(creation::read(&connection, STORE.known()).map_err(failed)?),
        };
        let Some(creation) = written.or(stored.as_ref()).filter(|creation| creation.id == id) else {
            return Err(StoreError::damaged(&path, "it is of another execution"));
        };
        let (epoch, ended) = connection
            .query_row("SELECT epoch, ended FROM meta WHERE one = 1", [], |row| {
                Ok((row.get(0)?, row.get::<_, Option<Count>>(1)?.map(|seq| seq.0)))
            })
            .map_err(failed)?;
        let last: Option<Count> =
            connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).map_err(failed)?;
        let syncer = match durability {
            Durability::Group => Some(start_syncer(&path)?),
            Durability::Strict => None,
        };
        Ok(RunStore {
            connection,
            syncer,
            root: root.clone(),
            folder,
            path,
            names: Names::new(id, &creation.layers),
            summary: index::of_creation(creation),
            proposed: None,
            entry: None,
            epoch,
            rows: vec![written.is_none(); creation.layers.len()],
            last: last.map_or(0, |seq| seq.0),
            ended,
            lines: HashMap::new(),
            touched: Vec::new(),
            detail: Vec::new(),
            bases: Bases::default(),
            _lock: lock,
        })
    }

    /// Tells what whoever drives the execution takes it to be: what is stored, or one update more. That is written with the
    /// event that says so, an [`Event::ExecutionResumed`] with the number of flows that are earlier then, or not at all.
    ///
    /// # Errors
    /// [`StoreError::Updated`] when it is neither: somebody else has updated the execution meanwhile.
    pub fn propose(&mut self, creation: Creation) -> Result<(), StoreError> {
        let stored = creation::read(&self.connection, STORE.known())
            .map_err(|error| StoreError::database("read", &self.path, error))?;
        if creation == stored {
            return Ok(());
        }
        if creation.earlier.split_last() != Some((&stored.to_earlier(), &stored.earlier)) {
            return Err(StoreError::Updated { id: self.names.execution });
        }
        self.names = Names::new(self.names.execution, &creation.layers);
        self.proposed = Some(Box::new(creation));
        Ok(())
    }

    /// Appends events, in this order, and the states that follow from them, all or nothing. How durable they are when
    /// this returns is told in the text of the module. Of a split that waits
    /// nothing is stored, and a change to `ready` is not.
    ///
    /// # Errors
    /// When they cannot be written, or an earlier append could not be synced; [`StoreError::ShutOut`] when another
    /// scheduler has taken over. After a failure nothing of this append is stored.
    pub fn append(&mut self, events: Vec<Event>, changes: &[Change]) -> Result<Vec<Record>, StoreError> {
        if let Some(syncer) = &self.syncer {
            syncer.check()?;
        }
        if events.is_empty() && changes.is_empty() {
            return Ok(Vec::new());
        }
        let at_ms = now_ms();
        let records: Vec<Record> =
            (self.last + 1..).zip(events).map(|(seq, event)| Record { seq, at_ms, event }).collect();
        self.touched.clear();
        if let Err(error) = self.transact(&records, changes, at_ms) {
            // Where the failure has not ended the transaction already. Lines may be ahead of the store now.
            let _ = self.execute("ROLLBACK");
            self.lines.clear();
            self.bases.clear();
            return Err(error);
        }
        self.forget_settled();
        if let Some(creation) = records.iter().find_map(|record| self.proposal(&record.event)) {
            self.summary = index::of_creation(creation);
            self.proposed = None;
        }
        if let Some(last) = records.last() {
            self.last = last.seq;
            self.ended = ended(&records);
        }
        if let Some(syncer) = &self.syncer {
            syncer.written(records.len());
        }
        Ok(records)
    }

    /// The events after number `after`, in order, at most `limit`: also those that another scheduler wrote.
    ///
    /// # Errors
    /// When the store is damaged: also when an event is missing.
    pub fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = read_records(&self.connection, &self.names, after, limit)
            .map_err(|error| StoreError::database("read", &self.path, error))?;
        check_gaps(&self.path, after, &records)?;
        Ok(records)
    }

    /// Ends the scheduler's hold on the execution: syncs the last time, tells the index how it ended, leaves the store as
    /// one plain file, and lets go of the lock.
    ///
    /// # Errors
    /// When something that was appended could not be written to disk for good.
    pub fn close(mut self) -> Result<(), StoreError> {
        if let Some(syncer) = self.syncer.take() {
            syncer.finish()?;
        }
        let failed = |error| StoreError::database("write", &self.path, error);
        // What happened is on disk for good, so the index may have it.
        let ending = reader::ended(&self.connection).ok().flatten();
        let counts = ending.and_then(|_| reader::counts(&self.connection).ok());
        if let (Some((outcome, at_ms)), Some(counts)) = (ending, counts) {
            // An earlier entry must not come later.
            self.entry = None;
            let (status, ended_ms, counts) = (Status::Ended(outcome), Some(at_ms), Some(counts));
            self.entry = Some(Entry::begin(&self.root, Summary { status, ended_ms, counts, ..self.summary }));
        }
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
        if self.ended.is_some() {
            // Readers need no write-ahead log then, nor the right to make one. They may be there just now; then it stays.
            let _ = self.connection.busy_timeout(Duration::ZERO);
            // Everything is on disk already, and of this it does not matter whether it is: it changes two bytes of one page.
            let _ = self.connection.execute_batch("PRAGMA synchronous = OFF");
            let _ = self.connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()));
        }
        self.connection.close().map_err(|(_, error)| StoreError::database("close", &self.path, error))
    }

    /// The execution's folder.
    #[must_use]
    pub fn folder(&self) -> &ExecutionFolder {
        &self.folder
    }

    fn transact(&mut self, records: &[Record], changes: &[Change], at_ms: i64) -> Result<(), StoreError> {
        let path = self.path.clone();
        let failed = |error| StoreError::database("write", &path, error);
        self.execute("BEGIN IMMEDIATE").map_err(failed)?;
        let epoch: i64 = self
            .connection
            .prepare_cached("SELECT epoch FROM meta WHERE one = 1")
            .and_then(|mut select| select.query_row([], |row| row.get(0)))
            .map_err(failed)?;
        if epoch != self.epoch {
            return Err(StoreError::ShutOut { id: self.names.execution });
        }
        self.write(records, changes, at_ms).map_err(failed)
    }

    fn write(&mut self, records: &[Record], changes: &[Change], at_ms: i64) -> rusqlite::Result<()> {
        // A split goes back to waiting only when an execution is resumed, and so before anything else happens to it.
        for change in changes.iter().filter(|change| change.state == State::Waiting) {
            self.forget(change.split)?;
        }
        let given_up = projection::given_up(records, changes);
        self.insert(records)?;
        for record in records {
            self.project(record, &given_up)?;
        }
        for change in changes {
            self.change(change, at_ms)?;
        }
        for record in records {
            self.conclude(&record.event)?;
        }
        self.upsert()?;
        let ended = ended(records);
        if !records.is_empty() && ended != self.ended {
            self.connection.execute("UPDATE meta SET ended = ? WHERE one = 1", [ended.map(Count)])?;
        }
        self.execute("COMMIT")
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn insert(&mut self, records: &[Record]) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        for record in records {
            self.detail.clear();
            self.names
                .write_detail(record, &mut self.bases, &mut self.detail)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            let (kind, layer, index, attempt) = row::place(&record.event);
            insert.execute(params![
                Count(record.seq),
                record.at_ms,
                kind,
                layer.map(|layer| layer.0),
                index,
                attempt,
                Detail(&self.detail)
            ])?;
        }
        Ok(())
    }
}

/// Only a checkpoint makes the writer wait, for about as long as a sync takes; so look often, and give up after 10 s.
fn wait_for_checkpoint(times: i32) -> bool {
    std::thread::sleep(Duration::from_micros(200));
    times < 50_000
}

/// The event with which the execution has ended, if it is the last.
fn ended(records: &[Record]) -> Option<u64> {
    let last = records.last()?;
    matches!(last.event, Event::ExecutionEnded { .. }).then_some(last.seq)
}

fn take_lock(path: &Path, id: ExecutionId) -> Result<Lock, StoreError> {
    match Lock::take(path) {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err(holder)) => Err(StoreError::Locked { id, holder }),
        Err(source) => Err(StoreError::file("lock", path, source)),
    }
}

/// Fills the empty file of a new store. Nobody else knows it yet, so it needs no journal. An append changes a few rows in
/// three or four places, so small pages keep the write-ahead log small.
fn fill(path: &Path, creation: &Creation) -> Result<(), StoreError> {
    let fill = || {
        let connection = schema::open(path, Access::Write, PATIENCE)?;
        connection.execute_batch("PRAGMA page_size = 1024; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
        STORE.create(&connection)?;
        creation::write(&connection, creation)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    };
    fill().map_err(|error| StoreError::database("write", path, error))?;
    // No connection is open, so nothing is lost by closing this descriptor.
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| StoreError::file("sync", path, source))
}

fn configure(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    match durability {
        // NORMAL does not wait for the disk, but when the log starts over. The thread that syncs moves the log.
        Durability::Group => connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0"),
        Durability::Strict => connection.execute_batch(&format!(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {STRICT_CHECKPOINT_PAGES}"
        )),
    }
}

fn start_syncer(path: &Path) -> Result<Syncer, StoreError> {
    let log = schema::beside(path, "-wal");
    let file = File::open(&log).map_err(|source| StoreError::file("open", &log, source))?;
    Syncer::start(path, file).map_err(|source| StoreError::file("sync", path, source))
}

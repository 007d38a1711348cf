//! Takes away what is of no use any more: old executions, by rules; what engines have of executions that are over; what
//! crashes have left half done; objects that nothing refers to.
//!
//! It knows executors, the store and the datastore as traits and values; it is unaware of backends, flows and terminals.
//! What may go is decided in two pure places: `rules` for executions, `judge` for what engines have. The datastore
//! has its own rule, see `datastore::garbage`.
//!
//! *Order.* First it asks the engines, then the run stores: so a container that is there belongs to an execution that was
//! there before. The datastore's moment comes before what is on record is read. An execution goes in this order: its lock,
//! so that no scheduler begins; what engines have of it; its folder, by a rename, so that it is there whole or not at all;
//! at last, once that is on disk, what only it referred to. A crash at any point leaves what the next collection finishes.
//!
//! *What stays.* Whatever can go on: an execution without an end, and all that it has. Whatever is doubtful: of an
//! execution whose store is damaged nothing goes, and as long as there is one, no object, since nobody knows what it
//! refers to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::datastore::DatastoreError;
use crate::executor::{Executor, ExecutorError, Leftover};
use crate::id::ExecutionId;
use crate::store::StoreError;

mod collector;
mod judge;
mod places;
mod rules;
#[cfg(test)]
mod tests;
mod weight;

pub use collector::{collect, remove};
pub use judge::Reason;
pub use rules::{Rules, Why};

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Which executions are old.
    pub rules: Rules,
    /// Whether executions without an end, whose scheduler is gone, count as over. What runs of them is ended then.
    pub interrupted: bool,
    /// Whether executions whose store cannot be read may be removed when they are named.
    pub damaged: bool,
    /// How long all but executions must have been of no use.
    pub grace: Duration,
    /// Whether it is only told what would go.
    pub pretend: bool,
}

/// Is told what goes and what does not. Called as it happens.
pub trait Witness {
    /// This has gone, or would go.
    fn gone(&mut self, gone: &Gone<'_>);

    /// This is worth knowing.
    fn note(&mut self, note: &Note);

    /// This could not be done; the rest goes on.
    fn problem(&mut self, problem: &Problem);
}

/// One thing that goes.
#[derive(Debug)]
pub enum Gone<'a> {
    /// An execution's folder.
    Execution {
        /// Which.
        id: ExecutionId,
        /// Its flow; empty where damage hides it.
        flow: &'a str,
        /// The word for its state.
        state: &'a str,
        /// Why.
        why: Why,
        /// The bytes of its own.
        bytes: u64,
    },
    /// What an engine had of an execution.
    Leftover {
        /// The executor's name.
        backend: &'a str,
        /// What it is.
        leftover: &'a Leftover,
        /// Why.
        why: Reason,
    },
    /// A file or folder that is of no use.
    Litter {
        /// Which.
        path: &'a std::path::Path,
        /// Its bytes.
        bytes: u64,
    },
    /// An object.
    Object {
        /// Its digest.
        digest: &'a str,
        /// Its bytes.
        bytes: u64,
    },
}

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// An engine is not there. It has nothing, as far as is known; but what it had is there again once it is.
    Unavailable {
        /// The executor's name.
        backend: String,
        /// Why not.
        reason: String,
        /// Whether an execution that is looked at was to run on it.
        used: bool,
    },
    /// An engine has something of executions in another root.
    Elsewhere {
        /// The executor's name.
        backend: String,
        /// The root.
        root: PathBuf,
        /// How many.
        count: u64,
    },
    /// An engine has something that is too young.
    Young {
        /// The executor's name.
        backend: String,
        /// How many.
        count: u64,
        /// How long it stays.
        grace: Duration,
        /// Whether it is of roots that are gone.
        rootless: bool,
    },
    /// An execution that was to go is in use.
    InUse(ExecutionId),
    /// Manifests of artifacts are missing, so those artifacts cannot be read.
    Missing(u64),
}

/// Something that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// An engine.
    #[error("{backend}: {error}")]
    Engine {
        /// The executor's name.
        backend: String,
        /// What it said.
        error: ExecutorError,
    },
    /// An execution's store cannot be read: all that is its, and all objects, stay.
    #[error("execution {id} cannot be read, so what it has stays, and so do all objects: {reason}")]
    Damaged {
        /// Which.
        id: ExecutionId,
        /// Why not.
        reason: String,
        /// Whether nothing is wrong but that we may not read it.
        denied: bool,
    },
    /// An execution that was named cannot be removed in the state it is in.
    #[error("execution {id} is {state}")]
    Refused {
        /// Which.
        id: ExecutionId,
        /// The word for its state.
        state: &'static str,
    },
    /// What runs of an interrupted execution cannot be ended, since its engine is not there.
    #[error("execution {id} is interrupted, and {backend}, which may run layers of it, does not answer")]
    Unreachable {
        /// Which.
        id: ExecutionId,
        /// Its backend.
        backend: String,
    },
    /// The run store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The datastore, or a file of an execution.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
}

/// How much went, or would go: how many, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Executions.
    pub executions: (u64, u64),
    /// Containers, supervisors.
    pub leftovers: u64,
    /// Files and folders of no use.
    pub litter: (u64, u64),
    /// Objects.
    pub objects: (u64, u64),
    /// Objects that nothing refers to and that are too young; they stay.
    pub young: (u64, u64),
    /// How many problems there were.
    pub problems: u64,
}

impl Tally {
    /// All bytes that went.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.executions.1.saturating_add(self.litter.1).saturating_add(self.objects.1)
    }
}

/// The executors that are asked.
pub type Executors = [Arc<dyn Executor>];

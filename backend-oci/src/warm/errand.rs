//! What is to be done in a warm container, from the scheduler to the supervisor inside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The files and folders that both know, by their names in the folder that they share.
pub(crate) const ERRAND: &str = "errand";
pub(crate) const BELL: &str = "bell";
pub(crate) const BORN: &str = "born";
pub(crate) const LEAVING: &str = "leaving";
pub(crate) const TASKS: &str = "tasks";
/// The task's log, by its name in the task's folder.
pub(crate) const LOG: &str = "log";

/// One task, as the supervisor inside needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// The name of its folder.
    pub(crate) task: String,
    /// The whole command, with the entrypoint.
    pub(crate) argv: Vec<String>,
    /// Variables on top of the container's own.
    pub(crate) env: Vec<(String, String)>,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it has to end when its time is up.
    pub(crate) grace: Duration,
    /// Whether the control group seen inside is the container's own.
    pub(crate) own_group: bool,
}

//! What is to be done in a warm container, from the scheduler to the supervisor inside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The files that both know, by their names in the folder that they share.
pub(crate) const ERRAND: &str = "errand";
pub(crate) const BELL: &str = "bell";
pub(crate) const BORN: &str = "born";
pub(crate) const LEAVE: &str = "leave";
pub(crate) const LEAVING: &str = "leaving";
/// The task's log.
pub(crate) const LOG: &str = "log";

/// One task, as the supervisor inside needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// The whole command, with the entrypoint.
    pub(crate) argv: Vec<String>,
    /// Variables on top of the container's own.
    pub(crate) env: Vec<(String, String)>,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it has to end when its time is up.
    pub(crate) grace: Duration,
    /// How many bytes of its log are kept.
    pub(crate) log_limit: u64,
    /// Whether the control group seen inside is the container's own.
    pub(crate) own_group: bool,
}

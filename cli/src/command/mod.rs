//! The commands, one file each. Each takes resolved surroundings and its own arguments, and returns an exit code.

pub(crate) mod artifacts;
pub(crate) mod backends;
pub(crate) mod cancel;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod gc;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod why;

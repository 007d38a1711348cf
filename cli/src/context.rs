//! What every command needs: where to write, where the state is, which backends there are.

use std::io;
use std::sync::Arc;

use laminar_core::folder::Root;
use laminar_core::store::{self, StoreError};

use crate::backends::Backend;
use crate::error::Error;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::program::Program;

/// The resolved half of a command line that all commands share.
pub(crate) struct Context<'a> {
    /// Both streams.
    pub(crate) output: Output,
    /// Where the state is.
    pub(crate) root: Root,
    /// How to call the program again.
    pub(crate) invocation: Invocation,
    /// Every backend; the first is the default.
    pub(crate) backends: &'a [Backend],
    /// The flow, if this is a flow program.
    pub(crate) program: Option<&'a Arc<Program>>,
}

impl<'a> Context<'a> {
    /// Refuses a root that others can write to: what is in it could be anybody's word, and where we write, anybody's choice.
    ///
    /// # Errors
    /// When it is somebody else's, or open to everybody.
    pub(crate) fn trust_root(&self) -> Result<(), Error> {
        let Err(error) = store::check_root(&self.root) else { return Ok(()) };
        let hint = match &error {
            StoreError::Untrusted { reason, path } if reason.starts_with("can be") => {
                format!(
                    "`chmod o-w {}`, if all that is in it is yours; or name another root with `--root`",
                    path.display()
                )
            }
            StoreError::Untrusted { .. } => {
                "name a root of your own with `--root`, or let its owner do it; reading it is allowed".to_owned()
            }
            _ => return Err(Error::because("cannot use the root", &error)),
        };
        Err(Error::usage(format!("cannot rely on the root: {error}")).hint(hint))
    }

    /// The backend of this name, or the default.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn backend(&self, name: Option<&str>) -> Result<&'a Backend, Error> {
        let found = match name {
            None => self.backends.first(),
            // The one added last wins, so that a custom binary can replace a built-in one.
            Some(name) => self.backends.iter().rfind(|backend| backend.name == name),
        };
        found.ok_or_else(|| {
            let names: Vec<String> = self.backends.iter().map(|backend| format!("`{}`", backend.name)).collect();
            Error::usage(format!("there is no backend `{}`", name.unwrap_or_default())).hint(format!(
                "there is {}; `{}` says more",
                names.join(", "),
                self.invocation.line(&["backends"])
            ))
        })
    }
}

/// The runtime, for the commands that talk to executors.
///
/// # Errors
/// When the kernel refuses what it needs.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error: io::Error| Error::because("cannot start the runtime", &error))
}

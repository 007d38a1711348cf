//! `laminar completions`: a script that completes this very command line in a shell.

use clap::CommandFactory;

use crate::args::{CommandLineArgs, CompletionsArgs};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;

/// Prints the script.
pub(crate) fn run(context: &mut Context<'_>, args: &CompletionsArgs, program: &str) -> Result<Code, Error> {
    // Into memory first: the generator panics when its reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLineArgs::command(), program, &mut script);
    context.output.data().write_all(&script)?;
    Ok(Code::Finished)
}

//! `laminar completions`: a script that completes this very command line in a shell.

use crate::args::CompletionsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;

/// Prints the script.
pub(crate) fn run(
    context: &mut Context<'_>,
    args: &CompletionsArgs,
    definition: &mut clap::Command,
) -> Result<Code, Error> {
    let program = context.invocation.program().to_owned();
    // Into memory first: the generator panics when its reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, definition, program, &mut script);
    context.output.data().write_all(&script)?;
    Ok(Code::Finished)
}

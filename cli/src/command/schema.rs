//! `laminar schema`: the JSON Schema of flow files.

use laminar_core::flow::file;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;

/// Prints the schema.
pub(crate) fn run(context: &mut Context<'_>) -> Result<Code, Error> {
    context.output.document(&file::schema())?;
    Ok(Code::Finished)
}

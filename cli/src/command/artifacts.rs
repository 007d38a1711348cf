//! `laminar artifacts`: what layers left.

use laminar_core::datastore::Content;
use laminar_core::store::ArtifactRow;
use serde_json::Value;

use crate::args::ArtifactsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::exit::Code;
use crate::output::Shape;
use crate::place;
use crate::report::json;
use crate::text::table::Table;
use crate::text::{size, visible};

/// Lists the artifacts of an execution, or of one layer.
pub(crate) fn run(context: &mut Context<'_>, args: &ArtifactsArgs) -> Result<Code, Error> {
    let (name, layer) = place::execution_and_layer(args.place.first.as_deref(), args.place.second.as_deref())?;
    let execution = Execution::open(context, &name)?;
    let rows = execution.artifacts(layer.as_ref())?;
    if context.output.shape() == Shape::Json {
        for row in &rows {
            context.output.object(&object(&execution, row))?;
        }
        return Ok(Code::Finished);
    }
    if rows.is_empty() {
        let whose =
            layer.map_or_else(|| format!("execution {}", abbreviate(execution.id)), |layer| format!("`{layer}`"));
        context.output.note(&format!("{whose} has left no artifacts"));
        return Ok(Code::Finished);
    }
    let mut table = Table::new(&["ARTIFACT", "KIND", "SIZE", "DIGEST"]);
    for row in &rows {
        table.row(cells(&execution, row));
    }
    let drawn = table.draw(context.output.data_style());
    context.output.print(&drawn)?;
    Ok(Code::Finished)
}

/// The first cell is what `laminar cat` takes.
fn cells(execution: &Execution, row: &ArtifactRow) -> [String; 4] {
    let name = format!("{}/{}", execution.names.split(row.split), visible::line(&row.artifact.name));
    let bytes = size::short(row.artifact.content.size());
    match &row.artifact.content {
        Content::File { digest, .. } => [name, "file".to_owned(), bytes, digest.to_string()],
        Content::Folder { manifest, .. } => [name, "folder".to_owned(), bytes, manifest.to_string()],
    }
}

fn object(execution: &Execution, row: &ArtifactRow) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("layer".to_owned(), execution.names.layer(row.split.layer).into());
    fields.insert("index".to_owned(), row.split.index.into());
    if let Value::Object(artifact) = json::artifact(&row.artifact) {
        fields.extend(artifact);
    }
    Value::Object(fields)
}

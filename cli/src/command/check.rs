//! `laminar check`: whether a flow file could be run; runs nothing.

use serde_json::json;

use crate::args::CheckArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::load::{Loaded, load};
use crate::output::Shape;
use crate::problems;
use crate::secrets;
use crate::text::{count, visible};

/// Says that there are no problems, or all of them. With `--json` they are the data, on standard output.
pub(crate) fn run(context: &mut Context<'_>, args: &CheckArgs) -> Result<Code, Error> {
    let loaded = load(context, &args.flow, None).and_then(|loaded| {
        secrets::read(context, &loaded.flow, &loaded.folder()?, |_| true)?;
        Ok(loaded)
    });
    match (loaded, context.output.shape()) {
        (Ok(Loaded { source, flow, .. }), Shape::Text) => {
            let (name, layers) = (visible::line(&source.name), count(flow.layers.len(), "layer"));
            context.output.print(&format!("`{name}`: flow `{}`, {layers}, no problems\n", flow.name))?;
            Ok(Code::Finished)
        }
        (Ok(Loaded { source, flow, .. }), Shape::Json) => {
            let answer = json!({
                "file": source.name,
                "flow": flow.name,
                "layers": flow.layers.len(),
                "problems": [],
            });
            context.output.document(&answer)?;
            Ok(Code::Finished)
        }
        (Err(Error::Problems(found)), Shape::Json) => {
            let name = found.source.as_ref().map(|source| &source.name);
            let list = problems::objects(&found);
            context.output.document(&json!({"file": name, "flow": null, "layers": null, "problems": list}))?;
            Ok(Code::Usage)
        }
        (Err(error), _) => Err(error),
    }
}

//! `laminar plan`: what starts when, and the critical path; runs nothing.

use laminar_core::flow::{Flow, Layer};
use laminar_core::id::LayerId;
use laminar_core::plan::Plan;
use serde_json::{Value, json};

use crate::args::PlanArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::load::load;
use crate::output::{Shape, Verbosity};
use crate::text::style::Style;
use crate::text::{count, few};

/// How many layers are named one by one, unless everything is asked for.
const MOST_LAYERS: usize = 200;
/// How many levels of a larger flow are shown.
const MOST_LEVELS: usize = 20;
/// How many names are shown in one line.
const MOST_NAMES: usize = 6;

/// Shows the plan of a flow.
pub(crate) fn run(context: &mut Context<'_>, args: &PlanArgs) -> Result<Code, Error> {
    let loaded = load(context, &args.flow, None)?;
    show(context, &loaded.flow, &loaded.plan)?;
    Ok(Code::Finished)
}

/// Writes a plan to standard output.
pub(crate) fn show(context: &mut Context<'_>, flow: &Flow, plan: &Plan) -> Result<(), Error> {
    if context.output.shape() == Shape::Json {
        return context.output.document(&object(flow, plan));
    }
    let most = if context.output.verbosity() == Verbosity::Verbose { usize::MAX } else { MOST_LAYERS };
    let text = text(flow, plan, most, context.output.data_style());
    context.output.print(&text)
}

fn text(flow: &Flow, plan: &Plan, most: usize, style: Style) -> String {
    let levels = plan.levels();
    let widest = levels.iter().map(Vec::len).max().unwrap_or(0);
    let path = plan.critical_path();
    let name = |id: &LayerId| &*flow.layer(*id).name;
    let tasks = match tasks(flow) {
        _ if flow.layers.iter().all(|layer| layer.foreach.is_none()) => String::new(),
        (known, true) => format!("{}, ", count(known as usize, "task")),
        (known, false) => format!("{} or more, ", count(known as usize, "task")),
    };
    // Splits of one layer run at once too, as many as there are.
    let width = if tasks.is_empty() { format!(", at most {widest} at once") } else { String::new() };
    let mut text = format!(
        "flow `{}`: {}, {tasks}{}{width}\n",
        flow.name,
        count(plan.len(), "layer"),
        count(levels.len(), "level")
    );
    let shown = if plan.len() <= most { levels.len() } else { levels.len().min(MOST_LEVELS) };
    for (number, level) in levels.iter().take(shown).enumerate() {
        let number = number + 1;
        if plan.len() > most {
            text.push_str(&format!("{number:>4}  {}\n", few(level.iter().map(name), MOST_NAMES)));
            continue;
        }
        for (at, id) in level.iter().enumerate() {
            let number = if at == 0 { number.to_string() } else { String::new() };
            let after = match plan.needs(*id) {
                [] => String::new(),
                needs => style.dim(format!("  after {}", few(needs.iter().map(name), MOST_NAMES))),
            };
            let marks = marks(flow, *id);
            text.push_str(&format!("{number:>4}  {}{marks}{after}\n", name(id)));
        }
    }
    if shown < levels.len() {
        text.push_str(&format!("      and {}\n", count(levels.len() - shown, "more level")));
    }
    let names: Vec<&str> = path.iter().map(name).collect();
    let cut = plan.len() > most && names.len() > 2 * MOST_NAMES;
    let names = if cut {
        let (first, last) = (&names[..MOST_NAMES], &names[names.len() - MOST_NAMES..]);
        format!("{} -> ... -> {}", first.join(" -> "), last.join(" -> "))
    } else {
        names.join(" -> ")
    };
    text.push_str(&format!("critical path, {}: {names}\n", count(path.len(), "layer")));
    text
}

/// How many tasks there are as far as that is known before anything has run, and whether that is all of them.
fn tasks(flow: &Flow) -> (u64, bool) {
    let mut is_all = true;
    let splits = flow.active().map(|(_, layer)| match splits(flow, layer) {
        Splits::Unknown => {
            is_all = false;
            0
        }
        Splits::Known(splits) => u64::from(splits),
        Splits::One => 1,
    });
    let known = splits.sum();
    (known, is_all)
}

/// How many splits a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Splits {
    /// It is not fanned out.
    One,
    /// As many as parameters say.
    Known(u32),
    /// As many as follow from what other layers will have left.
    Unknown,
}

/// How many splits a layer has, as far as that is known before anything has run.
pub(crate) fn splits(flow: &Flow, layer: &Layer) -> Splits {
    let Some(foreach) = &layer.foreach else { return Splits::One };
    // One that is wrong was told before.
    let each = foreach.rehearse(&flow.parameters).and_then(Result::ok);
    each.and_then(|each| each.splits()).map_or(Splits::Unknown, Splits::Known)
}

/// What is worth knowing of a layer: `  48 splits, 8 at once, when, cache`.
pub(crate) fn marks(flow: &Flow, id: LayerId) -> String {
    let layer = flow.layer(id);
    let splits = match splits(flow, layer) {
        Splits::One => None,
        Splits::Known(splits) => Some(count(splits as usize, "split")),
        Splits::Unknown => {
            let needs = few(layer.needs.iter().map(|need| &*flow.layer(*need).name), MOST_NAMES);
            let have = if layer.needs.len() == 1 { "has" } else { "have" };
            // It may be a variable of the environment.
            let known = if needs.is_empty() { String::new() } else { format!(" (known when {needs} {have} finished)") };
            Some(format!("? splits{known}"))
        }
    };
    let most = layer.max_parallel.filter(|_| layer.foreach.is_some()).map(|most| format!("{most} at once"));
    let when = layer.when.is_some().then(|| "when".to_owned());
    let cache = layer.cache.is_some().then(|| "cache".to_owned());
    let secrets = (!layer.secrets.is_empty()).then(|| {
        let names = few(layer.secrets.iter().map(|secret| &*secret.name), MOST_NAMES);
        format!("{} {names}", if layer.secrets.len() == 1 { "secret" } else { "secrets" })
    });
    let marks: Vec<String> = [splits, most, when, cache, secrets].into_iter().flatten().collect();
    if marks.is_empty() { String::new() } else { format!("  {}", marks.join(", ")) }
}

fn object(flow: &Flow, plan: &Plan) -> Value {
    let name = |id: &LayerId| &flow.layer(*id).name;
    let names = |ids: &[LayerId]| ids.iter().map(name).collect::<Vec<_>>();
    let levels = plan.levels();
    let mut level_of = vec![0; plan.len()];
    for (number, level) in levels.iter().enumerate() {
        for id in level {
            level_of[id.at()] = number + 1;
        }
    }
    let layers: Vec<Value> = (0_u32..)
        .map(LayerId)
        .take(plan.len())
        .map(|id| {
            let layer = flow.layer(id);
            json!({
                "name": name(&id),
                "needs": names(plan.needs(id)),
                "level": level_of[id.at()],
                "rank": plan.rank(id),
                "foreach": layer.foreach.as_ref().map(|foreach| foreach.0.iter().map(|(name, _)| &**name).collect::<Vec<_>>()),
                "splits": match splits(flow, layer) {
                    Splits::One => Some(1),
                    Splits::Known(splits) => Some(splits),
                    Splits::Unknown => None,
                },
                "max_parallel": layer.max_parallel,
                "when": layer.when.is_some(),
                "cache": layer.cache.is_some(),
                "secrets": layer.secrets.iter().map(|secret| &*secret.name).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "flow": flow.name,
        "parameters": *flow.parameters,
        "layers": layers,
        "levels": levels.iter().map(|level| names(level)).collect::<Vec<_>>(),
        "critical_path": names(&plan.critical_path()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use laminar_core::fake::{flow_of, flow_with};

    use super::*;

    #[test]
    fn a_small_plan_names_every_layer() {
        let flow = flow_of(&[&[], &[0], &[0], &[1, 2]]);
        let names: Vec<&str> = flow.layers.iter().map(|layer| &*layer.name).collect();
        let text = text(&flow, &Plan::new(&flow).unwrap(), 200, Style::Plain);
        let expected = format!(
            "flow `{}`: 4 layers, 3 levels, at most 2 at once\n   1  {a}\n   2  {b}  after {a}\n      {c}  after {a}\n   3  {d}  after {b}, {c}\ncritical path, 3 layers: {a} -> {b} -> {d}\n",
            flow.name,
            a = names[0],
            b = names[1],
            c = names[2],
            d = names[3]
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_large_plan_stays_short() {
        let chain = flow_with((0..5000_u32).map(|at| at.checked_sub(1).into_iter().collect()));
        assert!(text(&chain, &Plan::new(&chain).unwrap(), 200, Style::Plain).len() < 3000);
        let wide = flow_with((0..5000_u32).map(|_| Vec::new()));
        assert!(text(&wide, &Plan::new(&wide).unwrap(), 200, Style::Plain).len() < 1000);
    }
}

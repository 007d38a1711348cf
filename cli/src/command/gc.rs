//! `laminar gc`, `laminar rm`: what is of no use any more goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use laminar_core::executor::Executor;
use laminar_core::gc::{self, Order, Rules, Tally};
use laminar_core::store;

use crate::args::{GcArgs, RmArgs, Setting};
use crate::choice;
use crate::context::{Context, runtime};
use crate::error::Error;
use crate::execution::unknown;
use crate::exit::Code;
use crate::secrets;

mod told;

use told::Told;

/// Collects garbage, and old executions.
pub(crate) fn run(context: &mut Context<'_>, args: &GcArgs) -> Result<Code, Error> {
    let rules = Rules { keep: args.keep, older_than: args.older_than, max_size: args.max_size };
    let order =
        Order { rules, interrupted: args.interrupted, grace: args.grace, pretend: args.dry_run, ..Order::default() };
    let executors = executors(context, &args.options)?;
    let root = context.root.clone();
    let runtime = runtime()?;
    let mut told = Told::new(context, args.dry_run);
    let tally = runtime.block_on(gc::collect(&root, &executors, &order, &mut told));
    runtime.shutdown_background();
    let code = conclude(told, &tally);
    if !args.dry_run {
        secrets::sweep(context.backends);
    }
    code
}

/// Removes executions by their names.
pub(crate) fn remove(context: &mut Context<'_>, args: &RmArgs) -> Result<Code, Error> {
    let resolved = args.ids.iter().map(|name| store::resolve(&context.root, name));
    // All or none: a mistyped id is found out before anything goes.
    let ids = resolved.collect::<Result<BTreeSet<_>, _>>().map_err(|error| unknown(context, &error))?;
    let ids: Vec<_> = ids.into_iter().collect();
    let order =
        Order { interrupted: args.interrupted, damaged: args.damaged, pretend: args.dry_run, ..Order::default() };
    let executors = executors(context, &args.options)?;
    let root = context.root.clone();
    let runtime = runtime()?;
    let mut told = Told::new(context, args.dry_run);
    let tally = runtime.block_on(gc::remove(&root, &executors, &order, &ids, &mut told));
    runtime.shutdown_background();
    let code = conclude(told, &tally);
    if !args.dry_run {
        secrets::sweep(context.backends);
    }
    code
}

/// An executor of every backend, with these options.
fn executors(context: &Context<'_>, options: &[Setting]) -> Result<Vec<Arc<dyn Executor>>, Error> {
    let having = |name: &str| {
        let all = context.backends.iter();
        all.filter(|backend| backend.options.iter().any(|spec| spec.name() == name)).collect()
    };
    let set = choice::settle(context, options, having)?;
    let executors = context.backends.iter().map(|backend| {
        let set = set.iter().filter(|(name, ..)| name == backend.name);
        backend.executor(set.map(|(_, name, value)| (name.as_str(), value.as_str())))
    });
    Ok(executors.collect())
}

fn conclude(told: Told<'_, '_>, tally: &Tally) -> Result<Code, Error> {
    told.conclude(tally)?;
    Ok(Code::Finished)
}

//! What `laminar gc` and `laminar rm` take.

use std::time::Duration;

use clap::Args;

use super::{ID_HELP, Setting, setting};
use crate::text::amount;

#[derive(Args, Debug)]
#[command(
    after_help = "\
Examples:
  laminar gc --dry-run                      what would go, and how much that is
  laminar gc                                garbage only; every execution stays
  laminar gc --keep 10                      of each flow the ten newest executions, and what runs
  laminar gc --keep 3 --older-than 30d      what is older than that, but never the three newest of a flow
  laminar gc --max-size 10GiB               the oldest go until the rest has no more than that
  laminar gc --json -n | jq -r 'select(.kind == \"execution\").id'

Garbage is: what engines still have of executions that have ended or are gone (containers, supervisors), what crashes have left half done, and objects that no execution refers to. It goes when it has been of no use for the grace. What can be resumed is never garbage. Safe beside running executions.",
    after_long_help = LONG
)]
pub(crate) struct GcArgs {
    /// Remove executions but for the newest N of each flow; with another rule, protect those from it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep: Option<u32>,
    /// Remove executions that ended longer ago
    #[arg(long, value_name = "DURATION", value_parser = amount::duration)]
    pub(crate) older_than: Option<Duration>,
    /// Remove the oldest executions until the rest, with its artifacts, is no larger
    #[arg(long, value_name = "SIZE", value_parser = amount::bytes, allow_negative_numbers = true)]
    pub(crate) max_size: Option<u64>,
    /// Count interrupted executions as over: the rules apply to them too; what still runs of one that goes is ended
    #[arg(long)]
    pub(crate) interrupted: bool,
    /// How long garbage must have been of no use
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = amount::duration)]
    pub(crate) grace: Duration,
    /// Say what would go; remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Ask an engine with an option of its backend, or of every backend that has it; may be given again
    #[arg(short, long = "option", value_name = "[BACKEND.]NAME=VALUE", value_parser = setting)]
    pub(crate) options: Vec<Setting>,
}

const LONG: &str = "\
Examples:
  laminar gc --dry-run                      what would go, and how much that is
  laminar gc                                garbage only; every execution stays
  laminar gc --keep 10                      of each flow the ten newest executions, and what runs
  laminar gc --keep 3 --older-than 30d      what is older than that, but never the three newest of a flow
  laminar gc --max-size 10GiB               the oldest go until the rest has no more than that
  laminar gc --json -n | jq -r 'select(.kind == \"execution\").id'

Garbage is: what engines still have of executions that have ended or are gone (containers, supervisors), what crashes have left half done, and objects that no execution refers to. It goes when it has been of no use for the grace. What can be resumed is never garbage. Safe beside running executions.

Containers are known by their labels alone. Those of executions in another root are left to a `laminar gc` there; those of a root that is gone go when they are older than the grace and than an hour.

What goes is named with `--dry-run` or `-v`, single objects only with `-v`, and what was of a root that is gone always. With `--json` each thing is one object with `kind`; the last has kind `summary`:
  execution  id, flow, state, why (surplus, old, too_much, named), bytes
  leftover   backend, name, id, execution, folder, why (removed, ended, unknown, nobodys)
  litter     path, bytes
  object     digest, bytes (with -v)
  note       text
  summary    dry_run, bytes, and for executions, litter, objects, young: count and bytes; leftovers, problems: how many;
             silent: the backends that executions ran on and that do not answer

Exit codes: 0 done, 2 wrong command line, 3 something could not be removed or read; the rest was done all the same.";

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar rm 019a8f3c
  laminar rm latest --dry-run
  laminar list --json | jq -r 'select(.state == \"failed\").id' | xargs -r laminar rm

Removes executions with their records and logs. What only they referred to in the datastore goes with the next `laminar gc`. One that runs is refused; so is one that is interrupted or damaged, unless that is said.

Exit codes: 0 done; 2 wrong command line, or one runs or is interrupted; 3 something could not be removed or read; 4 there is no such execution, and none was removed. With 2 for one that runs, and with 3, the others were removed all the same.")]
pub(crate) struct RmArgs {
    #[arg(value_name = "ID", help = ID_HELP, required = true)]
    pub(crate) ids: Vec<String>,
    /// Also what was interrupted and could be resumed; what still runs of it is ended
    #[arg(long)]
    pub(crate) interrupted: bool,
    /// Also what is damaged
    #[arg(long)]
    pub(crate) damaged: bool,
    /// Say what would go; remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Ask an engine with an option of its backend, or of every backend that has it; may be given again
    #[arg(short, long = "option", value_name = "[BACKEND.]NAME=VALUE", value_parser = setting)]
    pub(crate) options: Vec<Setting>,
}

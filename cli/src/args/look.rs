//! What the commands take that look at executions: `laminar status`, `logs`, `why`, `artifacts`, `cat`.

use clap::Args;

#[derive(Args, Debug)]
#[command(
    override_usage = "laminar status [OPTIONS] [ID] [LAYER]",
    after_help = "\
Examples:
  laminar status
  laminar status 019a8f3c                   a unique beginning of an id
  laminar status Train                      every split of a layer, with its values
  laminar status 'Train[3]'                 one of them (also written Train.3)
  laminar status -v                         every layer and every split, also of a large execution
  laminar status -f                         follow it, as if it had been started here
  laminar status --json | jq -r '.layers[] | select(.state == \"failed\") | \"\\(.layer)[\\(.index)]\"'

A layer that is fanned out has one line, with how many of its splits have settled; below it are those that failed, run or rest.

With `--json`, prints one document: `layers` has an object for every split (of a layer that is not fanned out, or not yet, one with index 0), with `each`, its values, `why` it was skipped or cancelled, and `from`, the execution whose artifacts a cached one has; `foreach` has one for each layer that is fanned out, with `state`, `splits` and `counts`. A `state` is the last that was recorded: where `interrupted` is true, the scheduler died since."
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: LayerPlace,
    /// Show how it goes on until it is over, and exit as `run` would; with `--json` one event a line
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Args, Debug)]
#[command(
    override_usage = "laminar logs [OPTIONS] [ID] [LAYER]",
    after_help = "\
Examples:
  laminar logs                              all logs of the latest execution, in the order of launch
  laminar logs Train                        of one layer
  laminar logs 'Train[3]'                   of one of its splits (also written Train.3)
  laminar logs 019a8f3c Train --attempt 1
  laminar logs -f                           follow, until the execution ends
  laminar logs --json | jq -r .path         the log files

A single argument that begins with a digit, or is `latest`, is an execution; anything else is a layer of the latest execution (a layer's name never begins with a digit). The last attempt is shown unless `--attempt` names another. Bytes are written as they are, but on a terminal control sequences are made visible.

With `--json`, prints where the logs are, not what is in them: one object a log file, with layer, index, attempt, path and size."
)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) place: LayerPlace,
    /// Go on as more is written, until the execution ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Which attempt, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "follow", allow_negative_numbers = true)]
    pub(crate) attempt: Option<u32>,
}

#[derive(Args, Debug)]
#[command(
    override_usage = "laminar why [OPTIONS] <LAYER> [ID]",
    after_help = "\
Examples:
  laminar why Train
  laminar why 'Train[3]'                    one of its splits (also written Train.3)
  laminar why Train 019a8f3c
  laminar why Train --json | jq -r '.changes[].part'

Says of a layer with `cache` whether it was taken from the cache, and from which execution; or that it ran, and which parts of its key are not those of the last time: the last earlier key of the same layer and index in this execution, or in the last earlier execution of a flow of the same name. Of a foreach layer it counts, and groups what changed.

With `--json`, prints one document: execution, layer, index (null for all splits of a foreach layer), cached, ran, without_key, undecided (how many splits each), from (executions), never (how many ran that never had a key before), compared_with (executions), changes: [{part, change (changed, new, gone), splits, example (an index), was, is}], same: [{reason, splits, example}], reasons (why there is no key): [{reason, splits, example}], opted_in."
)]
pub(crate) struct WhyArgs {
    #[arg(value_name = "LAYER", help = "A layer, or one of its splits: `Train`, `Train[3]`")]
    pub(crate) first: String,
    #[arg(value_name = "ID", help = "An execution: its id, a unique beginning of it, or `latest` (the default)")]
    pub(crate) second: Option<String>,
}

#[derive(Args, Debug)]
#[command(
    override_usage = "laminar artifacts [OPTIONS] [ID] [LAYER]",
    after_help = "\
Examples:
  laminar artifacts
  laminar artifacts Train
  laminar artifacts 019a8f3c Train --json
  laminar artifacts Train --values --json | jq -c '[.index, .value]'

A single argument that begins with a digit, or is `latest`, is an execution; anything else is a layer of the latest execution (a layer's name never begins with a digit)."
)]
pub(crate) struct ArtifactsArgs {
    #[command(flatten)]
    pub(crate) place: LayerPlace,
    /// Show the values, too: what is in the files that end in `.json`, of up to 1 MiB each
    #[arg(long)]
    pub(crate) values: bool,
}

/// An execution, a layer, both or neither.
#[derive(Args, Clone, Debug)]
pub(crate) struct LayerPlace {
    #[arg(
        value_name = "ID",
        help = "An execution: its id, a unique beginning of it, or `latest` (the default); or a layer of `latest`"
    )]
    pub(crate) first: Option<String>,
    #[arg(value_name = "LAYER", help = "A layer, or one of its splits: `Train`, `Train[3]`")]
    pub(crate) second: Option<String>,
}

#[derive(Args, Debug)]
#[command(
    override_usage = "laminar cat [OPTIONS] [ID] <LAYER/ARTIFACT[/PATH]>",
    after_help = "\
Examples:
  laminar cat Train/model.json
  laminar cat Train/checkpoints             the entries of a folder
  laminar cat Train/checkpoints/3/weights > weights
  laminar cat 019a8f3c 'Train[3]/model.json'

A single argument is an artifact of the latest execution. Bytes are written as they are, but on a terminal control sequences are made visible."
)]
pub(crate) struct CatArgs {
    #[arg(value_name = "ID", help = "An execution (`latest` if left out), or the artifact if it is the only argument")]
    pub(crate) first: String,
    #[arg(
        value_name = "LAYER/ARTIFACT",
        help = "An artifact, or an entry of a folder: `Train/model.json`, `Train/folder/entry`"
    )]
    pub(crate) second: Option<String>,
}

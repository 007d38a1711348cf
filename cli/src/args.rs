//! What a command line says, word by word. Pure: nothing here looks at the disk, the clock or the backends.
//!
//! The values are resolved afterwards, each by the command that needs it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use laminar_core::store::Durability;

use crate::exit;
use crate::text::amount;

mod gc;
mod look;

pub(crate) use gc::{GcArgs, RmArgs};
pub(crate) use look::{ArtifactsArgs, CatArgs, LogsArgs, StatusArgs, WhyArgs};

const ABOUT: &str = "Runs flows: graphs of layers, each in a container of its own or as a plain process";

const ID_HELP: &str = "An execution: its id, a unique beginning of it, or `latest`";

const EXAMPLES: &str = "\
Examples:
  laminar check               look for problems in ./flow.yaml
  laminar run                 run it, with live progress
  laminar status              what became of the latest execution
  laminar logs Train -f       follow the log of one layer";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "laminar", version, about = ABOUT, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
pub(crate) struct CommandLineArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What may be said before or after the subcommand.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The folder that holds all state
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "DIR",
        env = "LAMINAR_ROOT",
        default_value = ".laminar",
        hide_env_values = true
    )]
    pub(crate) root: PathBuf,
    /// Write data as JSON: lists one object a line, single things as one document
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) json: bool,
    /// Say nothing but errors and failures
    #[arg(short, long, global = true, help_heading = "Common options", conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say everything
    #[arg(short, long, global = true, help_heading = "Common options")]
    pub(crate) verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a flow
    Run(RunArgs),
    /// Go on with an execution that was interrupted, failed or cancelled
    Resume(ResumeArgs),
    /// Stop an execution, from anywhere
    Cancel(CancelArgs),
    /// Look for problems in a flow file; run nothing
    Check(CheckArgs),
    /// Show what starts when, and the critical path; run nothing
    Plan(PlanArgs),
    /// List executions, the newest first
    #[command(after_help = "\
Examples:
  laminar list
  laminar list --json | jq -r 'select(.state == \"interrupted\").id'")]
    List,
    /// Show what became of an execution and its layers
    Status(StatusArgs),
    /// Show what layers wrote to their standard output and standard error
    Logs(LogsArgs),
    /// Say what the cache made of a layer: what it was taken from, or what is not as it was last time
    Why(WhyArgs),
    /// List what layers left
    Artifacts(ArtifactsArgs),
    /// Write an artifact to standard output
    Cat(CatArgs),
    /// Show the backends: whether each is available, what it enforces, and its options
    Backends(BackendsArgs),
    /// Write a crate for a backend of your own
    Init(InitArgs),
    /// Remove what is of no use any more, and old executions by rules
    Gc(GcArgs),
    /// Remove executions by name
    Rm(RmArgs),
    /// Build an image that holds this program, for backends that run layers in images
    #[command(hide = true)]
    Image(ImageArgs),
    /// Print the JSON Schema of flow files
    #[command(after_help = "\
Examples:
  laminar schema > flow.schema.json

In a flow file, `# yaml-language-server: $schema=flow.schema.json` as the first line makes editors complete it.")]
    Schema,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Which flow, and with which values.
#[derive(Args, Clone, Debug)]
pub(crate) struct FlowArgs {
    /// The flow file, a folder that has one, or `-` for standard input [default: `flow.yaml`, `flow.yml` or `flow.json` in the current folder]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The image of the layers that name none: it holds this program, as its entrypoint
    #[arg(long, value_name = "IMAGE", hide = true)]
    pub(crate) image: Option<String>,
    /// Where the image has this program, if it is not its entrypoint
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) program: Option<String>,
    /// Set a parameter of the flow; may be given again
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = amount::parameter)]
    pub(crate) parameters: Vec<(String, String)>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar run
  laminar run digits.yaml --parameter seed=9 --parameter 'depths=[2,4]'
  laminar run --jobs 4 --memory 8GiB
  laminar run --backend docker -o network=none
  laminar run --dry-run                     show the plan, run nothing
  laminar run --detach                      then: laminar status -f, laminar logs -f, laminar cancel
  laminar run --json | jq -c 'select(.event == \"attempt_exited\")'

Ctrl-C (or SIGTERM, SIGHUP) cancels: running layers are asked to end, and nothing new starts. A second one kills them. Standard output is empty, or with `--json` has one event a line.", after_long_help = RUN_HELP)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
    /// What runs the layers that say no backend of their own; see `laminar backends` [default: the flow's, else the first of them]
    #[arg(short, long, value_name = "NAME", env = "LAMINAR_BACKEND", hide_env_values = true)]
    pub(crate) backend: Option<String>,
    /// Set an option of a backend, of the one that `--backend` names if none is named here; may be given again
    #[arg(short, long = "option", value_name = "[BACKEND.]NAME=VALUE", value_parser = setting)]
    pub(crate) options: Vec<Setting>,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
    /// Show the plan and what the backend has to say about it; run nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar resume
  laminar resume 019a8f3c                   a unique beginning of an id
  laminar resume --from Train               run Train and all that needs it again
  laminar resume --from 'Train[3]'          run one of its splits again, and all that needs Train
  laminar resume --update --dry-run         what the flow file, as it is now, would change
  laminar resume --update -p seed=9
  laminar resume --detach

What has finished does not run again; layers that still run are waited for, and their output is complete. What failed or was cancelled runs again, with all its attempts. The flow, its parameters and its backends are those that the execution was created with, unless `--update` gives it the flow file as it is now: then layers that are not what they were run again, with all that need them, and new ones run too. What a layer is, is what it runs, with values in place of expressions: `run`, `command`, `shell`, `env`, `needs`, `outputs`, `catch`, `container` (but not `cpu`, `memory` and `pull`) and its backend. It is refused while one of them is under way. A layer that reads files beside, or its parameters from `$LAMINAR_INPUTS/Parameters`, cannot be known to have changed: `--from` runs it again. Exits like `run`; if there is nothing to do, it says so and exits with 0.")]
pub(crate) struct ResumeArgs {
    #[arg(value_name = "ID", help = ID_HELP, default_value = "latest")]
    pub(crate) id: String,
    /// Run this layer, or this split of one, again with all that need the layer, though it has finished; may be given again
    #[arg(long, value_name = "LAYER[INDEX]")]
    pub(crate) from: Vec<String>,
    /// Go on with the flow file as it is now, by default the one that its flow was last taken from (at its creation, or by `--update=FILE`); say what has changed
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) update: Option<Option<PathBuf>>,
    /// With `--update`: another image of the layers that name none
    #[arg(long, value_name = "IMAGE", hide = true, requires = "update")]
    pub(crate) image: Option<String>,
    /// With `--update`: where the image has this program
    #[arg(long, value_name = "PATH", hide = true, requires = "update")]
    pub(crate) program: Option<String>,
    /// With `--update`: set a parameter anew; those that are not named keep their values; may be given again
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = amount::parameter, requires = "update")]
    pub(crate) parameters: Vec<(String, String)>,
    /// With `--update`: run the layers that say no backend of their own here from now on
    #[arg(short, long, value_name = "NAME", requires = "update")]
    pub(crate) backend: Option<String>,
    /// With `--update`: set an option of a backend anew; may be given again
    #[arg(short, long = "option", value_name = "[BACKEND.]NAME=VALUE", value_parser = setting, requires = "update")]
    pub(crate) options: Vec<Setting>,
    /// Say what would run; run nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar cancel
  laminar cancel 019a8f3c
  laminar cancel --force                    kill at once

Asks the scheduler of the execution to stop, and waits until nothing of it runs any more. Of an interrupted execution, whose scheduler is gone, it stops what still runs itself. A cancelled execution can be resumed. Exits with 0 when the execution is over.")]
pub(crate) struct CancelArgs {
    #[arg(value_name = "ID", help = ID_HELP, default_value = "latest")]
    pub(crate) id: String,
    /// Kill running layers at once, without a grace
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Do not wait until it is over
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// How an execution is driven, whether it is new or gone on with.
#[derive(Args, Clone, Debug)]
pub(crate) struct DriveArgs {
    /// The most layers that run at once [default: the number of cores; of a resumed execution: as before]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub(crate) jobs: Option<u32>,
    /// Cores to share out among layers that run at once [default: what the backend has]
    #[arg(long, value_name = "N", value_parser = amount::cores, allow_negative_numbers = true)]
    pub(crate) cpu: Option<u64>,
    /// Memory to share out among layers that run at once [default: what the backend has]
    #[arg(long, value_name = "SIZE", value_parser = amount::bytes, allow_negative_numbers = true)]
    pub(crate) memory: Option<u64>,
    /// Do not mind what other executions of yours have reserved of this machine
    #[arg(long)]
    pub(crate) no_share: bool,
    /// How long a layer that is asked to end may take until it is killed
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = amount::duration)]
    pub(crate) grace: Duration,
    /// What a crash of the machine may cost: the last milliseconds, or nothing at the price of waiting for the disk
    #[arg(long, value_name = "HOW", default_value = "group")]
    pub(crate) durability: DurabilityArg,
    /// Run nothing if the backend cannot enforce all that the flow asks for
    #[arg(long)]
    pub(crate) strict: bool,
    /// Return as soon as it is under way; it goes on without the terminal
    #[arg(long)]
    pub(crate) detach: bool,
    /// What `--detach` starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) detached: bool,
}

const RUN_HELP: &str = "\
Examples:
  laminar run
  laminar run digits.yaml --parameter seed=9 --parameter 'depths=[2,4]'
  laminar run --jobs 4 --memory 8GiB
  laminar run --backend docker -o network=none
  laminar run --dry-run                     show the plan, run nothing
  laminar run --detach                      then: laminar status -f, laminar logs -f, laminar cancel
  laminar run --json | jq -c 'select(.event == \"attempt_exited\")'

Ctrl-C (or SIGTERM, SIGHUP) cancels: running layers are asked to end, and nothing new starts. A second one kills them.

With `--json`, standard output has one object a line. Each has `event` and `at` (RFC 3339, UTC); those of the log have `seq`, and those of a layer `layer`; of a split `index` too, from 0; of an attempt `attempt` too. Besides:
  execution_created  execution, flow, backend, backends (all that are used), layers (how many), folder
  layer_opened       splits (of a layer with `when` or `foreach`: how many it has; once per decision)
  layer_skipped      (its `when` said no; those that need it are skipped without a word)
  layer_failed       reason (its `when` or `foreach` could not be evaluated)
  split_keyed        key (what it was looked for by in the cache, in vain), or reason (why there is no key)
  split_cached       key, from (the execution that left the artifacts), artifacts: as below
  attempt_sized      cpu_millis, memory in bytes; 0: it reserves none (where they are expressions)
  attempt_offered    (it may start the moment that what it needs is over; where processes of this machine run, and are short)
  attempt_launched   each (of a split: its values)
  attempt_started
  attempt_exited     cause, code or signal, evidence, wall_us, cpu_us, peak_memory; each, unless it exited with 0
  attempt_published  artifacts: [{name, kind, size, digest}]
  attempt_rejected   reason, each
  retry_scheduled    delay_ms, memory (of the next attempt, if it has grown)
  retry_due
  cancel_requested   force
  notice             text (no event of the log, but worth knowing)
  flow_changed       with `resume --update`, before anything else: execution, update (its number), changed: [{layer, parts}], new, removed, parameters, under_way, to_run (no event of the log)
  execution_resumed  again: [layers], splits: [{layer, index}] (if any run again), changed: [layers] (if the update changed any), update (its number, if the flow was updated); finished, cached, skipped, caught, failed, cancelled
  execution_ended    outcome; finished, cached, skipped, caught, failed, cancelled

Exit codes: 0 finished, 1 a layer failed, 2 wrong command line or flow file, 3 laminar could not go on, 130 cancelled.";

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar check
  laminar check digits.yaml --parameter seed=nine
  laminar check --json | jq -r '.problems[] | \"\\(.line): \\(.message)\"'

With `--json`, prints one document. Exits with 0 if there is no problem, and with 2 if there is any.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar plan
  laminar plan digits.yaml -v               name every layer of a large flow
  laminar plan --json | jq -r '.critical_path | join(\" -> \")'

With `--json`, prints one document.")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar backends
  laminar backends -o docker.context=rootless
  laminar backends --json | jq -r 'select(.available).name'")]
pub(crate) struct BackendsArgs {
    /// Ask with an option of a backend, or of every backend that has it; may be given again
    #[arg(short, long = "option", value_name = "[BACKEND.]NAME=VALUE", value_parser = setting)]
    pub(crate) options: Vec<Setting>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar image digits:1
  laminar image digits:1 --backend podman
  laminar image digits:gpu --from nvidia/cuda:12.6.0-base-ubuntu24.04

The image has the program as its entrypoint, and nothing else unless `--from` names something to build on. Prints its name.")]
pub(crate) struct ImageArgs {
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) tag: String,
    /// Which engine builds it [default: the first of docker and podman that is here]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// The image to build on
    #[arg(long, value_name = "IMAGE", default_value = "scratch")]
    pub(crate) from: String,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar init --backend slurm --laminar ~/src/laminar
  laminar init --backend slurm my-backend --laminar https://example.org/laminar.git

The crate is a program with laminar's whole command line and one backend more, which passes the conformance kit from the start: `cargo test`. Its layers are processes that a program of your choice launches. Prints the folder.")]
pub(crate) struct InitArgs {
    /// What the backend is called: what `--backend` will take
    #[arg(short, long, value_name = "NAME")]
    pub(crate) backend: String,
    /// The folder, which must be empty or not there [default: `laminar-NAME`]
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Where cargo finds laminar: a clone of it on this machine, or the address of its repository
    #[arg(long, value_name = "WHERE")]
    pub(crate) laminar: Option<std::ffi::OsString>,
}

/// `-o docker.network=none`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Whose option it is, if it says.
    pub(crate) backend: Option<String>,
    /// The option.
    pub(crate) name: String,
    /// The value.
    pub(crate) value: String,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backend = self.backend.as_ref().map(|name| format!("{name}.")).unwrap_or_default();
        write!(f, "{backend}{}={}", self.name, self.value)
    }
}

fn setting(text: &str) -> Result<Setting, String> {
    let wanted = "write `name=value` or `backend.name=value`";
    let (key, value) = text.split_once('=').ok_or(wanted)?;
    let (backend, name) = key.split_once('.').map_or((None, key), |(backend, name)| (Some(backend), name));
    if name.is_empty() || backend == Some("") {
        return Err(wanted.to_owned());
    }
    Ok(Setting { backend: backend.map(str::to_owned), name: name.to_owned(), value: value.to_owned() })
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  laminar completions bash > ~/.local/share/bash-completion/completions/laminar
  laminar completions zsh > ~/.zfunc/_laminar
  laminar completions fish > ~/.config/fish/completions/laminar.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// `--durability`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// Syncs happen beside the execution, in groups
    Group,
    /// Every step waits until it is on the disk
    Strict,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Durability {
        match arg {
            DurabilityArg::Group => Durability::Group,
            DurabilityArg::Strict => Durability::Strict,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        CommandLineArgs::command().debug_assert();
    }

    #[test]
    fn common_options_stand_before_or_after_the_subcommand() {
        for words in [["laminar", "--json", "--root", "x", "list"], ["laminar", "list", "--root", "x", "--json"]] {
            let args = CommandLineArgs::try_parse_from(words).unwrap();
            assert!(args.common.json);
            assert_eq!(args.common.root, PathBuf::from("x"));
        }
    }

    #[test]
    fn every_command_has_examples() {
        for command in CommandLineArgs::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_help().to_string();
            assert!(help.contains(&format!("Examples:\n  laminar {name}")), "{name}:\n{help}");
            let long = command.render_long_help().to_string();
            assert!(long.contains(&format!("Examples:\n  laminar {name}")), "{name}:\n{long}");
        }
    }

    #[test]
    fn the_long_help_lists_the_exit_codes() {
        let help = CommandLineArgs::command().render_long_help().to_string();
        assert!(help.contains("130  the execution was cancelled"), "{help}");
    }

    #[test]
    fn an_option_may_name_its_backend() {
        let said = |text: &str| setting(text).map(|said| (said.backend, said.name, said.value)).unwrap();
        assert_eq!(said("network=a.b=c"), (None, "network".into(), "a.b=c".into()));
        assert_eq!(said("docker.host=unix:///x"), (Some("docker".into()), "host".into(), "unix:///x".into()));
        assert_eq!(said("docker.host=").2, "");
        assert_eq!(setting("docker.host=unix:///x").unwrap().to_string(), "docker.host=unix:///x");
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["laminar", "run", "--jobs", "0"][..],
            &["laminar", "run", "--cpu", "many"],
            &["laminar", "run", "--parameter", "x"],
            &["laminar", "-q", "-v", "list"],
            &["laminar", "cat"],
            &["laminar", "run", "--jobs", "-1"],
            &["laminar", "run", "-o", "network"],
            &["laminar", "run", "-o", ".network=none"],
            &["laminar", "backends", "-o", "docker.=none"],
        ] {
            assert!(CommandLineArgs::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}

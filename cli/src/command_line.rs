//! The command line from its words to its exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use laminar_core::folder::Root;

use crate::args::{Command, CommandLineArgs, Common};
use crate::backends::{self, Backend};
use crate::command;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::init;
use crate::invocation::Invocation;
use crate::output::{Output, Shape, Verbosity};
use crate::program::{self, Flow, Program};
use crate::text::visible;

/// A command line with its backends.
#[derive(Debug)]
pub struct CommandLine {
    backends: Vec<Backend>,
    program: Option<Arc<Program>>,
}

impl Default for CommandLine {
    fn default() -> CommandLine {
        CommandLine::new()
    }
}

impl CommandLine {
    /// The stock command line with the built-in backends.
    #[must_use]
    pub fn new() -> CommandLine {
        CommandLine { backends: backends::built_in(), program: None }
    }

    /// The same with one more backend. One with the name of another takes its place.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> CommandLine {
        self.backends.retain(|other| other.name != backend.name);
        self.backends.push(backend);
        self
    }

    /// The command line of a flow program: commands that take a flow file take this flow instead. See [`crate::main`].
    #[must_use]
    pub fn flow(self, flow: Flow) -> CommandLine {
        CommandLine { program: Some(Arc::new(Program::new(&flow))), ..self }
    }

    /// Reads the process's arguments, does what they say, and returns how the process is to exit. To be called first of
    /// all, from the process's only thread.
    #[must_use]
    pub fn main(self) -> ExitCode {
        for backend in &self.backends {
            if let Some(code) = backend.entry.and_then(|entry| entry()) {
                return code;
            }
        }
        if let Some(code) = self.program.as_deref().and_then(program::evaluate) {
            return code;
        }
        if let Some(code) = init::serve() {
            return code;
        }
        let matches = match definition_for(self.program.as_deref()).try_get_matches() {
            Ok(matches) => matches,
            Err(error) => return refuse(error),
        };
        let args = match CommandLineArgs::from_arg_matches(&matches) {
            Ok(args) => args,
            Err(error) => return refuse(error),
        };
        let root_was_said = matches.value_source("root") == Some(ValueSource::CommandLine);
        self.act(&args, root_was_said).into()
    }

    fn act(&self, args: &CommandLineArgs, root_was_said: bool) -> Code {
        let mut output = output(&args.common);
        let root = match Root::new(&args.common.root) {
            Ok(root) => root,
            Err(error) => {
                let error = Error::usage("cannot use `--root`").why(error.to_string());
                output.error(&error);
                return error.code();
            }
        };
        let invocation = Invocation::new(&program_name(), root_was_said.then_some(args.common.root.as_path()));
        let mut context =
            Context { output, root, invocation, backends: &self.backends, program: self.program.as_ref() };
        let done = dispatch(&mut context, &args.command);
        let flushed = context.output.flush();
        match done.and_then(|code| flushed.map(|()| code)) {
            Ok(code) => code,
            Err(error) => {
                context.output.error(&error);
                error.code()
            }
        }
    }
}

fn dispatch(context: &mut Context<'_>, command: &Command) -> Result<Code, Error> {
    if let Command::Run(_) | Command::Resume(_) | Command::Cancel(_) | Command::Gc(_) | Command::Rm(_) = command {
        context.trust_root()?;
    }
    match command {
        Command::Run(args) => command::run::run(context, args),
        Command::Resume(args) => command::resume::run(context, args),
        Command::Cancel(args) => command::cancel::run(context, args),
        Command::Check(args) => command::check::run(context, args),
        Command::Plan(args) => command::plan::run(context, args),
        Command::List => command::list::run(context),
        Command::Status(args) => command::status::run(context, args),
        Command::Logs(args) => command::logs::run(context, args),
        Command::Why(args) => command::why::run(context, args),
        Command::Artifacts(args) => command::artifacts::run(context, args),
        Command::Cat(args) => command::cat::run(context, args),
        Command::Backends(args) => command::backends::run(context, args),
        Command::Init(args) => command::init::run(context, args),
        Command::Gc(args) => command::gc::run(context, args),
        Command::Rm(args) => command::gc::remove(context, args),
        Command::Image(args) => command::image::run(context, args),
        Command::Schema => command::schema::run(context),
        Command::Completions(args) => {
            command::completions::run(context, args, &mut definition_for(context.program.map(|program| &**program)))
        }
    }
}

/// The definition for this environment: a variable that is set to nothing counts as not set, as shells mean it.
fn definition(variable: impl Fn(&str) -> Option<OsString>) -> clap::Command {
    let is_empty = |name: &str| variable(name).is_some_and(|value| value.is_empty());
    let mut command = CommandLineArgs::command();
    if is_empty("LAMINAR_ROOT") {
        command = command.mut_arg("root", |arg| arg.env(Resettable::Reset));
    }
    if is_empty("LAMINAR_BACKEND") {
        command = command.mut_subcommand("run", |run| run.mut_arg("backend", |arg| arg.env(Resettable::Reset)));
    }
    command
}

/// The definition for this environment, of laminar or of a flow program.
fn definition_for(program: Option<&Program>) -> clap::Command {
    let definition = definition(|name| std::env::var_os(name));
    match program {
        Some(program) => definition_of(definition, program),
        None => definition,
    }
}

/// The definition for a flow program: there is no flow file to name, and an image that holds the program.
fn definition_of(definition: clap::Command, program: &Program) -> clap::Command {
    let of_program =
        |command: clap::Command| in_image(command.mut_arg("file", |file| file.hide(true).value_parser(refuse_file)));
    let name = program_name();
    // What to type is to be typed so.
    let examples = move |command: clap::Command| {
        let typed = |text: String| {
            text.replace("  laminar ", &format!("  {name} "))
                .replace(" digits.yaml", "")
                .replace("in ./flow.yaml", "in the flow")
        };
        let (after, long) =
            (command.get_after_help().map(ToString::to_string), command.get_after_long_help().map(ToString::to_string));
        let command = match after {
            Some(text) => command.after_help(typed(text)),
            None => command,
        };
        match long {
            Some(text) => command.after_long_help(typed(text)),
            None => command,
        }
    };
    examples(definition)
        .mut_subcommands(&examples)
        .bin_name(program_name())
        .display_name(program_name())
        .about(format!("The flow `{}`, and all that runs it", program.name()))
        .mut_subcommand("run", of_program)
        .mut_subcommand("check", of_program)
        .mut_subcommand("plan", of_program)
        .mut_subcommand("resume", in_image)
        .mut_subcommand("image", |image| image.hide(false))
        .mut_subcommand("schema", |schema| schema.hide(true))
        .mut_subcommand("init", |init| init.hide(true))
}

/// The definition with where the program is among images.
fn in_image(command: clap::Command) -> clap::Command {
    command.mut_arg("image", |image| image.hide(false)).mut_arg("program", |path| path.hide(false))
}

/// Whoever names a flow file has another program in mind.
fn refuse_file(_: &str) -> Result<std::path::PathBuf, String> {
    Err("this program has its flow in it, and runs no flow file".to_owned())
}

/// What clap has to say: help and version, or what is wrong with the arguments.
fn refuse(mut error: clap::Error) -> ExitCode {
    // "Use `-- -n`" helps nobody who looks for an option that does not exist.
    if error.kind() == ErrorKind::UnknownArgument {
        error.remove(ContextKind::Suggested);
    }
    // What it repeats of the arguments may be anybody's words.
    let printed = if error.use_stderr() { tell(&error) } else { error.print() };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = Error::from(error);
            Output::standard(Shape::Text, Verbosity::Normal).error(&error);
            error.code().into()
        }
        _ if error.use_stderr() => Code::Usage.into(),
        _ => Code::Finished.into(),
    }
}

/// Writes to standard error what is wrong with the arguments.
fn tell(error: &clap::Error) -> io::Result<()> {
    let talk = io::stderr();
    let styled = error.render();
    let text = if talk.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        styled.ansi().to_string()
    } else {
        styled.to_string()
    };
    let text = if talk.is_terminal() { visible::but_colours(&text) } else { text };
    talk.lock().write_all(text.as_bytes())
}

fn output(common: &Common) -> Output {
    let verbosity = match (common.quiet, common.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    Output::standard(if common.json { Shape::Json } else { Shape::Text }, verbosity)
}

/// The name this program was called by.
fn program_name() -> String {
    let name = std::env::args_os().next();
    let name = name.as_deref().map(Path::new).and_then(Path::file_name);
    name.map_or_else(|| "laminar".to_owned(), |name| name.to_string_lossy().into_owned())
}

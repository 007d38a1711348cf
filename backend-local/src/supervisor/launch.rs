//! Turns a request to start a task into a child process.
//!
//! Holds what all tasks share: the base environment, `/dev/null`, the search for programs. A program that cannot be
//! executed is an [`Exit`] with what was looked at; unaware of what is done with it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use laminar_core::executor::{Cause, Exit, Usage};
use rustix::pipe::{PipeFlags, pipe_with};

use super::first::{self, Control};
use super::lookup::Lookup;
use super::plain;
use super::sys::{self, Given, Order, SpawnError, Stack};

/// A child, and both ends of the pipe it writes to.
///
/// The end for writing is kept open: so the pipe never ends by itself, a process that opens `/dev/stderr` anew always
/// finds it, and it is closed when the task is over and the pipe has been emptied.
pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) output: OwnedFd,
    /// The way to the task's own first process, where the child is only what has launched that.
    pub(super) control: Option<Control>,
    /// Whether it is what a shell would have started: then it ends as that would have.
    pub(super) spares_shell: bool,
    _input: OwnedFd,
}

/// What starts children.
pub(super) struct Spawner {
    stack: Stack,
    null: File,
    base: Vec<CString>,
    files: Option<libc::rlimit>,
    nice: i32,
    lookup: Lookup,
    /// This very program, once it was handed to a child.
    program: Option<OwnedFd>,
}

impl Spawner {
    /// Takes this process's environment as the base of all tasks, less every variable of an outer execution.
    pub(super) fn new(nice: i32) -> io::Result<Spawner> {
        let variables = std::env::vars_os().filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"LAMINAR_"));
        let base = variables.filter_map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            CString::new(entry).ok()
        });
        Ok(Spawner {
            stack: Stack::new()?,
            null: File::open("/dev/null")?,
            base: base.collect(),
            files: sys::raise_file_limit(),
            nice,
            lookup: Lookup::default(),
            program: None,
        })
    }

    /// Starts a program. Both lists are of strings that end in NUL, as they came over the wire; `env` comes on top of the
    /// base. `launches`: it is the command of a [launcher](crate::Launcher), and not the task itself.
    pub(super) fn launch(&mut self, argv: &[&[u8]], env: &[&[u8]], launches: bool) -> Result<Child, Exit> {
        match launches {
            false => self.start(argv, env, None),
            true => self.launch_first(argv, env).map_err(|refused| exit(Cause::EngineFailed, refused.evidence)),
        }
    }

    fn launch_first(&mut self, argv: &[&[u8]], env: &[&[u8]]) -> Result<Child, Exit> {
        let failed = |error: io::Error| exit(Cause::EngineFailed, format!("cannot launch anything: {error}"));
        let program = match self.program.take() {
            Some(program) => program,
            None => first::program().map_err(failed)?,
        };
        let (control, theirs) = Control::new().map_err(failed)?;
        let child = self.start(argv, env, Some([theirs.as_fd(), program.as_fd()]));
        self.program = Some(program);
        child.map(|child| Child { control: Some(control), ..child })
    }

    fn start(&mut self, argv: &[&[u8]], env: &[&[u8]], handed: Option<[BorrowedFd<'_>; 2]>) -> Result<Child, Exit> {
        let (argv, env) = match (terminated(argv), terminated(env)) {
            (Some(argv), Some(env)) if !argv.is_empty() => (argv, env),
            _ => return Err(exit(Cause::NotExecutable, "an argument or a variable holds a NUL byte".to_owned())),
        };
        let (reader, writer) =
            pipe().map_err(|error| exit(Cause::EngineFailed, format!("cannot make a pipe: {error}")))?;
        let env = over(&self.base, &env);
        let handed = handed.as_ref().map_or(&[][..], |handed| handed.as_slice());
        let (files, nice) = (self.files, self.nice);
        let given = Given { stdin: self.null.as_fd(), output: writer.as_fd(), handed, files, nice };
        let spared = spawn_plain(&self.stack, &mut self.lookup, &argv, &env, &given);
        let pid = match spared {
            Some(pid) => pid,
            None => spawn(&self.stack, &mut self.lookup, &argv, &env, &given)?,
        };
        Ok(Child { pid, output: reader, control: None, spares_shell: spared.is_some(), _input: writer })
    }
}

/// Starts the program that is all of a script, if it is no more than that. What cannot be started is for the shell to tell.
fn spawn_plain(stack: &Stack, lookup: &mut Lookup, argv: &[&CStr], env: &[&CStr], given: &Given<'_>) -> Option<i32> {
    let words = plain::words(argv, env)?;
    let argv: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let program = lookup.find(argv[0], Some(search_path(env)?)).ok()?;
    sys::spawn(stack, &Order { program: &program, argv: &argv, env, given }).ok()
}

/// Finds the program, and starts it.
pub(super) fn spawn(
    stack: &Stack,
    lookup: &mut Lookup,
    argv: &[&CStr],
    env: &[&CStr],
    given: &Given<'_>,
) -> Result<i32, Exit> {
    let Some(name) = argv.first() else { return Err(exit(Cause::NotFound, "there is no program".to_owned())) };
    let path = search_path(env);
    for last in [false, true] {
        let program = lookup.find(name, path).map_err(|(cause, evidence)| exit(cause, evidence))?;
        match sys::spawn(stack, &Order { program: &program, argv, env, given }) {
            Ok(pid) => return Ok(pid),
            // What was found earlier may have moved since.
            Err(SpawnError::Exec(libc::ENOENT)) if !last => lookup.clear(),
            Err(SpawnError::Exec(errno)) => return Err(refused(errno, &program, argv, env)),
            Err(SpawnError::Clone(error)) => {
                return Err(exit(Cause::EngineFailed, format!("cannot make a process: {error}")));
            }
        }
    }
    Err(exit(Cause::NotFound, "it went away while it was started".to_owned()))
}

/// Where programs are.
fn search_path<'a>(env: &[&'a CStr]) -> Option<&'a [u8]> {
    env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="))
}

fn terminated<'a>(texts: &[&'a [u8]]) -> Option<Vec<&'a CStr>> {
    texts.iter().map(|text| CStr::from_bytes_with_nul(text).ok()).collect()
}

/// The base with `env` on top; the last of equal names counts. An entry without `=` takes its name away.
fn over<'a>(base: &'a [CString], env: &[&'a CStr]) -> Vec<&'a CStr> {
    fn name(entry: &CStr) -> &[u8] {
        entry.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
    }
    // The protocol's variables are not in the base, so most tasks have nothing to replace.
    let declared: Vec<&[u8]> =
        env.iter().map(|entry| name(entry)).filter(|name| !name.starts_with(b"LAMINAR_")).collect();
    let mut whole = Vec::with_capacity(base.len() + env.len());
    whole.extend(
        base.iter().map(CString::as_c_str).filter(|entry| declared.is_empty() || !declared.contains(&name(entry))),
    );
    for (at, entry) in env.iter().enumerate() {
        let is_said = entry.to_bytes().contains(&b'=');
        if is_said && !env[at + 1..].iter().any(|later| name(later) == name(entry)) {
            whole.push(entry);
        }
    }
    whole
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // Only our side must not block; both share flags when the pipe is made with them.
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

pub(super) fn exit(cause: Cause, evidence: String) -> Exit {
    Exit { cause, evidence, usage: Usage::default() }
}

fn refused(errno: i32, program: &CStr, argv: &[&CStr], env: &[&CStr]) -> Exit {
    let shown = program.to_string_lossy();
    let there = std::fs::metadata(shown.as_ref());
    let (cause, evidence) = match errno {
        libc::ENOENT if there.is_ok() => {
            let evidence = format!("`{shown}` is there, but the interpreter or loader that it names is not");
            (Cause::NotFound, evidence)
        }
        libc::ENOENT | libc::ENOTDIR => (Cause::NotFound, format!("there is no `{shown}`{}", seen_from(&shown))),
        libc::EACCES if there.is_ok_and(|it| it.is_dir()) => (Cause::NotExecutable, format!("`{shown}` is a folder")),
        libc::ENOEXEC => {
            let hint = "it is neither a program for this machine nor a script that begins with `#!`";
            (Cause::NotExecutable, format!("`{shown}` cannot be executed: {hint}"))
        }
        libc::E2BIG => {
            let sizes = || argv.iter().chain(env).map(|text| text.to_bytes_with_nul().len());
            let (total, longest) = (sizes().sum::<usize>(), sizes().max().unwrap_or_default());
            let evidence = format!(
                "the arguments and variables are too much for the kernel: {total} bytes, the longest {longest} \
                 (each may have 131072); hand over large values as files"
            );
            (Cause::NotExecutable, evidence)
        }
        _ => {
            let error = io::Error::from_raw_os_error(errno);
            (Cause::NotExecutable, format!("`{shown}` cannot be executed: {error}"))
        }
    };
    exit(cause, evidence)
}

fn seen_from(program: &str) -> String {
    match std::env::current_dir() {
        Ok(folder) if !program.starts_with('/') => format!(" in `{}`", folder.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_names_counts_and_replaces_the_base() {
        let base = [c"PATH=/bin".to_owned(), c"HOME=/root".to_owned(), c"PATHS=1".to_owned()];
        let env = [c"A=1", c"PATH=/x", c"A=2=3", c"LAMINAR_LAYER_INDEX=0"];
        let whole = over(&base, &env);
        assert_eq!(whole, [c"HOME=/root", c"PATHS=1", c"PATH=/x", c"A=2=3", c"LAMINAR_LAYER_INDEX=0"]);
        let withheld = [c"HOME", c"PATH", c"NONE", c"PATH=/flow"];
        assert_eq!(over(&base, &withheld), [c"PATHS=1", c"PATH=/flow"]);
    }
}

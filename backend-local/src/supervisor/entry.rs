//! How a supervisor comes into being: the hidden mode of the program that holds a [`LocalExecutor`](crate::LocalExecutor).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use rustix::event::epoll;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::family::{self, Family};
use super::journal::{Journal, Past};
use super::launch::Spawner;
use super::line::Line;
use super::{FIRST_CONTACT, Record, Supervisor, first, json, lost, sys};

/// The first argument of a supervisor; nobody types it.
pub(crate) const MARKER: &str = "__laminar_supervise";

/// What a supervisor is called in lists of processes. The kernel keeps 15 bytes.
const NAME: &std::ffi::CStr = c"laminar-super";

/// How a supervisor leaves that found another one at work.
pub(crate) const BUSY: u8 = 75;

/// Where a supervisor works.
struct Place {
    /// Its own folder.
    private: PathBuf,
    /// The working folder of all tasks.
    workdir: PathBuf,
    /// The execution.
    execution: String,
    /// How nice its tasks are.
    nice: i32,
}

/// Becomes a supervisor, or the first process of a task that a [launcher](crate::Launcher) has launched, if the arguments,
/// without the program's own name, say so; returns `None` if they do not.
///
/// A `main` calls this first of all, before it opens a file, starts a thread or makes a runtime:
///
/// ```no_run
/// # fn main() -> std::process::ExitCode {
/// if let Some(code) = laminar_backend_local::supervise(std::env::args_os().skip(1)) {
///     return code;
/// }
/// # std::process::ExitCode::SUCCESS
/// # }
/// ```
pub fn supervise(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match args.next()? {
        marker if marker == MARKER => {}
        marker if marker == first::MARKER => return Some(first::be(args)),
        _ => return None,
    }
    let (Some(private), Some(workdir), Some(execution)) = (args.next(), args.next(), args.next()) else {
        return Some(ExitCode::from(2));
    };
    let execution = execution.to_string_lossy().into_owned();
    let nice = args.next().and_then(|nice| nice.to_str()?.parse().ok()).unwrap_or(0);
    let place = Place { private: private.into(), workdir: workdir.into(), execution, nice };
    Some(enter(&place).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "cannot supervise: {error}");
        ExitCode::FAILURE
    }))
}

/// The process that was started returns as soon as its child, the supervisor, can be connected to.
fn enter(place: &Place) -> io::Result<ExitCode> {
    sys::close_inherited(3);
    let (mut ready, told) = io::pipe()?;
    if let sys::Side::Starter = sys::detach()? {
        drop(told);
        let mut code = [1];
        let _ = ready.read(&mut code)?;
        return Ok(ExitCode::from(code[0]));
    }
    drop(ready);
    rustix::process::setsid()?;
    if place.nice > 0 {
        // Where the kernel groups sessions for scheduling, niceness counts within the session only; so the group has one too.
        let _ = std::fs::write("/proc/self/autogroup", place.nice.to_string());
    }
    let _ = rustix::thread::set_name(NAME); // for `ps` and `top` only
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::env::set_current_dir(&place.workdir).map_err(|error| at(error, "enter", &place.workdir))?;
    let folder = rustix::fs::open(&place.private, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| at(error.into(), "open", &place.private))?;
    let inside = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(inside.join("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let _ = (&told).write(&[BUSY]);
        return Ok(ExitCode::from(BUSY));
    }
    let mut supervisor = prepare(place, &folder, &inside.join("socket"))?;
    (&told).write_all(&[0])?;
    drop(told);
    let result = supervisor.run();
    // Whoever connects from now on finds nobody, and starts a successor, who waits for the lock.
    let _ = std::fs::remove_file(inside.join("socket"));
    result.map(|()| ExitCode::SUCCESS)
}

fn prepare(place: &Place, folder: &OwnedFd, socket: &Path) -> io::Result<Supervisor> {
    let signals = sys::hear_of_children()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let (mut journal, past) = Journal::open(folder, boot.trim())?;
    let records = take_over(past, boot.trim(), &mut journal, &place.execution)?;
    let spawner = Spawner::new(place.nice)?;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error, "remove", socket)),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // Whatever is asked for by the umask. Until now the folder alone has kept others away.
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(Supervisor {
        execution: place.execution.clone(),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listener,
        signals,
        peer: None,
        journal,
        spawner,
        family: Family::new(),
        records,
        live: Vec::new(),
        free: Vec::new(),
        by_pid: HashMap::new(),
        line: Line::default(),
        ending: 0,
        buffer: vec![0; 64 * 1024],
        patience: Some(Instant::now() + FIRST_CONTACT),
        eager: None,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Ends what an earlier supervisor left behind, and puts on record what cannot be known any more.
fn take_over(past: Past, boot: &str, journal: &mut Journal, execution: &str) -> io::Result<HashMap<Box<str>, Record>> {
    let same_boot = past.boot.as_deref() == Some(boot);
    let open = past.open();
    if same_boot && !open.is_empty() {
        family::sweep(execution, &open)?;
    }
    drop(open);
    let end = if same_boot { "its supervisor was killed, and it with it" } else { "the machine was restarted" };
    let mut records = HashMap::with_capacity(past.tasks.len());
    for (name, exit) in past.tasks {
        let record = match exit {
            Some(exit) if exit.cause == laminar_core::executor::Cause::Lost => Record::Gone(json(&exit)),
            Some(exit) => Record::Over(json(&exit)),
            None => {
                let json = json(&lost(end));
                journal.exited(&name, &json);
                Record::Gone(json)
            }
        };
        records.insert(name, record);
    }
    let _ = journal.flush(); // tried again by the loop
    Ok(records)
}

fn at(error: io::Error, verb: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {verb} `{}`: {error}", path.display()))
}

/// The file that the supervisor's own errors go to.
pub(crate) fn errors(private: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(private.join("supervisor.err"))
}

//! A world for one end-to-end test: a folder of its own, the program, and short words to use them.
//!
//! What is not expected must be empty: a [`Ran`] is checked for its exit code, and its streams are there to be compared.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test that cannot go on panics, and says why")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A folder of its own with the program beside it.
pub struct World {
    folder: tempfile::TempDir,
    program: PathBuf,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; 128 + n for signal n.
    pub code: i32,
    /// Standard output, lossily as text.
    pub stdout: String,
    /// Standard error, lossily as text.
    pub stderr: String,
    /// Standard output as it was.
    pub bytes: Vec<u8>,
}

impl World {
    /// A new world for this program.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> World {
        World { folder: tempfile::tempdir().unwrap(), program: program.into() }
    }

    /// The folder: the current folder of every run.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file's text.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The program with these arguments, not started yet.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        hears(&mut command);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LAMINAR_") {
                command.env_remove(name);
            }
        }
        // What other tests reserve of the machine is no matter of this one.
        command.env("LAMINAR_SHARES", self.path().join(".shares"));
        command
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// Starts the program, with its output kept for [`finish`].
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until a file of this world has some content, and returns it.
    #[must_use]
    pub fn wait_for_file(&self, name: &str) -> String {
        let path = self.path().join(name);
        eventually(&format!("{name} is written"), || {
            std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty())
        })
    }

    /// Processes of the execution that live in this world's folder: those that carry its path in their environment.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        processes_with(self.path().as_os_str().as_encoded_bytes())
    }

    /// Waits until nothing of this world is alive.
    pub fn is_quiet(&self) {
        let mut left = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            left = self.processes();
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still alive: {left:?}");
    }
}

impl Ran {
    /// Panics unless it exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Panics unless standard error contains all of this.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Ran {
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in:\n{}", self.stderr);
        }
        self
    }

    /// Standard output as one JSON document.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Standard output as JSON lines.
    #[must_use]
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The program hears signals, even where whoever runs the tests has them ignored (`nohup`, a script's background job): what
/// is ignored is inherited, and laminar leaves it so.
#[expect(unsafe_code, reason = "the standard library has no word for it")]
fn hears(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: `signal` may be called between fork and exec, and the closure does nothing else.
    unsafe {
        command.pre_exec(|| {
            for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(number, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// The same command under this umask.
#[expect(unsafe_code, reason = "the standard library has no word for it")]
#[must_use]
pub fn under(umask: u32, mut command: Command) -> Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: `umask` may be called between fork and exec, and the closure does nothing else.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask);
            Ok(())
        });
    }
    command
}

/// The same command with so much memory of its own at most, in bytes.
#[expect(unsafe_code, reason = "the standard library has no word for it")]
#[must_use]
pub fn within(most: u64, mut command: Command) -> Command {
    use rustix::process::{Resource, Rlimit, setrlimit};
    use std::os::unix::process::CommandExt;
    let limit = move || setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: Some(most) });
    // SAFETY: `setrlimit` may be called between fork and exec, and the closure does nothing else.
    unsafe {
        command.pre_exec(move || Ok(limit()?));
    }
    command
}

/// Waits for a program that was started.
#[must_use]
pub fn finish(child: Child) -> Ran {
    ran(child.wait_with_output().unwrap())
}

fn ran(output: Output) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    Ran {
        code,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        bytes: output.stdout,
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names and numbers of processes that are alive and carry this text in their environment or their arguments.
#[must_use]
pub fn processes_with(marker: &[u8]) -> Vec<String> {
    let found = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        let carries = |file: &str| {
            let text = std::fs::read(path.join(file)).unwrap_or_default();
            text.windows(marker.len()).any(|window| window == marker)
        };
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let zombie = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        (!zombie && (carries("environ") || carries("cmdline"))).then(|| stat.split(") ").next().unwrap().to_owned())
    });
    found.collect()
}

/// Sends a signal to a program that was started.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

//! Which container engines there are for tests, and as whom they are driven.
//!
//! An engine is known by its column: `docker`, `podman` (as root), `podman-rootless`. When root runs the tests, a rootless
//! engine needs another user: the test program then starts itself once more as that user, see [`OtherUser`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::gaps;

/// Set in a test program that runs as another user: the program under test is its standard input.
const ON_STDIN: &str = "LAMINAR_TEST_PROGRAM_ON_STDIN";

/// Where the tests of an engine run.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this very process.
    Here,
    /// In a process of this user.
    As(OtherUser),
    /// Nowhere, for this reason.
    Nowhere(String),
}

/// Where the tests of this engine run; found out once, and put on record if it is nowhere.
///
/// # Panics
/// If it is nowhere, and required.
#[must_use]
pub fn place(engine: &str) -> Place {
    static PLACES: Mutex<Option<HashMap<String, Place>>> = Mutex::new(None);
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let places = places.get_or_insert_with(HashMap::new);
    let place = places.entry(engine.to_owned()).or_insert_with(|| {
        let place = look(engine);
        if let Place::Nowhere(why) = &place {
            gaps::skip(engine, why);
        }
        place
    });
    let place = place.clone();
    if let Place::Nowhere(why) = &place {
        assert!(!gaps::is_required(engine), "{engine} is required: {why}");
    }
    place
}

/// Looks for every engine that is required, before any test begins.
///
/// # Panics
/// If one is nowhere.
pub fn look_for_required() {
    // Another user's process has one engine, which was found before it was started.
    if std::env::var_os(ON_STDIN).is_none() {
        let required = ["docker", "podman", "podman-rootless"].into_iter().filter(|engine| gaps::is_required(engine));
        required.for_each(|engine| drop(place(engine)));
    }
}

/// The image that tests use, which `tests/engines up` makes; without it no engine is known to be fit for tests.
#[must_use]
pub fn image() -> String {
    std::env::var("LAMINAR_TEST_IMAGE").unwrap_or_default()
}

fn look(engine: &str) -> Place {
    if image().is_empty() {
        return Place::Nowhere("LAMINAR_TEST_IMAGE is not set; see tests/engines".to_owned());
    }
    let root = rustix::process::geteuid().is_root();
    let (place, command) = match (engine, root) {
        ("docker", _) => (Place::Here, Command::new("docker")),
        ("podman", true) | ("podman-rootless", false) => (Place::Here, Command::new("podman")),
        ("podman", false) => return Place::Nowhere("not root: podman is rootless here".to_owned()),
        ("podman-rootless", true) => match OtherUser::of_tests() {
            Ok(user) => (Place::As(user.clone()), user.command("podman")),
            Err(why) => return Place::Nowhere(why),
        },
        _ => return Place::Nowhere("no such engine".to_owned()),
    };
    let mut command = command;
    match command.args(["image", "inspect", &image()]).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => place,
        Ok(output) => Place::Nowhere(format!("no image {}: {}", image(), String::from_utf8_lossy(&output.stderr))),
        Err(error) => Place::Nowhere(error.to_string()),
    }
}

/// An ordinary user for what root cannot do as itself.
#[derive(Clone, Debug)]
pub struct OtherUser {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    runtime: String,
}

impl OtherUser {
    /// The one that `tests/engines up` makes.
    ///
    /// # Errors
    /// If there is none; why.
    pub fn of_tests() -> Result<OtherUser, String> {
        let said = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set; see tests/engines"));
        let (name, runtime) = (said("LAMINAR_TEST_USER")?, said("LAMINAR_TEST_USER_RUNTIME")?);
        let passwd = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let missing = || format!("/etc/passwd has no user {name}");
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|it| it[0] == name);
        let fields = fields.ok_or_else(missing)?;
        let (Some(Ok(uid)), Some(Ok(gid)), Some(home)) =
            (fields.get(2).map(|it| it.parse()), fields.get(3).map(|it| it.parse()), fields.get(5))
        else {
            return Err(missing());
        };
        Ok(OtherUser { home: (*home).to_owned(), name, uid, gid, runtime })
    }

    /// A program as this user, in an environment of the user's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.uid(self.uid).gid(self.gid).current_dir("/").env_clear();
        command.env("HOME", &self.home).env("USER", &self.name).env("XDG_RUNTIME_DIR", &self.runtime);
        let kept = |name: &str| {
            ["PATH", "CONTAINERS_CONF", "RUST_BACKTRACE"].contains(&name) || name.starts_with("LAMINAR_TEST_")
        };
        command.envs(std::env::vars().filter(|(name, _)| kept(name)));
        command
    }

    /// This test program once more, as this user, with the program under test.
    ///
    /// The user may not be able to reach either where they lie. What is open can be executed whoever may reach it: the test
    /// program as what this process is, and the program under test as standard input, which [`program`] takes.
    ///
    /// # Panics
    /// If there is no program under test.
    #[must_use]
    pub fn this_test(&self, program: &str) -> Command {
        let file = File::open(program).unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut command = self.command("/proc/self/exe");
        command.env(ON_STDIN, "1").stdin(file);
        command
    }
}

/// Where the program under test is, for whoever runs this test program.
///
/// # Panics
/// If this process should have got it as standard input, and did not.
#[must_use]
pub fn program(built: &str) -> PathBuf {
    static TAKEN: OnceLock<File> = OnceLock::new();
    if std::env::var_os(ON_STDIN).is_none() {
        return PathBuf::from(built);
    }
    let taken = TAKEN.get_or_init(|| {
        // Not as it is: children get another standard input.
        let copy = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3);
        File::from(copy.unwrap_or_else(|error| panic!("no program on standard input: {error}")))
    });
    PathBuf::from(format!("/proc/self/fd/{}", taken.as_raw_fd()))
}

//! One execution's connection to its supervisor, and what is known through it.
//!
//! A link is shared by everyone who calls a verb, and served by one task of the runtime, which writes what has gathered
//! and reads what comes. Every request may be made again: so when the supervisor dies, the link starts a successor, who
//! first ends what the dead one left, and asks it the same questions; what ran is then *gone*. Unaware of tasks' contents:
//! requests are frames that others have made.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use laminar_core::executor::{ExecutorError, Exit, Session};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use crate::supervisor::{BUSY, MARKER, errors};
use crate::wire::{Frame, Inbox, Kind, Malformed, Received, State, VERSION};

/// The other side, in messages.
const PEER: &str = "supervisor";
/// How long a supervisor may take to answer when it is new.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many that say they listen may be started before one does; more and the program is no supervisor.
const LAUNCHES: u32 = 10;
/// How many supervisors may die in a row, without an answer in between, before that is an error.
const DEATHS: u32 = 3;

/// What a supervisor replied.
#[derive(Debug)]
pub(crate) enum Reply {
    /// What it knows of a task.
    Found(State),
    /// It is done.
    Done,
    /// The names of all tasks.
    Names(Vec<String>),
    /// It could not be done.
    Failed(String),
}

/// A request that was not answered yet.
struct Pending {
    frame: Vec<u8>,
    reply: Option<oneshot::Sender<Reply>>,
    /// The task that the reply is about.
    task: Option<Box<str>>,
}

/// A task that this process knows of.
#[derive(Default)]
struct Slot {
    /// Whether a supervisor has said that it runs.
    runs: bool,
    exit: Option<Exit>,
    waiters: Vec<oneshot::Sender<Exit>>,
}

#[derive(Default)]
struct Held {
    /// What is to be written.
    outbox: Vec<u8>,
    pending: BTreeMap<u32, Pending>,
    tasks: HashMap<Box<str>, Slot>,
    seq: u32,
    deaths: u32,
    /// Why nothing can be asked.
    broken: Option<String>,
    /// Whether it is broken for good.
    closed: bool,
}

/// What becomes a supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The file.
    pub(crate) path: PathBuf,
    /// How nice its tasks are.
    pub(crate) nice: u8,
    /// Whose tasks they are: the name of the backend, and of its folder.
    pub(crate) backend: &'static str,
}

/// The link.
pub(crate) struct Link {
    session: Session,
    program: Program,
    held: Mutex<Held>,
    kick: Notify,
}

/// How a connection ended.
enum End {
    /// The supervisor is gone.
    Lost,
    /// Another scheduler has taken over.
    Superseded,
}

/// Where one waits for an exit, or the exit itself.
pub(crate) enum Waiting {
    /// It is over.
    Over(Exit),
    /// It runs.
    Until(oneshot::Receiver<Exit>),
    /// Nobody has asked for it yet.
    Unknown,
}

impl Link {
    pub(crate) fn new(session: Session, program: Program) -> Link {
        Link { session, program, held: Mutex::default(), kick: Notify::new() }
    }

    /// What the execution is.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its reply. `task` is the one that the reply will tell about.
    pub(crate) async fn ask(
        &self,
        task: Option<&str>,
        frame: impl FnOnce(u32) -> Frame,
    ) -> Result<Reply, ExecutorError> {
        let answer = {
            let mut held = self.held();
            if held.closed {
                return Err(held.disconnected());
            }
            held.seq += 1;
            let (seq, frame) = (held.seq, frame(held.seq).bytes());
            held.outbox.extend_from_slice(&frame);
            let (reply, answer) = oneshot::channel();
            held.pending.insert(seq, Pending { frame, reply: Some(reply), task: task.map(Box::from) });
            if let Some(name) = task.filter(|name| !held.tasks.contains_key(*name)) {
                held.tasks.insert(name.into(), Slot::default());
            }
            answer
        };
        self.kick.notify_one();
        answer.await.map_err(|_| self.held().disconnected())
    }

    /// Says something to which there is no reply; whoever takes the supervisor's place does not hear of it.
    pub(crate) fn tell(&self, frame: Frame) {
        self.held().outbox.extend_from_slice(&frame.bytes());
        self.kick.notify_one();
    }

    /// The exit of a task, or where to wait for it.
    pub(crate) fn waiting(&self, task: &str) -> Result<Waiting, ExecutorError> {
        let mut held = self.held();
        let closed = held.closed.then(|| held.disconnected());
        let Some(slot) = held.tasks.get_mut(task) else { return Ok(Waiting::Unknown) };
        if let Some(exit) = &slot.exit {
            return Ok(Waiting::Over(exit.clone()));
        }
        if let Some(error) = closed {
            return Err(error);
        }
        let (waiter, until) = oneshot::channel();
        slot.waiters.push(waiter);
        Ok(Waiting::Until(until))
    }

    /// What to say to those whose answer does not come.
    pub(crate) fn disconnected(&self) -> ExecutorError {
        self.held().disconnected()
    }

    /// Forgets tasks.
    pub(crate) fn forget<'a>(&self, tasks: impl Iterator<Item = &'a str>) {
        let mut held = self.held();
        for task in tasks {
            held.tasks.remove(task);
        }
    }

    /// Serves the link until another scheduler takes over, or for as long as it is polled.
    pub(crate) async fn serve(self: Arc<Link>, first: Connection) {
        let _closing = Closing(&self);
        let mut connection = first;
        loop {
            match self.converse(connection).await {
                End::Superseded => {
                    self.held().broken = Some("another scheduler has taken over".to_owned());
                    return;
                }
                End::Lost => self.held().died(),
            }
            connection = loop {
                while !self.held().is_needed() {
                    self.kick.notified().await;
                }
                match Connection::open(&self.session, &self.program).await {
                    Ok(connection) => break connection,
                    Err(error) => self.held().fail(&error.to_string()),
                }
            };
            self.held().ask_again();
        }
    }

    async fn converse(&self, mut connection: Connection) -> End {
        let mut buffer = vec![0; 64 * 1024];
        let mut unsent: Vec<u8> = Vec::new();
        let mut gone = false;
        // Registered when it is needed: who waits for nothing but what comes in is not woken when the other side reads.
        let mut writable: Option<AsyncFd<UnixStream>> = None;
        loop {
            loop {
                match connection.inbox.next() {
                    Ok(Some(frame)) if frame.kind == Kind::Superseded => return End::Superseded,
                    Ok(Some(frame)) => {
                        if self.held().take(frame).is_err() {
                            return End::Lost;
                        }
                    }
                    Ok(None) => break,
                    Err(Malformed) => return End::Lost,
                }
            }
            unsent.append(&mut self.held().outbox);
            if !unsent.is_empty() && !gone {
                match connection.stream.get_ref().write(&unsent) {
                    Ok(written) => drop(unsent.drain(..written)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // What there is to read is read first; then comes the end, and everything is asked again.
                    Err(_) => gone = true,
                }
            }
            if !unsent.is_empty() && !gone && writable.is_none() {
                writable = connection.writable().ok();
            }
            tokio::select! {
                read = connection.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(read) => connection.inbox.extend(&buffer[..read]),
                },
                () = self.kick.notified() => {}
                ready = room(writable.as_ref()), if !unsent.is_empty() && !gone => gone = ready.is_err(),
            }
        }
    }
}

/// Waits until there is room to write.
async fn room(writable: Option<&AsyncFd<UnixStream>>) -> io::Result<()> {
    match writable {
        Some(stream) => {
            stream.writable().await?.clear_ready();
            Ok(())
        }
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// Tells everyone when the link is served no more, whatever the reason.
struct Closing<'a>(&'a Link);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut held = self.0.held();
        held.closed = true;
        let reason = held.broken.take().unwrap_or_else(|| "the execution was released".to_owned());
        held.fail(&reason);
    }
}

impl Held {
    fn disconnected(&self) -> ExecutorError {
        let reason = self.broken.clone().unwrap_or_else(|| "the connection ended".to_owned());
        ExecutorError::Disconnected { peer: PEER, reason }
    }

    fn is_needed(&self) -> bool {
        !self.pending.is_empty() || self.tasks.values().any(|slot| slot.runs && slot.exit.is_none())
    }

    /// The supervisor is gone. Too many in a row are an error.
    fn died(&mut self) {
        self.deaths += 1;
        if self.deaths > DEATHS {
            self.deaths = 0;
            self.fail("it died again and again");
        }
    }

    /// Nobody will answer: everyone who waits gets an error.
    fn fail(&mut self, reason: &str) {
        self.broken = Some(reason.to_owned());
        self.outbox.clear();
        self.pending.clear();
        self.tasks.retain(|_, slot| slot.exit.is_some());
    }

    /// Asks a new supervisor what the old one was asked, and after every task that ran.
    fn ask_again(&mut self) {
        self.broken = None;
        self.outbox.clear();
        self.pending.retain(|_, pending| pending.reply.is_some());
        for pending in self.pending.values() {
            self.outbox.extend_from_slice(&pending.frame);
        }
        let running = self.tasks.iter().filter(|(_, slot)| slot.runs && slot.exit.is_none());
        let running: Vec<Box<str>> = running.map(|(name, _)| name.clone()).collect();
        for name in running {
            self.seq += 1;
            let frame = Frame::new(Kind::Watch, self.seq).text(name.as_bytes()).bytes();
            self.outbox.extend_from_slice(&frame);
            self.pending.insert(self.seq, Pending { frame, reply: None, task: Some(name) });
        }
    }

    /// Takes in what the supervisor says.
    fn take(&mut self, mut frame: Received<'_>) -> Result<(), Malformed> {
        self.deaths = 0;
        if frame.kind == Kind::Exited {
            let (name, exit) = (frame.body.name()?, frame.body.text()?);
            self.over(name, serde_json::from_slice(exit).map_err(|_| Malformed)?);
            return Ok(());
        }
        let Some(pending) = self.pending.remove(&frame.seq) else { return Ok(()) };
        let reply = match frame.kind {
            Kind::Found => {
                let state = frame.body.state()?;
                if let Some(task) = &pending.task {
                    self.found(task, state, frame.body)?;
                }
                Reply::Found(state)
            }
            Kind::Done => Reply::Done,
            Kind::Names => {
                let names = frame.body.texts()?;
                Reply::Names(names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
            }
            Kind::Failed => {
                if let Some(task) = &pending.task {
                    self.tasks.remove(task);
                }
                Reply::Failed(frame.body.name()?.to_owned())
            }
            _ => return Err(Malformed),
        };
        if let Some(sender) = pending.reply {
            let _ = sender.send(reply); // whoever asked may have given up
        }
        Ok(())
    }

    fn found(&mut self, task: &str, state: State, mut body: crate::wire::Body<'_>) -> Result<(), Malformed> {
        match state {
            State::Never => drop(self.tasks.remove(task)),
            State::Running => self.tasks.entry(task.into()).or_default().runs = true,
            State::Over | State::Gone => {
                self.over(task, serde_json::from_slice(body.text()?).map_err(|_| Malformed)?);
            }
        }
        Ok(())
    }

    fn over(&mut self, task: &str, exit: Exit) {
        let Some(slot) = self.tasks.get_mut(task) else { return };
        for waiter in slot.waiters.drain(..) {
            let _ = waiter.send(exit.clone());
        }
        slot.exit = Some(exit);
    }
}

/// A connection to a supervisor that has said hello.
pub(crate) struct Connection {
    stream: AsyncFd<UnixStream>,
    inbox: Inbox,
}

impl Connection {
    /// Reads what there is, once there is something; 0 is the end.
    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.stream.readable().await?;
            match self.stream.get_ref().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(read) => {
                    // Less than there was room for: the next read would only say that nothing more is there.
                    if read < buffer.len() {
                        ready.clear_ready();
                    }
                    return Ok(read);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn writable(&self) -> io::Result<AsyncFd<UnixStream>> {
        watched(self.stream.get_ref().try_clone()?, Interest::WRITABLE)
    }

    /// Connects to the execution's supervisor; starts one if there is none.
    pub(crate) async fn open(session: &Session, program: &Program) -> Result<Connection, ExecutorError> {
        let private = session.private(program.backend);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&private)
            .map_err(|source| ExecutorError::File { verb: "create", path: private.clone(), source })?;
        let deadline = Instant::now() + PATIENCE;
        let mut launched = 0;
        loop {
            let greeted = match connect(&private) {
                Ok(stream) => greet(stream).await,
                Err(error) => Err(error),
            };
            match greeted {
                Ok(connection) => return connection,
                // Nobody listens, or it left at this very moment.
                Err(error) if launched == LAUNCHES || Instant::now() > deadline => {
                    return Err(ExecutorError::Disconnected { peer: PEER, reason: error.to_string() });
                }
                Err(_) => launched += launch(session, program, &private).await?,
            }
        }
    }
}

/// A stream that the runtime watches for one direction only.
fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a `UnixStream` owns its descriptor and gives the same one for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

fn connect(private: &Path) -> io::Result<UnixStream> {
    // The path of a socket may have 108 bytes; this one is short whatever the folder's.
    let folder = std::fs::File::open(private)?;
    let socket = format!("/proc/self/fd/{}/socket", folder.as_raw_fd());
    let stream = UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

async fn greet(stream: UnixStream) -> io::Result<Result<Connection, ExecutorError>> {
    let stream = watched(stream, Interest::READABLE)?;
    let mut connection = Connection { stream, inbox: Inbox::default() };
    // A new socket has room for a few bytes.
    connection.stream.get_ref().write_all(&Frame::new(Kind::Hello, 1).number(VERSION).bytes())?;
    let hello = async {
        let mut buffer = [0; 4096];
        loop {
            match connection.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::ConnectionReset.into()),
                read => connection.inbox.extend(&buffer[..read]),
            }
            let malformed = |error: Malformed| io::Error::other(error.to_string());
            if let Some(mut frame) = connection.inbox.next().map_err(malformed)? {
                return frame.body.number().map_err(malformed);
            }
        }
    };
    let version =
        tokio::time::timeout(PATIENCE, hello).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if version != VERSION {
        let reason = format!("it is of another version of laminar: it speaks {version}, this one {VERSION}");
        return Ok(Err(ExecutorError::Disconnected { peer: PEER, reason }));
    }
    Ok(Ok(connection))
}

/// Starts a supervisor. Returns when there is one, and how many it has started: none if there is another.
async fn launch(session: &Session, program: &Program, private: &Path) -> Result<u32, ExecutorError> {
    let file = |source| ExecutorError::File { verb: "write to", path: private.join("supervisor.err"), source };
    let mut command = Command::new(&program.path);
    let execution = OsString::from(session.execution.to_string());
    // The program may be known by a path that says nothing, such as `/proc/self/exe`: people look for it by its name.
    command.arg0("laminar");
    command.args([MARKER.as_ref(), private.as_os_str(), session.workdir.as_os_str(), &execution]);
    // Its own tasks are not the only ones who could look into its environment.
    for name in &session.withheld {
        command.env_remove(&**name);
    }
    if program.nice > 0 {
        command.arg(program.nice.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors(private).map_err(file)?);
    let unavailable = |reason: String| ExecutorError::Unavailable {
        engine: format!("the {} backend's supervisor", program.backend),
        reason,
        hint: format!("look into `{}`", private.join("supervisor.err").display()),
    };
    let status = tokio::task::spawn_blocking(move || command.status()).await;
    let status = status.map_err(|error| unavailable(error.to_string()))?;
    match status.map_err(|error| unavailable(format!("cannot execute `{}`: {error}", program.path.display())))?.code() {
        Some(0) => Ok(1),
        // Another one is there, and is about to listen, or to leave.
        Some(code) if code == i32::from(BUSY) => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(0)
        }
        _ => {
            let said = std::fs::read_to_string(private.join("supervisor.err")).unwrap_or_default();
            Err(unavailable(said.lines().last().unwrap_or("it did not start").to_owned()))
        }
    }
}

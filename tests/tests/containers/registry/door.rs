//! A door before the registry: passes requests on, one a connection, and remembers them. It can hold some until others have
//! come too, so that a test sees whether they are made at the same time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a request is held for others.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// The digest that the answer names.
    pub(crate) digest: Option<String>,
}

/// The door.
pub(crate) struct Door {
    /// Its host and port.
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    registry: String,
    requests: Mutex<Vec<Request>>,
    meeting: Mutex<Meeting>,
    arrived: Condvar,
}

/// Who is waited for: so many repositories, whose manifests are asked for.
#[derive(Default)]
struct Meeting {
    expected: usize,
    present: Vec<String>,
    missed: bool,
}

impl Door {
    pub(crate) fn before(registry: &str) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            registry: registry.to_owned(),
            requests: Mutex::default(),
            meeting: Mutex::default(),
            arrived: Condvar::new(),
        });
        let all = Arc::clone(&shared);
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                std::thread::spawn(move || drop(shared.pass(client)));
            }
        });
        Door { address, shared }
    }

    /// What was answered since the last call.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }

    /// From now on who asks for a manifest waits until so many repositories were asked for.
    pub(crate) fn hold_until(&self, repositories: usize) {
        *self.shared.meeting.lock().unwrap() = Meeting { expected: repositories, ..Meeting::default() };
        self.shared.arrived.notify_all();
    }

    /// Whether somebody is held.
    pub(crate) fn is_holding(&self) -> bool {
        let meeting = self.shared.meeting.lock().unwrap();
        !meeting.missed && !meeting.present.is_empty() && meeting.present.len() < meeting.expected
    }

    /// Whether all of them were there at the same time.
    pub(crate) fn all_met(&self) -> bool {
        let meeting = self.shared.meeting.lock().unwrap();
        !meeting.missed && meeting.present.len() == meeting.expected
    }
}

impl Shared {
    fn pass(&self, client: TcpStream) -> io::Result<()> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let head = read_head(&mut from_client)?;
        let mut words = head[0].split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if head.iter().any(|line| line.to_lowercase().starts_with("authorization:")) {
            self.hold(&path);
        }
        let registry = TcpStream::connect(&self.registry)?;
        (&registry).write_all(&closing(&head))?;
        let mut from_registry = BufReader::new(registry.try_clone()?);
        let upload = registry.try_clone()?;
        std::thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut &upload);
            let _ = upload.shutdown(Shutdown::Write);
        });
        let answer = read_head(&mut from_registry)?;
        let status = answer[0].split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let digest = answer.iter().find_map(|line| line.strip_prefix("Docker-Content-Digest: ").map(str::to_owned));
        self.requests.lock().unwrap().push(Request { method, path, status, digest });
        let mut to_client = &client;
        to_client.write_all(&closing(&answer))?;
        io::copy(&mut from_registry, &mut to_client)?;
        client.shutdown(Shutdown::Both)
    }

    fn hold(&self, path: &str) {
        let Some((repository, _)) = path.split_once("/manifests/") else { return };
        let mut meeting = self.meeting.lock().unwrap();
        if meeting.expected == 0 || meeting.present.iter().any(|present| present == repository) {
            return;
        }
        meeting.present.push(repository.to_owned());
        self.arrived.notify_all();
        let (mut meeting, result) = self
            .arrived
            .wait_timeout_while(meeting, PATIENCE, |meeting| meeting.present.len() < meeting.expected)
            .unwrap();
        meeting.missed |= result.timed_out();
    }
}

/// The lines of a head, without their ends.
fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        // What is longer is no head of ours.
        if stream.by_ref().take(1 << 16).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() && !lines.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

/// The same head for a connection that ends with this one.
fn closing(head: &[String]) -> Vec<u8> {
    let kept = head.iter().filter(|line| !line.to_lowercase().starts_with("connection:"));
    let mut text: String = kept.map(|line| format!("{line}\r\n")).collect();
    text.push_str("Connection: close\r\n\r\n");
    text.into_bytes()
}

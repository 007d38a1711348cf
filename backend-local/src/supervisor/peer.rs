//! The connection to the scheduler: frames in, frames out, never blocking.
//!
//! Unaware of what the frames mean, but for one thing: what can wait is held back a little, so that one message wakes the
//! scheduler instead of many. That a task runs can wait, since most tasks are over soon; that one is over can wait as long
//! as the next ones are there already.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::wire::{Frame, Inbox};

const HOLD: Duration = Duration::from_millis(3);

/// Whether whoever has connected may have programs started as this user: is this user, or root. The socket and its folder are
/// closed to others; this holds also where somebody has opened them.
pub(super) fn may_command(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == ours || peer.uid.is_root())
}

/// The scheduler that is connected.
pub(super) struct Peer {
    pub(super) stream: UnixStream,
    pub(super) inbox: Inbox,
    /// Whether it has said hello, in our version.
    pub(super) greeted: bool,
    /// Whether the loop is told when the socket takes more.
    pub(super) blocked: bool,
    outbox: Vec<u8>,
    hold: Option<Instant>,
    /// Whether what is held back may leave as soon as nothing waits in line.
    soon: bool,
}

impl Peer {
    pub(super) fn new(stream: UnixStream) -> Peer {
        Peer {
            stream,
            inbox: Inbox::default(),
            greeted: false,
            blocked: false,
            outbox: Vec::new(),
            hold: None,
            soon: false,
        }
    }

    /// Sends a frame with the next flush.
    pub(super) fn push(&mut self, frame: Frame) {
        self.outbox.extend(frame.bytes());
        self.hold = None;
    }

    /// Sends a frame with whatever comes next, or a little later.
    pub(super) fn push_lazily(&mut self, frame: Frame) {
        if self.outbox.is_empty() {
            self.hold = Some(Instant::now() + HOLD);
        }
        self.outbox.extend(frame.bytes());
    }

    /// Sends a frame a little later, or with the next flush if there is hurry by then.
    pub(super) fn push_soon(&mut self, frame: Frame) {
        self.push_lazily(frame);
        self.soon = true;
    }

    /// What was to be sent soon is sent with the next flush.
    pub(super) fn hurry(&mut self) {
        if std::mem::take(&mut self.soon) {
            self.hold = None;
        }
    }

    /// When something that is held back must leave.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hold
    }

    /// Whether there is something to send that is not held back.
    pub(super) fn is_waiting_to_send(&self) -> bool {
        !self.outbox.is_empty() && self.hold.is_none()
    }

    /// Sends what may leave, as much as the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() || self.hold.is_some_and(|until| until > Instant::now()) {
            return Ok(());
        }
        self.hold = None;
        while !self.outbox.is_empty() {
            match send(&self.stream, &self.outbox, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes in what has come. `false` when the other side has closed.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            match recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(false),
                Ok((length, _)) => {
                    self.inbox.extend(&buffer[..length]);
                    if length < buffer.len() {
                        return Ok(true);
                    }
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

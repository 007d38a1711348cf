//! The supervisor: the parent of all local tasks of one execution, which outlives the scheduler.
//!
//! One small process with one thread and one loop: it starts tasks, drains their output, collects them, ends what they
//! leave behind, enforces their timeouts, keeps a record, and answers the scheduler that is connected. It is unaware of
//! flows, retries and outcomes. It leaves when no scheduler is connected, no task runs and everything is on record.
//!
//! Invariants:
//!
//! - a task is in the journal before its process exists, and its exit is there before the scheduler hears of it;
//! - a task is over only when no process of it is alive, see [`family`], and its pipe has been emptied;
//! - nothing that a task or a scheduler does blocks the loop: pipes and sockets never wait.

mod entry;
pub(crate) mod family;
pub(crate) mod first;
pub(crate) mod journal;
mod launch;
mod line;
mod log;
mod lookup;
mod peer;
mod plain;
mod secrets;
mod sys;
mod task;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use laminar_core::executor::{Cause, Exit, Usage, is_as_made};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::wire::{Body, Frame, Kind, Malformed, NEVER, State, VERSION};
use family::{Family, Owner, Process};
use journal::Journal;
use launch::Spawner;
use line::{Line, Offered, Waiting};
use log::Log;
use peer::Peer;
use secrets::Secrets;
use task::{Live, Why};

pub use entry::supervise;
pub(crate) use entry::{BUSY, MARKER, errors};

/// How long a supervisor without work waits for its first scheduler.
const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// How often a record that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer is waited for without sleeping: as long as the scheduler takes to say what is next, or to wake up.
const SOON: Duration = Duration::from_micros(200);
/// How many pieces of one task's output are taken before it is the others' turn.
const TURN: usize = 16;

const LISTENER: u64 = u64::MAX;
const SIGNALS: u64 = u64::MAX - 1;
const PEER: u64 = u64::MAX - 2;

/// What is known of a task.
enum Record {
    /// Its place among the live ones.
    Live(usize),
    /// How it ended, as JSON.
    Over(Box<str>),
    /// It ended with a supervisor; the exit, as JSON, says so.
    Gone(Box<str>),
}

/// What the loop holds.
struct Supervisor {
    execution: String,
    epoll: OwnedFd,
    listener: UnixListener,
    signals: OwnedFd,
    peer: Option<Peer>,
    journal: Journal,
    spawner: Spawner,
    family: Family,
    records: HashMap<Box<str>, Record>,
    live: Vec<Option<Live>>,
    free: Vec<usize>,
    by_pid: HashMap<i32, usize>,
    line: Line,
    /// How many live tasks have lost their first process.
    ending: usize,
    buffer: Vec<u8>,
    /// When to leave if no scheduler has ever connected.
    patience: Option<Instant>,
    /// Until when the scheduler is expected to say what is next, to a machine that has nothing else to do.
    eager: Option<Instant>,
    cores: usize,
}

impl Supervisor {
    fn run(&mut self) -> io::Result<()> {
        let watch = |fd: &dyn AsFd, token| {
            epoll::add(&self.epoll, fd.as_fd(), epoll::EventData::new_u64(token), epoll::EventFlags::IN)
        };
        watch(&self.listener, LISTENER)?;
        watch(&self.signals, SIGNALS)?;
        let mut events = Vec::with_capacity(64);
        while !self.may_leave() {
            self.wait(&mut events)?;
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    SIGNALS => self.reap(),
                    PEER => self.listen(),
                    slot => self.pump(slot as usize),
                }
            }
            self.settle();
            self.serve_line();
            self.tick();
            // What cannot be written now is tried again; the tasks must not suffer for it.
            let _ = self.journal.flush();
            self.answer();
        }
        Ok(())
    }

    /// Waits for events. While an answer is near, a core that would be idle is kept awake: to wake it takes longer than the
    /// scheduler takes to answer, which would be most of the time between two layers of a chain. The scheduler may have been
    /// woken on this very core, so it is asked to step in.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            events.clear();
            let eager = self.eager.is_some_and(|until| Instant::now() < until);
            let pause = if eager { Some(now) } else { self.pause() };
            match epoll::wait(&self.epoll, spare_capacity(events), pause.as_ref()) {
                Ok(0) if eager => {
                    std::thread::yield_now();
                    continue;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.eager = None;
            return Ok(());
        }
    }

    fn may_leave(&self) -> bool {
        let alone = self.peer.is_none() && self.patience.is_none_or(|until| until <= Instant::now());
        alone && self.alive() == 0 && self.journal.is_flushed()
    }

    /// Until when to wait for events.
    fn pause(&self) -> Option<Timespec> {
        let now = Instant::now();
        let tasks = self.live.iter().flatten().filter_map(Live::deadline);
        let held = self.peer.as_ref().and_then(Peer::deadline);
        let retry = (!self.journal.is_flushed()).then(|| now + RETRY);
        let next = tasks.chain(held).chain(retry).chain(self.patience).min()?;
        let pause = next.saturating_duration_since(now);
        // A little later is fine, a little earlier means to wait twice.
        let pause = (pause + Duration::from_micros(999)).as_millis().min(i32::MAX as u128) as i64;
        Some(Timespec { tv_sec: pause / 1000, tv_nsec: pause % 1000 * 1_000_000 })
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for task in self.live.iter_mut().flatten() {
            task.tick(now);
        }
    }

    // The scheduler's side.

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if !peer::may_command(&stream) {
            return;
        }
        if let Some(mut old) = self.peer.take() {
            old.push(Frame::new(Kind::Superseded, 0));
            let _ = old.flush();
        }
        self.line.clear();
        self.patience = None;
        let data = epoll::EventData::new_u64(PEER);
        if epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).is_ok() {
            self.peer = Some(Peer::new(stream));
        }
    }

    fn listen(&mut self) {
        let Some(mut peer) = self.peer.take() else { return };
        let open = peer.fill(&mut self.buffer);
        let mut inbox = std::mem::take(&mut peer.inbox);
        self.peer = Some(peer);
        let understood = loop {
            match inbox.next() {
                Ok(Some(frame)) => {
                    if let Err(malformed) = self.obey(frame.kind, frame.seq, frame.body) {
                        break Err(malformed);
                    }
                }
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed),
            }
        };
        match &mut self.peer {
            Some(peer) if understood.is_ok() && matches!(open, Ok(true)) => peer.inbox = inbox,
            _ => self.peer = None,
        }
    }

    fn answer(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        if peer.flush().is_err() {
            self.peer = None;
        } else if peer.is_waiting_to_send() != peer.blocked {
            peer.blocked = !peer.blocked;
            let out = if peer.blocked { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(PEER);
            let _ = epoll::modify(&self.epoll, &peer.stream, data, epoll::EventFlags::IN | out);
        }
    }

    fn obey(&mut self, kind: Kind, seq: u32, mut body: Body<'_>) -> Result<(), Malformed> {
        let greeted = self.peer.as_ref().is_some_and(|peer| peer.greeted);
        match kind {
            Kind::Hello => {
                let theirs = body.number()?;
                if let Some(peer) = &mut self.peer {
                    peer.greeted = theirs == VERSION;
                }
                self.reply(Frame::new(Kind::Hello, seq).number(VERSION));
            }
            Kind::Start if greeted => self.start(seq, body)?,
            Kind::Offer if greeted => {
                let (name, after) = (body.name()?, body.name()?);
                let outputs = PathBuf::from(OsStr::from_bytes(body.text()?));
                // The other may be asked for only after this.
                if matches!(self.records.get(after), None | Some(Record::Live(_))) && !self.records.contains_key(name) {
                    let (name, after, body) = (name.into(), after.into(), body.rest().into());
                    self.line.offer(Offered { name, after, outputs, body });
                }
            }
            Kind::Watch if greeted => self.tell_of(seq, body.name()?),
            Kind::Stop if greeted => {
                let (name, grace) = (body.name()?, Duration::from_micros(body.number()?));
                self.stop(seq, name, grace);
            }
            Kind::Withdraw if greeted => {
                for name in body.texts()?.into_iter().filter_map(|name| std::str::from_utf8(name).ok()) {
                    self.withdraw(name);
                }
                self.reply(Frame::new(Kind::Done, seq));
            }
            Kind::Remove if greeted => {
                let names = body.texts()?;
                self.remove(seq, &names);
            }
            Kind::List if greeted => {
                let mut frame = Frame::new(Kind::Names, seq).number(self.records.len() as u64);
                for name in self.records.keys() {
                    frame.put(&[name.as_bytes()]);
                }
                self.reply(frame);
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn reply(&mut self, frame: Frame) {
        if let Some(peer) = &mut self.peer {
            peer.push(frame);
        }
    }

    fn start(&mut self, seq: u32, mut body: Body<'_>) -> Result<(), Malformed> {
        let (name, places) = (body.name()?, body.number()?);
        if self.records.contains_key(name) {
            self.tell_of(seq, name);
            return Ok(());
        }
        // Whoever asks for it does not wait for what it was offered after.
        self.line.retract(name);
        if places == NEVER || self.line.is_needless(places, self.alive()) {
            return self.begin(Some(seq), name, body);
        }
        self.line.join(Waiting { seq, name: name.into(), places, body: body.rest().into() });
        Ok(())
    }

    /// Starts those whose turn has come.
    fn serve_line(&mut self) {
        if self.peer.is_none() {
            return self.line.clear();
        }
        while let Some(Waiting { seq, name, body, .. }) = self.line.next(self.alive()) {
            if self.begin(Some(seq), &name, Body::kept(&body)).is_err() {
                self.peer = None;
                return self.line.clear();
            }
        }
        if let Some(peer) = self.peer.as_mut().filter(|_| self.line.is_short()) {
            peer.hurry();
        }
    }

    /// Takes a task out of the line.
    fn withdraw(&mut self, name: &str) {
        if let Some(Waiting { seq, .. }) = self.line.leave(name) {
            self.reply(Frame::new(Kind::Found, seq).number(State::Never as u64));
        }
    }

    fn alive(&self) -> usize {
        self.live.len() - self.free.len()
    }

    /// Starts a task, and replies to the request, if there is one.
    fn begin(&mut self, seq: Option<u32>, name: &str, mut body: Body<'_>) -> Result<(), Malformed> {
        let log = PathBuf::from(OsStr::from_bytes(body.text()?));
        let log = Log::new(log, body.number()?);
        let secrets = Secrets::new(OsStr::from_bytes(body.text()?));
        let timeout = Some(body.number()?).filter(|time| *time != NEVER).map(Duration::from_micros);
        let grace = Duration::from_micros(body.number()?);
        let launches = body.number()? != 0;
        let (argv, env) = (body.texts()?, body.texts()?);
        if let Err(error) = self.journal.started(name) {
            let reason = format!("the supervisor cannot keep its record: {error}");
            if let Some(seq) = seq {
                self.reply(Frame::new(Kind::Failed, seq).text(reason.as_bytes()));
            }
            return Ok(());
        }
        match self.spawner.launch(&argv, &env, launches) {
            Ok(child) => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.live.push(None);
                    self.live.len() - 1
                });
                let token = epoll::EventData::new_u64(slot as u64);
                // Without it the output is drained at the end, or never if there is more than a pipe holds; adding
                // fails only where the kernel has no memory left.
                let _ = epoll::add(&self.epoll, &child.output, token, epoll::EventFlags::IN);
                self.by_pid.insert(child.pid, slot);
                self.live[slot] = Some(Live::new(name, child, (log, secrets), timeout, grace));
                self.records.insert(name.into(), Record::Live(slot));
                if let (Some(peer), Some(seq)) = (&mut self.peer, seq) {
                    peer.push_lazily(Frame::new(Kind::Found, seq).number(State::Running as u64));
                }
            }
            Err(exit) => {
                let json = self.record(name, &exit);
                self.line.close(name);
                self.records.insert(name.into(), Record::Over(json));
                if let Some(seq) = seq {
                    let frame = self.found(seq, name);
                    self.reply(frame);
                }
            }
        }
        Ok(())
    }

    /// Replies where a task stands.
    fn tell_of(&mut self, seq: u32, name: &str) {
        let frame = self.found(seq, name);
        match (&mut self.peer, self.records.get(name)) {
            (Some(peer), Some(Record::Live(_))) => peer.push_lazily(frame),
            _ => self.reply(frame),
        }
    }

    fn found(&self, seq: u32, name: &str) -> Frame {
        let frame = Frame::new(Kind::Found, seq);
        match self.records.get(name) {
            None => frame.number(State::Never as u64),
            Some(Record::Live(_)) => frame.number(State::Running as u64),
            Some(Record::Over(exit)) => frame.number(State::Over as u64).text(exit.as_bytes()),
            Some(Record::Gone(exit)) => frame.number(State::Gone as u64).text(exit.as_bytes()),
        }
    }

    fn stop(&mut self, seq: u32, name: &str, grace: Duration) {
        // A task that has ended by itself by now keeps its exit.
        self.reap();
        let Some(Record::Live(slot)) = self.records.get(name) else {
            self.withdraw(name);
            self.reply(Frame::new(Kind::Done, seq));
            return;
        };
        if let Some(task) = &mut self.live[*slot] {
            task.stops.push(seq);
            task.ask(Why::Stopped, grace);
        }
    }

    fn remove(&mut self, seq: u32, names: &[&[u8]]) {
        let mut removed = Vec::new();
        for name in names.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
            if let Some(Record::Over(_) | Record::Gone(_)) = self.records.get(name) {
                self.records.remove(name);
                self.line.reopen(name);
                removed.push(name);
            }
        }
        if !removed.is_empty() {
            self.journal.removed(removed);
        }
        self.reply(Frame::new(Kind::Done, seq));
    }

    // The tasks' side.

    /// Takes in what a task has written.
    fn pump(&mut self, slot: usize) {
        let Some(Some(task)) = self.live.get_mut(slot) else { return };
        for _ in 0..TURN {
            match rustix::io::read(&task.child.output, &mut self.buffer) {
                Ok(length) if length > 0 => task.log.take(&self.buffer[..length]),
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
    }

    /// Collects every child that has ended.
    fn reap(&mut self) {
        let mut note = [0; 128];
        let _ = rustix::io::read(&self.signals, &mut note); // pending signals of one kind are one
        while let Some(reaped) = sys::reap() {
            match self.by_pid.remove(&reaped.pid) {
                Some(slot) => {
                    if let Some(task) = &mut self.live[slot] {
                        task.reaped(reaped);
                        self.ending += 1;
                    }
                }
                None => self.family.forget_stray(reaped.pid),
            }
        }
    }

    /// Ends what is left of the tasks whose first process is over, and closes those of which nothing is.
    fn settle(&mut self) {
        if self.ending == 0 {
            return;
        }
        let strays: Vec<i32> =
            self.family.children().into_iter().filter(|pid| !self.by_pid.contains_key(pid)).collect();
        let mut haunted = Vec::new();
        for stray in strays {
            haunted.extend(self.end_if_due(stray));
        }
        for slot in 0..self.live.len() {
            if !haunted.contains(&slot) && self.live[slot].as_ref().is_some_and(Live::is_reaped) {
                self.finish(slot);
            }
        }
    }

    /// Ends a stray if the first processes of all that it can belong to are over. Returns the tasks that must wait for it.
    fn end_if_due(&mut self, stray: i32) -> Vec<usize> {
        let Some(process) = Process::read(stray) else { return Vec::new() };
        let Supervisor { family, live, records, execution, .. } = self;
        let owner = family.owner(stray, || attribute(stray, process, live, records, execution));
        let candidates = match owner {
            Owner::Task(slot) => std::slice::from_ref(slot),
            Owner::OneOf(slots) => slots.as_slice(),
        };
        let due = candidates.iter().all(|slot| live[*slot].as_ref().is_none_or(Live::is_reaped));
        if due {
            family::end_stray(stray, process);
        }
        // One that is dead and not collected may have left children that came to us after the list was made: it must be
        // looked at again, and the signal of its death, which is under way, sees to that.
        if due || process.dead { candidates.to_vec() } else { Vec::new() }
    }

    /// A task is over: empties its pipe, records its exit, tells the scheduler.
    fn finish(&mut self, slot: usize) {
        self.drain(slot);
        let Some(task) = self.live[slot].take() else { return };
        self.free.push(slot);
        self.ending -= 1;
        self.family.forget_task(slot);
        task.secrets.remove();
        let exit = task.exit();
        let json = self.record(&task.name, &exit);
        let mut next = None;
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.greeted) {
            let well = exit.cause == Cause::Code(0);
            next = self.line.follow(&task.name, well).filter(|next| is_as_made(&next.outputs).unwrap_or(false));
            if !well {
                self.line.close(&task.name);
            }
            // Sent at once if it could not be that something else starts first.
            peer.push_soon(Frame::new(Kind::Exited, 0).text(task.name.as_bytes()).text(json.as_bytes()));
            for seq in task.stops {
                peer.push(Frame::new(Kind::Done, seq));
            }
            // One core is the scheduler's.
            if next.is_none() && self.line.is_empty() && self.alive() + 1 < self.cores {
                self.eager = Some(Instant::now() + SOON);
            }
        }
        self.records.insert(task.name, Record::Over(json));
        if let Some(next) = next
            && self.begin(None, &next.name, Body::kept(&next.body)).is_err()
        {
            self.peer = None;
        }
    }

    /// Takes what is in the pipe of a task of which nothing is alive. Somebody else who was given the pipe may still
    /// write; so no more is taken than can have been in it.
    fn drain(&mut self, slot: usize) {
        let Some(Some(task)) = self.live.get_mut(slot) else { return };
        let mut left = None;
        loop {
            match rustix::io::read(&task.child.output, &mut self.buffer) {
                Ok(length) if length > 0 => {
                    task.log.take(&self.buffer[..length]);
                    let pipe = &task.child.output;
                    let left = left.get_or_insert_with(|| rustix::pipe::fcntl_getpipe_size(pipe).unwrap_or(1 << 20));
                    *left = left.saturating_sub(length);
                    if *left == 0 {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Puts an exit on record.
    fn record(&mut self, name: &str, exit: &Exit) -> Box<str> {
        let json = json(exit);
        self.journal.exited(name, &json);
        json
    }
}

fn json(exit: &Exit) -> Box<str> {
    // An exit is numbers and strings, which always serialise.
    serde_json::to_string(exit).unwrap_or_default().into_boxed_str()
}

/// The exit of a task whose supervisor died.
fn lost(evidence: &str) -> Exit {
    Exit { cause: Cause::Lost, evidence: evidence.to_owned(), usage: Usage::default() }
}

/// Whose a stray is that is seen for the first time.
fn attribute(
    stray: i32,
    process: Process,
    live: &[Option<Live>],
    records: &HashMap<Box<str>, Record>,
    execution: &str,
) -> Owner {
    let alive = || live.iter().enumerate().filter_map(|(slot, task)| Some((slot, task.as_ref()?)));
    if let Some((slot, _)) = alive().find(|(_, task)| process.group == task.child.pid) {
        return Owner::Task(slot);
    }
    match family::marker(stray, execution).and_then(|name| records.get(name.as_str())) {
        Some(Record::Live(slot)) => Owner::Task(*slot),
        _ => Owner::OneOf(alive().map(|(slot, _)| slot).collect()),
    }
}

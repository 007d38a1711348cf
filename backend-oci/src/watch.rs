//! Watches all running tasks of one execution at once: no client waits for a container.
//!
//! The kernel tells when a supervisor inside has renamed its record into place. Every few seconds the engine is asked
//! about those that are silent, all in one question: what was killed as a whole leaves no record. An engine that does not
//! answer is asked again. Time that is up
//! is the business of the supervisor inside; tasks without one, and those whose supervisor is frozen, are ended from here.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::engine::{Engine, follow};
use crate::execution::{Execution, Slot};
use crate::place::{EXIT, Why};

/// How often the engine is asked about the silent.
const ASK: Duration = Duration::from_secs(3);
/// How often files are looked at where the kernel does not tell.
const LOOK: Duration = Duration::from_millis(25);

/// Watches until it is aborted. What ends tasks or finds out about them runs on its own, so that none waits for another.
pub(crate) async fn watch(engine: Arc<Engine>, execution: Arc<Execution>) {
    let mut bell = Bell::new();
    let mut ask_at = Instant::now() + ASK;
    loop {
        let running = execution.running();
        let deadline = running.iter().filter_map(|slot| slot.deadline()).min();
        let mut until =
            if running.is_empty() { Instant::now() + ASK } else { deadline.map_or(ask_at, |it| it.min(ask_at)) };
        if bell.is_deaf() {
            until = until.min(Instant::now() + LOOK);
        }
        tokio::select! {
            () = bell.rings() => {}
            () = execution.kick.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        let now = Instant::now();
        let mut silent = Vec::new();
        for slot in execution.running() {
            bell.hear(&slot);
            if slot.is_to_be_followed() {
                execution.follow(follow(Arc::clone(&engine), Arc::clone(&execution), Arc::clone(&slot)));
            }
            // What is spawned here is claimed at once: this loop may come round again before it is polled.
            if let Some(exit) = slot.place.exit() {
                if slot.settle() {
                    let (engine, execution) = (Arc::clone(&engine), Arc::clone(&execution));
                    tokio::spawn(async move { engine.find_out(&execution, &slot, Some(exit), None).await });
                }
                continue;
            }
            if slot.is_due(now) {
                tokio::spawn(end(Arc::clone(&engine), Arc::clone(&execution), Arc::clone(&slot)));
            }
            silent.push(slot);
        }
        if now >= ask_at {
            ask_at = now + ASK;
            let (one, other) = (Arc::clone(&engine), Arc::clone(&execution));
            // What could not be removed is tried again in the next round.
            tokio::spawn(async move { one.tidy(&other).await });
            if !silent.is_empty() {
                let (engine, execution) = (Arc::clone(&engine), Arc::clone(&execution));
                // One that does not answer is asked again in the next round.
                tokio::spawn(async move {
                    let silent: Vec<&Slot> = silent.iter().map(|slot| &**slot).collect();
                    engine.look(&execution, &silent).await
                });
            }
        }
    }
}

/// The time of a task is up, and it has no supervisor inside that would end it, or one that is frozen. An engine that does not
/// answer is asked again.
async fn end(engine: Arc<Engine>, execution: Arc<Execution>, slot: Arc<Slot>) {
    let terms = slot.terms();
    let grace = if terms.bare { terms.grace } else { Duration::ZERO };
    while engine.end(&execution, &slot, Why::TimedOut, grace).await.is_err() {
        tokio::time::sleep(ASK).await;
    }
}

/// The kernel's news of the tasks' folders.
struct Bell {
    news: Option<AsyncFd<OwnedFd>>,
}

impl Bell {
    fn new() -> Bell {
        let news = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let news = news.and_then(|news| {
            // SAFETY: an `OwnedFd` is the same open descriptor for as long as it lives.
            unsafe { AsyncFd::register_with_interest(news, Interest::READABLE) }.ok()
        });
        Bell { news }
    }

    /// Whether files must be looked at in turn.
    fn is_deaf(&self) -> bool {
        self.news.is_none()
    }

    /// Listens to this task's folder from now on. The kernel lets go of it when the folder is removed.
    fn hear(&mut self, slot: &Slot) {
        if let Some(news) = &self.news
            && slot.hear()
            && let Err(error) = inotify::add_watch(news.get_ref(), &*slot.place.news(), WatchFlags::MOVED_TO)
            && error != rustix::io::Errno::NOENT
        {
            // There are as many watches as the kernel allows. A folder that is gone has no news: the engine knows.
            self.news = None;
        }
    }

    async fn rings(&mut self) {
        let Some(news) = &self.news else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = news.readable().await else { return std::future::pending().await };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut read = inotify::Reader::new(news.get_ref(), &mut buffer);
            let mut is_over = false;
            while let Ok(one) = read.next() {
                // Errands are moved there, too. What has no name may have been about anything.
                is_over |= one.file_name().is_none_or(|name| name.to_bytes() == EXIT.as_bytes());
            }
            ready.clear_ready();
            if is_over {
                return;
            }
        }
    }
}

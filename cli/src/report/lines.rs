//! Plain lines: one per layer that settled, more with `-v`, fewer for a large flow. Unaware of what they are written to.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::{Event, Record};
use laminar_core::id::Attempt;

use crate::output::Verbosity;
use crate::report::{News, Report, Subject, Watch, failure};
use crate::text::{count, duration, size, visible};

/// A flow with more layers is not told layer by layer.
const LARGE: u32 = 200;
/// How often a large flow says how far it is.
const PULSE: Duration = Duration::from_secs(5);

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Density {
    /// Failures, and nothing else.
    Failures,
    /// Failures, retries, and how far it is every few seconds.
    Pulse,
    /// The same as [`Density::Pulse`] without the pulse: something else shows how far it is.
    Changes,
    /// Every layer that settled.
    Settled,
    /// Every event.
    Everything,
}

impl Density {
    /// What fits a flow with so many layers.
    pub(crate) fn of(verbosity: Verbosity, layers: usize) -> Density {
        match verbosity {
            Verbosity::Quiet => Density::Failures,
            Verbosity::Verbose => Density::Everything,
            Verbosity::Normal if layers > LARGE as usize => Density::Pulse,
            Verbosity::Normal => Density::Settled,
        }
    }
}

/// Writes lines.
pub(crate) struct Lines<W> {
    subject: Arc<Subject>,
    watch: Watch,
    density: Density,
    sink: W,
    failures: u32,
    begun: Instant,
    pulsed: Instant,
}

impl<W: Write> Lines<W> {
    /// A reporter that writes to this sink. What the sink says of it does not matter: nobody stops a flow because
    /// somebody closed a window.
    pub(crate) fn new(subject: Arc<Subject>, density: Density, sink: W) -> Lines<W> {
        let now = Instant::now();
        Lines { subject, watch: Watch::default(), density, sink, failures: 0, begun: now, pulsed: now }
    }

    fn line(&mut self, line: &str) {
        // One write, so that lines of several writers do not mix.
        let mut text = String::with_capacity(line.len() + 1);
        text.push_str(line);
        text.push('\n');
        let _ = self.sink.write_all(text.as_bytes());
    }

    fn tell(&mut self, news: &News) {
        let style = self.subject.style;
        let name = |attempt: &Attempt| self.subject.names.split(attempt.split);
        let line = match news {
            News::Failed { attempt, why, took_ms } => {
                self.failures += 1;
                failure::block(&self.subject, *attempt, why, *took_ms, self.failures - 1)
            }
            _ if self.density == Density::Failures => return,
            News::Cancelling { force: false } => format!(
                "{}: layers that run are asked to end, and nothing new starts; once more kills them at once",
                style.yellow("cancelling")
            ),
            News::Cancelling { force: true } => format!("{}: layers that run are killed", style.yellow("killing")),
            News::Retrying { attempt, why, delay_ms, memory } => {
                let pause = duration::short(Duration::from_millis(*delay_ms));
                let (name, number) = (name(attempt), attempt.number);
                let cause = failure::cause(why);
                let with = memory.map_or(String::new(), |memory| format!(" with {} of memory", size::short(memory)));
                format!("{}  {name}: attempt {number} failed: {cause}; again in {pause}{with}", style.yellow("retry"))
            }
            News::Relaunched(attempt) => {
                let lost = attempt.number.saturating_sub(1);
                format!("{}  attempt {lost} of {} was lost; launched again", style.yellow("retry"), name(attempt))
            }
            _ if self.density < Density::Settled => return,
            News::Settled { attempt, state, code, took_ms } => {
                let took = duration::between(0, *took_ms);
                let code = code.map_or(String::new(), |code| format!(": exit code {code}"));
                format!("{}  {}{code} ({took})", style.state(state.word()), name(attempt))
            }
            News::Stopped(attempt) => format!("{}  {}", style.state("cancelled"), name(attempt)),
            News::Resumed(progress) => format!("resumed: {}", done_already(progress)),
            News::Launched(_) | News::Ended(_) => return,
        };
        self.line(&line);
    }

    fn pulse(&mut self, progress: &Progress) {
        let now = Instant::now();
        if now.duration_since(self.pulsed) < PULSE {
            return;
        }
        self.pulsed = now;
        let so_far = so_far(progress, now.duration_since(self.begun));
        self.line(&so_far);
    }

    fn event(&mut self, record: &Record) {
        let name = |attempt: &Attempt| match attempt.number {
            1 => self.subject.names.split(attempt.split),
            number => format!("{} (attempt {number})", self.subject.names.split(attempt.split)),
        };
        let line = match &record.event {
            Event::AttemptLaunched { attempt, .. } => format!("launched  {}", name(attempt)),
            Event::AttemptStarted { attempt, .. } => format!("started  {}", name(attempt)),
            Event::AttemptExited { attempt, exit } => {
                let usage = exit.usage;
                let cpu = duration::short(Duration::from_micros(usage.cpu_us));
                let words = failure::exit_words(exit);
                format!("exited  {}: {words}, cpu {cpu}, peak memory {}", name(attempt), size::short(usage.peak_memory))
            }
            Event::AttemptPublished { attempt, artifacts } => {
                let bytes = artifacts.iter().map(|artifact| artifact.content.size()).sum();
                let number = count(artifacts.len(), "artifact");
                format!("published  {}: {number}, {}", name(attempt), size::short(bytes))
            }
            Event::RetryDue { split } => format!("due  {}", self.subject.names.split(*split)),
            _ => return,
        };
        let line = self.subject.style.dim(line);
        self.line(&line);
    }
}

/// How far it is, and since when: `1200 of 10000 layers, 8 running, 1 failed, 13.2 s`.
pub(crate) fn so_far(progress: &Progress, elapsed: Duration) -> String {
    format!("{}, {}", how_far(progress), duration::short(elapsed))
}

/// How far it is: `1200 of 10000 layers, 8 running, 1 failed`.
fn how_far(progress: &Progress) -> String {
    let text = format!("{} of {}", progress.settled(), count(progress.total as usize, "layer"));
    with_rest(text, progress)
}

/// How far an execution is that is gone on with.
fn done_already(progress: &Progress) -> String {
    let done = progress.settled();
    let are = if done == 1 { "is" } else { "are" };
    with_rest(format!("{done} of {} layers {are} done already", progress.total), progress)
}

fn with_rest(mut text: String, progress: &Progress) -> String {
    let parts = [
        (progress.running, "running"),
        (progress.resting, "resting"),
        (progress.failed, "failed"),
        (progress.cancelled, "cancelled"),
    ];
    for (number, word) in parts.into_iter().filter(|(number, _)| *number > 0) {
        text.push_str(&format!(", {number} {word}"));
    }
    text
}

impl<W: Write> Reporter for Lines<W> {
    fn report(&mut self, record: &Record, progress: &Progress) {
        if self.density == Density::Everything {
            self.event(record);
        }
        if let Some(news) = self.watch.observe(record, progress) {
            self.tell(&news);
        }
        if self.density == Density::Pulse {
            self.pulse(progress);
        }
    }

    fn recall(&mut self, record: &Record, progress: &Progress) {
        self.watch.observe(record, progress);
    }

    fn notice(&mut self, text: &str) {
        if self.density > Density::Failures {
            let text = visible::text(text.as_bytes());
            self.line(&format!("{}: {text}", self.subject.style.cyan("note")));
        }
    }
}

impl<W: Write> Report for Lines<W> {
    fn finish(&mut self) -> io::Result<()> {
        let _ = self.sink.flush();
        Ok(())
    }
}

//! Plain lines: one per layer that settled, more with `-v`, fewer for a large flow or a layer with many splits. Unaware of
//! what they are written to.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::{Event, Record};
use laminar_core::id::{Attempt, LayerId};
use laminar_core::scheduler::State;

use crate::execution::abbreviate;
use crate::output::Verbosity;
use crate::report::fans::Fans;
use crate::report::{News, Report, Subject, Watch, failure};
use crate::text::{count, duration, size, visible};

/// A flow with more layers is not told layer by layer.
const LARGE: u32 = 200;
/// A foreach layer with more splits is not told split by split, but by tenths.
const MANY: u32 = 20;
/// How long nothing is said of such a layer, at least.
const TENTH_MS: i64 = 1000;
/// How many failed splits of one layer are told; the others are only counted.
const MOST_FAILED: u32 = 10;
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
    fans: Fans,
    /// When it was said last how far a layer is, in milliseconds since 1970.
    tenths: HashMap<LayerId, i64>,
    density: Density,
    /// Whether something else shows how far it is.
    is_shown: bool,
    sink: W,
    failures: u32,
    /// How many splits of each layer have failed.
    failed: BTreeMap<LayerId, u32>,
    begun: Instant,
    pulsed: Instant,
}

impl<W: Write> Lines<W> {
    /// A reporter that writes to this sink. What the sink says of it does not matter: nobody stops a flow because
    /// somebody closed a window.
    pub(crate) fn new(subject: Arc<Subject>, density: Density, sink: W) -> Lines<W> {
        let now = Instant::now();
        let (watch, fans) = (Watch::default(), Fans::default());
        Lines {
            subject,
            watch,
            fans,
            tenths: HashMap::new(),
            density,
            is_shown: false,
            sink,
            failures: 0,
            failed: BTreeMap::new(),
            begun: now,
            pulsed: now,
        }
    }

    /// The same, beside something that shows how far it is.
    pub(crate) fn beside(subject: Arc<Subject>, density: Density, sink: W) -> Lines<W> {
        Lines { is_shown: true, ..Lines::new(subject, density, sink) }
    }

    /// How far the foreach layers are.
    pub(crate) fn fans(&self) -> &Fans {
        &self.fans
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
                let of_layer = self.failed.entry(attempt.split.layer).or_default();
                *of_layer += 1;
                if *of_layer > MOST_FAILED && self.density != Density::Everything {
                    return;
                }
                self.failures += 1;
                let most = if self.density == Density::Everything { usize::MAX } else { failure::LONGEST };
                let told = failure::Told { values: self.fans.values(attempt.split, most), before: self.failures - 1 };
                failure::block(&self.subject, *attempt, why, *took_ms, &told)
            }
            News::Ended(_) => return self.tell_untold(),
            News::Unopened { layer, reason } => {
                let name = style.bold(self.subject.names.layer(*layer));
                format!("{}  {name}: {}", style.red("failed"), visible::line(reason))
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
            News::Settled { attempt: Attempt { split, .. }, state: State::Finished, .. }
            | News::Cached { split, .. }
                if self.is_one_of_many(split.layer) =>
            {
                return;
            }
            News::Cached { split, from } => {
                let name = self.subject.names.split(*split);
                format!("{}  {name} (from {})", style.state("cached"), abbreviate(*from))
            }
            News::Opened { layer, splits } => {
                let name = self.subject.names.layer(*layer);
                match splits {
                    0 => format!("{}  {name}: 0 splits", style.state("finished")),
                    splits => format!("{}  {name}: {}", style.cyan("opened"), count(*splits as usize, "split")),
                }
            }
            News::Skipped { layer, others } => {
                let name = self.subject.names.layer(*layer);
                let others = match others {
                    0 => String::new(),
                    others => format!(", with {} that {} it", count(*others as usize, "layer"), needs(*others)),
                };
                format!("{}  {name}: its `when` said no{others}", style.state("skipped"))
            }
            News::Followed(number) => {
                let layers = count(*number as usize, "layer");
                format!("{}  {layers} that {} what was skipped", style.state("skipped"), needs(*number))
            }
            News::Settled { attempt, state, code, took_ms } => {
                let took = duration::between(0, *took_ms);
                let code =
                    code.map_or(String::new(), |code| format!(": exit code {code}{}", failure::caught_words(code)));
                format!("{}  {}{code} ({took})", style.state(state.word()), name(attempt))
            }
            News::Stopped(attempt) => format!("{}  {}", style.state("cancelled"), name(attempt)),
            News::Resumed(progress) => format!("resumed: {}", done_already(progress, self.noun())),
            News::Launched(_) => return,
        };
        self.line(&line);
    }

    /// Counts the failed splits that were not told.
    fn tell_untold(&mut self) {
        for (layer, failed) in std::mem::take(&mut self.failed) {
            if failed > MOST_FAILED && self.density != Density::Everything {
                let name = self.subject.names.layer(layer);
                let look = self.subject.invocation.line(&["status", &abbreviate(self.subject.id), name]);
                let style = self.subject.style;
                let more = failed - MOST_FAILED;
                self.line(&format!("{}  and {more} more of {name}; `{look}` lists them", style.red("failed")));
            }
        }
    }

    fn is_one_of_many(&self, layer: LayerId) -> bool {
        self.density != Density::Everything && self.fans.of(layer).is_some_and(|fan| fan.splits > MANY)
    }

    /// Says how far a foreach layer with many splits is, a tenth at a time, and when all of it has settled.
    fn tell_tenth(&mut self, news: &News, at_ms: i64) {
        let layer = match news {
            News::Settled { attempt, .. } | News::Failed { attempt, .. } | News::Stopped(attempt) => {
                attempt.split.layer
            }
            News::Cached { split, .. } => split.layer,
            _ => return,
        };
        if self.density < Density::Settled || !self.is_one_of_many(layer) {
            return;
        }
        let Some(fan) = self.fans.of(layer).copied() else { return };
        let (splits, settled) = (u64::from(fan.splits), u64::from(fan.settled()));
        let is_over = settled == splits;
        let is_tenth = settled * 10 / splits > (settled - 1) * 10 / splits;
        let last_ms = self.tenths.get(&layer).copied().unwrap_or(fan.opened_ms);
        // Who is done in a moment need not say how far it is.
        if !is_over && (self.is_shown || !is_tenth || at_ms.saturating_sub(last_ms) < TENTH_MS) {
            return;
        }
        self.tenths.insert(layer, at_ms);
        let name = self.subject.names.layer(layer);
        let others =
            [(fan.cached, "cached"), (fan.caught, "caught"), (fan.failed, "failed"), (fan.cancelled, "cancelled")];
        let others = others.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!(", {number} {word}"));
        let others: String = others.collect();
        let took = duration::between(fan.opened_ms, at_ms);
        let style = self.subject.style;
        let line = if is_over {
            let word = match (fan.failed, fan.cancelled) {
                (0, 0) => "finished",
                (0, _) => "cancelled",
                _ => "failed",
            };
            format!("{}  {name}: {splits} splits{others} ({took})", style.state(word))
        } else {
            format!("{}  {name}: {settled} of {splits} splits{others} ({took})", style.cyan("running"))
        };
        self.line(&line);
    }

    /// What progress counts: where layers are fanned out, their splits.
    fn noun(&self) -> &'static str {
        noun(&self.subject)
    }

    fn pulse(&mut self, progress: &Progress) {
        let now = Instant::now();
        if now.duration_since(self.pulsed) < PULSE {
            return;
        }
        self.pulsed = now;
        let so_far = so_far(progress, self.noun(), now.duration_since(self.begun));
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
            Event::SplitKeyed { split, key } => {
                let name = self.subject.names.split(*split);
                match key.reason() {
                    None => format!("not cached  {name}: nothing that was run before has the key {}", key.digest),
                    Some(reason) => format!("not cached  {name}: {}", visible::line(reason)),
                }
            }
            _ => return,
        };
        let line = self.subject.style.dim(line);
        self.line(&line);
    }
}

/// What progress counts: where layers are fanned out, their splits, else layers.
pub(crate) fn noun(subject: &Subject) -> &'static str {
    if subject.names.has_foreach() { "task" } else { "layer" }
}

fn needs(number: u32) -> &'static str {
    if number == 1 { "needs" } else { "need" }
}

/// How far it is, and since when: `1200 of 10000 layers, 8 running, 1 failed, 13.2 s`.
pub(crate) fn so_far(progress: &Progress, noun: &str, elapsed: Duration) -> String {
    let text = format!("{} of {}", progress.settled(), count(progress.total as usize, noun));
    format!("{}, {}", with_rest(text, progress), duration::short(elapsed))
}

/// How far an execution is that is gone on with.
fn done_already(progress: &Progress, noun: &str) -> String {
    let done = progress.settled();
    let are = if done == 1 { "is" } else { "are" };
    with_rest(format!("{done} of {} {are} done already", count(progress.total as usize, noun)), progress)
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
        let (news, entailed) = self.watch.observe(record, progress);
        self.fans.note(record, news.as_ref());
        for news in news.iter().chain(&entailed) {
            self.tell(news);
            self.tell_tenth(news, record.at_ms);
        }
        let is_large = self.density == Density::Settled && progress.total > LARGE && !self.is_shown;
        if self.density == Density::Pulse || is_large {
            self.pulse(progress);
        }
    }

    fn recall(&mut self, record: &Record, progress: &Progress) {
        let (news, _) = self.watch.observe(record, progress);
        self.fans.note(record, news.as_ref());
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

//! One JSON object an event, with names instead of ids. The fields are documented in `laminar run --help`.
//!
//! Each object is written at once, so that a reader that waits for it gets it. When the reader goes away the execution
//! goes on, and nothing more is written. Any other error of the sink is told when the execution is over.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use laminar_core::datastore::{Artifact, Content};
use laminar_core::each::Each;
use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::{Event, Record};
use laminar_core::executor::{Cause, Exit};
use laminar_core::id::{Attempt, LayerId, Split};
use serde_json::{Map, Value, json};

use crate::report::{Report, Subject};
use crate::text::{visible, when};
use crate::values;

/// Writes JSON lines.
pub(crate) struct Json<W> {
    subject: Arc<Subject>,
    sink: Option<W>,
    /// The values of layers that are fanned out; the engine has them too.
    each: HashMap<LayerId, Arc<Each>>,
    /// Why nothing more is written, unless the reader has gone.
    broken: Option<io::Error>,
}

impl<W: Write> Json<W> {
    /// A reporter that writes to this sink, beginning with `execution_created`.
    pub(crate) fn new(subject: Arc<Subject>, backend: &str, backends: &[&str], created_ms: i64, sink: W) -> Json<W> {
        let mut json = Json { subject, sink: Some(sink), each: HashMap::new(), broken: None };
        let mut fields = Map::new();
        fields.insert("event".to_owned(), "execution_created".into());
        fields.insert("at".to_owned(), when::stamp(created_ms).into());
        fields.insert("execution".to_owned(), json.subject.id.to_string().into());
        fields.insert("flow".to_owned(), json.subject.flow.as_ref().into());
        fields.insert("backend".to_owned(), backend.into());
        fields.insert("backends".to_owned(), backends.into());
        fields.insert("layers".to_owned(), json.subject.names.len().into());
        fields.insert("folder".to_owned(), json.subject.folder.path().to_string_lossy().into());
        json.write(&fields);
        json
    }

    /// Takes note of the values of a layer's splits.
    fn note(&mut self, event: &Event) {
        if let Event::LayerOpened { layer, each: Some(each), .. } = event {
            self.each.insert(*layer, Arc::clone(each));
        }
    }

    /// The values of the split, where an event is worth naming them: it is launched, or something went wrong.
    fn values(&self, event: &Event) -> Option<Map<String, Value>> {
        let split = match event {
            Event::AttemptLaunched { attempt, .. } | Event::AttemptRejected { attempt, .. } => attempt.split,
            Event::AttemptExited { attempt, exit } if exit.cause != Cause::Code(0) => attempt.split,
            _ => return None,
        };
        self.each.get(&split.layer).map(|each| values::object(each, split.index))
    }

    fn write(&mut self, fields: &Map<String, Value>) {
        let Some(sink) = &mut self.sink else { return };
        let line = visible::json(fields, false).map_err(io::Error::from);
        let written = line.and_then(|line| sink.write_all((line + "\n").as_bytes()));
        if let Err(error) = written.and_then(|()| sink.flush()) {
            self.sink = None;
            self.broken = Some(error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
        }
    }
}

impl<W: Write> Reporter for Json<W> {
    fn report(&mut self, record: &Record, progress: &Progress) {
        self.note(&record.event);
        if self.sink.is_some() {
            let mut fields = fields(&self.subject, record, progress);
            if let Some(values) = self.values(&record.event) {
                fields.insert("each".to_owned(), values.into());
            }
            self.write(&fields);
        }
    }

    fn recall(&mut self, record: &Record, _: &Progress) {
        self.note(&record.event);
    }

    fn notice(&mut self, text: &str) {
        let mut fields = Map::new();
        fields.insert("event".to_owned(), "notice".into());
        fields.insert("at".to_owned(), when::stamp(when::now_ms()).into());
        fields.insert("text".to_owned(), text.into());
        self.write(&fields);
    }
}

impl<W: Write> Report for Json<W> {
    fn finish(&mut self) -> io::Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }
}

fn fields(subject: &Subject, record: &Record, progress: &Progress) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("event".to_owned(), word(&record.event).into());
    fields.insert("seq".to_owned(), record.seq.into());
    fields.insert("at".to_owned(), when::stamp(record.at_ms).into());
    let mut split = |split: &Split, attempt: Option<u32>| {
        fields.insert("layer".to_owned(), subject.names.layer(split.layer).into());
        fields.insert("index".to_owned(), split.index.into());
        if let Some(attempt) = attempt {
            fields.insert("attempt".to_owned(), attempt.into());
        }
    };
    match &record.event {
        Event::AttemptLaunched { attempt: Attempt { split: whose, number }, .. }
        | Event::AttemptOffered { attempt: Attempt { split: whose, number }, .. }
        | Event::AttemptStarted { attempt: Attempt { split: whose, number }, .. }
        | Event::AttemptExited { attempt: Attempt { split: whose, number }, .. }
        | Event::AttemptPublished { attempt: Attempt { split: whose, number }, .. }
        | Event::AttemptRejected { attempt: Attempt { split: whose, number }, .. }
        | Event::RetryScheduled { attempt: Attempt { split: whose, number }, .. } => split(whose, Some(*number)),
        Event::AttemptSized { attempt: Attempt { split: whose, number }, .. } => split(whose, Some(*number)),
        Event::RetryDue { split: whose }
        | Event::SplitKeyed { split: whose, .. }
        | Event::SplitCached { split: whose, .. } => split(whose, None),
        Event::LayerOpened { layer, .. } | Event::LayerSkipped { layer } | Event::LayerFailed { layer, .. } => {
            fields.insert("layer".to_owned(), subject.names.layer(*layer).into());
        }
        Event::CancelRequested { .. } | Event::ExecutionEnded { .. } | Event::ExecutionResumed { .. } => {}
    }
    match &record.event {
        Event::LayerOpened { splits, .. } => {
            fields.insert("splits".to_owned(), (*splits).into());
        }
        Event::LayerFailed { reason, .. } => {
            fields.insert("reason".to_owned(), reason.as_str().into());
        }
        Event::AttemptSized { cpu_millis, memory, .. } => {
            fields.insert("cpu_millis".to_owned(), (*cpu_millis).into());
            fields.insert("memory".to_owned(), (*memory).into());
        }
        Event::SplitKeyed { key, .. } => {
            match key.reason() {
                None => fields.insert("key".to_owned(), key.digest.to_string().into()),
                Some(reason) => fields.insert("reason".to_owned(), reason.into()),
            };
        }
        Event::SplitCached { key, from, artifacts, .. } => {
            fields.insert("key".to_owned(), key.digest.to_string().into());
            fields.insert("from".to_owned(), from.execution.to_string().into());
            fields.insert("artifacts".to_owned(), artifacts.iter().map(artifact).collect());
        }
        Event::AttemptExited { exit, .. } => push_exit(&mut fields, exit),
        Event::AttemptPublished { artifacts, .. } => {
            fields.insert("artifacts".to_owned(), artifacts.iter().map(artifact).collect());
        }
        Event::AttemptRejected { reason, .. } => {
            fields.insert("reason".to_owned(), reason.as_str().into());
        }
        Event::RetryScheduled { delay_ms, memory, .. } => {
            fields.insert("delay_ms".to_owned(), (*delay_ms).into());
            if let Some(memory) = memory {
                fields.insert("memory".to_owned(), (*memory).into());
            }
        }
        Event::CancelRequested { force } => {
            fields.insert("force".to_owned(), (*force).into());
        }
        Event::ExecutionEnded { outcome } => {
            fields.insert("outcome".to_owned(), outcome.word().into());
            fields.extend(counts(progress));
        }
        Event::ExecutionResumed { again, splits, changed, update } => {
            let names = |layers: &[LayerId]| layers.iter().map(|layer| subject.names.layer(*layer)).collect::<Vec<_>>();
            fields.insert("again".to_owned(), names(again).into());
            if !changed.is_empty() {
                fields.insert("changed".to_owned(), names(changed).into());
            }
            if !splits.is_empty() {
                let split = |split: &Split| json!({"layer": subject.names.layer(split.layer), "index": split.index});
                fields.insert("splits".to_owned(), splits.iter().map(split).collect());
            }
            if let Some(update) = update {
                fields.insert("update".to_owned(), (*update).into());
            }
            fields.extend(counts(progress));
        }
        Event::AttemptOffered { .. }
        | Event::AttemptLaunched { .. }
        | Event::AttemptStarted { .. }
        | Event::RetryDue { .. }
        | Event::LayerSkipped { .. } => {}
    }
    fields
}

fn word(event: &Event) -> &'static str {
    match event {
        Event::LayerOpened { .. } => "layer_opened",
        Event::LayerSkipped { .. } => "layer_skipped",
        Event::LayerFailed { .. } => "layer_failed",
        Event::AttemptSized { .. } => "attempt_sized",
        Event::SplitKeyed { .. } => "split_keyed",
        Event::SplitCached { .. } => "split_cached",
        Event::AttemptOffered { .. } => "attempt_offered",
        Event::AttemptLaunched { .. } => "attempt_launched",
        Event::AttemptStarted { .. } => "attempt_started",
        Event::AttemptExited { .. } => "attempt_exited",
        Event::AttemptPublished { .. } => "attempt_published",
        Event::AttemptRejected { .. } => "attempt_rejected",
        Event::RetryScheduled { .. } => "retry_scheduled",
        Event::RetryDue { .. } => "retry_due",
        Event::CancelRequested { .. } => "cancel_requested",
        Event::ExecutionEnded { .. } => "execution_ended",
        Event::ExecutionResumed { .. } => "execution_resumed",
    }
}

fn push_exit(fields: &mut Map<String, Value>, exit: &Exit) {
    fields.extend(exit_fields(exit));
}

/// How a task ended, as fields: `cause`, `code` or `signal`, `evidence`, and what it used.
pub(crate) fn exit_fields(exit: &Exit) -> Map<String, Value> {
    let mut fields = Map::new();
    let word = match exit.cause {
        Cause::Code(code) => {
            fields.insert("code".to_owned(), code.into());
            "code"
        }
        Cause::Signal(number) => {
            fields.insert("signal".to_owned(), number.into());
            "signal"
        }
        Cause::OutOfMemory => "out_of_memory",
        Cause::TimedOut => "timed_out",
        Cause::Cancelled => "cancelled",
        Cause::NotStarted => "not_started",
        Cause::NotFound => "not_found",
        Cause::NotExecutable => "not_executable",
        Cause::EngineFailed => "engine_failed",
        Cause::Lost => "lost",
    };
    fields.insert("cause".to_owned(), word.into());
    fields.insert("evidence".to_owned(), exit.evidence.as_str().into());
    fields.insert("wall_us".to_owned(), exit.usage.wall_us.into());
    fields.insert("cpu_us".to_owned(), exit.usage.cpu_us.into());
    fields.insert("peak_memory".to_owned(), exit.usage.peak_memory.into());
    fields
}

/// An artifact as a value: `name`, `kind`, `size`, `digest`, and `entries` of a folder.
pub(crate) fn artifact(artifact: &Artifact) -> Value {
    match &artifact.content {
        Content::File { digest, size } => {
            json!({"name": artifact.name, "kind": "file", "size": size, "digest": digest})
        }
        Content::Folder { manifest, entries, size } => {
            json!({"name": artifact.name, "kind": "folder", "size": size, "digest": manifest, "entries": entries})
        }
    }
}

fn counts(progress: &Progress) -> [(String, Value); 6] {
    [
        ("finished", progress.finished),
        ("cached", progress.cached),
        ("skipped", progress.skipped),
        ("caught", progress.caught),
        ("failed", progress.failed),
        ("cancelled", progress.cancelled),
    ]
    .map(|(word, number)| (word.to_owned(), number.into()))
}

//! Reporters, from records made by hand.

#![allow(clippy::unwrap_used)]

use laminar_core::datastore::{Artifact, Content, Digest};
use laminar_core::executor::Handle;
use laminar_core::folder::Root;
use laminar_core::id::LayerId;

use super::json::Json;
use super::lines::{Density, Lines};
use super::summary::{Span, summary};
use super::*;
use crate::output::Verbosity;

/// An execution of layers A, B, C and D whose folder is a temporary one.
pub(crate) fn subject(folder: &std::path::Path) -> Arc<Subject> {
    let id = "019a8f3c1d2e70000000000000000000".parse().unwrap();
    Arc::new(Subject {
        id,
        flow: "Test".into(),
        names: Names::stored(&["A", "B", "C", "D"].map(Into::into), []),
        folder: Root::new(folder).unwrap().execution(id),
        invocation: Invocation::new("laminar", None),
        style: Style::Plain,
        mask: Default::default(),
    })
}

fn attempt(layer: u32, number: u32) -> Attempt {
    Attempt { split: Split { layer: LayerId(layer), index: 0 }, number }
}

fn exit(cause: Cause, evidence: &str) -> Exit {
    Exit { cause, evidence: evidence.to_owned(), usage: Default::default() }
}

/// A log with a clock that ticks a second an event, and the counts after each.
fn told(events: Vec<(Event, u32)>, reporter: &mut dyn Reporter) {
    let mut progress = Progress { total: 4, ..Progress::default() };
    for (seq, (event, failed)) in (1_u64..).zip(events) {
        progress.failed = failed;
        if matches!(event, Event::AttemptPublished { .. }) {
            progress.finished += 1;
        }
        reporter.report(&Record { seq, at_ms: i64::try_from(seq * 1000).unwrap(), event }, &progress);
    }
}

fn story() -> Vec<(Event, u32)> {
    let artifact = Artifact {
        name: "model".to_owned(),
        content: Content::File { digest: Digest { hash: [7; 32], executable: false }, size: 2048 },
    };
    let task = TaskId {
        execution: "019a8f3c1d2e70000000000000000000".parse().unwrap(),
        layer: "A".into(),
        index: 0,
        attempt: 1,
    };
    vec![
        (Event::AttemptLaunched { attempt: attempt(0, 1), outputs: 0, memory: None }, 0),
        (Event::AttemptStarted { attempt: attempt(0, 1), handle: Handle { task, token: String::new() } }, 0),
        (Event::AttemptExited { attempt: attempt(0, 1), exit: Exit::code(0) }, 0),
        (Event::AttemptPublished { attempt: attempt(0, 1), artifacts: vec![artifact] }, 0),
        (Event::AttemptLaunched { attempt: attempt(1, 1), outputs: 1, memory: None }, 0),
        (Event::AttemptExited { attempt: attempt(1, 1), exit: exit(Cause::TimedOut, "SIGKILL, 5 s after SIGTERM") }, 0),
        (Event::RetryScheduled { attempt: attempt(1, 1), delay_ms: 2000, memory: Some(64 << 20) }, 0),
        (Event::RetryDue { split: attempt(1, 1).split }, 0),
        (Event::AttemptLaunched { attempt: attempt(1, 2), outputs: 1, memory: None }, 0),
        (Event::AttemptLaunched { attempt: attempt(2, 1), outputs: 2, memory: None }, 0),
        (Event::AttemptExited { attempt: attempt(2, 1), exit: Exit::code(3) }, 0),
        (Event::AttemptPublished { attempt: attempt(2, 1), artifacts: Vec::new() }, 0),
        (Event::AttemptExited { attempt: attempt(1, 2), exit: exit(Cause::Code(7), "") }, 1),
        (Event::CancelRequested { force: false }, 1),
        (Event::CancelRequested { force: true }, 1),
        (Event::ExecutionEnded { outcome: Outcome::Failed }, 1),
    ]
}

fn lines(density: Density, folder: &std::path::Path) -> String {
    let mut sink = Vec::new();
    told(story(), &mut Lines::new(subject(folder), density, &mut sink));
    String::from_utf8(sink).unwrap()
}

fn write_log(folder: &std::path::Path, attempt: Attempt, bytes: &[u8]) {
    let subject = subject(folder);
    std::fs::create_dir_all(subject.folder.logs()).unwrap();
    std::fs::write(subject.folder.log(&subject.task(attempt)), bytes).unwrap();
}

#[test]
fn every_settled_layer_has_its_line_and_a_failure_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let log: String = (1..=12).map(|line| format!("line {line}\n")).collect::<String>() + "\x1b[31mboom";
    write_log(folder.path(), attempt(1, 2), log.as_bytes());
    assert_eq!(
        lines(Density::Settled, folder.path()),
        "\
finished  A (2.0 s)
retry  B: attempt 1 failed: timed out (SIGKILL, 5 s after SIGTERM); again in 2.0 s with 64.0 MiB of memory
caught  C: exit code 3 (1.0 s)
failed  B: exit code 7 (4.0 s, 2 attempts)
    | line 4
    | line 5
    | line 6
    | line 7
    | line 8
    | line 9
    | line 10
    | line 11
    | line 12
    | \\x1b[31mboom
    all of it: laminar logs 019a8f3c1d2e B
cancelling: layers that run are asked to end, and nothing new starts; once more kills them at once
killing: layers that run are killed
"
    );
}

#[test]
fn quiet_says_only_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        lines(Density::Failures, folder.path()),
        "failed  B: exit code 7 (4.0 s, 2 attempts)\n    it printed nothing\n"
    );
}

#[test]
fn a_large_flow_tells_failures_and_retries_only() {
    let folder = tempfile::tempdir().unwrap();
    let told = lines(Density::of(Verbosity::Normal, 201), folder.path());
    assert!(!told.contains("finished  A") && told.contains("retry  B") && told.contains("failed  B"), "{told}");
    assert_eq!(Density::of(Verbosity::Normal, 200), Density::Settled);
}

#[test]
fn verbose_tells_every_event() {
    let folder = tempfile::tempdir().unwrap();
    let told = lines(Density::Everything, folder.path());
    for line in [
        "launched  A",
        "started  A",
        "exited  A: exit code 0",
        "published  A: 1 artifact, 2.0 KiB",
        "due  B",
        "launched  B (attempt 2)",
    ] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
}

#[test]
fn a_rejected_layer_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Vec::new();
    let events = vec![
        (Event::AttemptLaunched { attempt: attempt(0, 1), outputs: 0, memory: None }, 0),
        (Event::AttemptExited { attempt: attempt(0, 1), exit: Exit::code(0) }, 0),
        (Event::AttemptRejected { attempt: attempt(0, 1), reason: "`s` is a socket".to_owned() }, 1),
    ];
    told(events, &mut Lines::new(subject(folder.path()), Density::Settled, &mut sink));
    assert_eq!(String::from_utf8(sink).unwrap(), "failed  A: `s` is a socket (1.0 s)\n    it printed nothing\n");
}

#[test]
fn json_has_one_object_an_event_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Vec::new();
    told(story(), &mut Json::new(subject(folder.path()), "local", &["local"], 0, &mut sink));
    let lines: Vec<serde_json::Value> =
        String::from_utf8(sink).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1 + story().len());
    assert_eq!(lines[0]["event"], "execution_created");
    assert_eq!(lines[0]["layers"], 4);
    assert_eq!(
        lines[3],
        serde_json::json!({
            "event": "attempt_exited", "seq": 3, "at": "1970-01-01T00:00:03.000Z", "layer": "A", "index": 0, "attempt": 1,
            "code": 0, "cause": "code", "evidence": "", "wall_us": 0, "cpu_us": 0, "peak_memory": 0,
        })
    );
    assert_eq!(lines[4]["artifacts"][0]["name"], "model");
    assert_eq!(lines[6]["cause"], "timed_out");
    let retry = lines.iter().find(|line| line["event"] == "retry_scheduled").unwrap();
    assert_eq!((&retry["delay_ms"], &retry["memory"]), (&2000.into(), &(64 << 20).into()));
    assert_eq!(lines[0]["backends"], serde_json::json!(["local"]));
    assert_eq!(lines[16]["outcome"], "failed");
    assert_eq!(lines[16]["failed"], 1);
}

#[test]
fn a_reader_that_goes_away_stops_nothing() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut json = Json::new(subject(folder.path()), "local", &["local"], 0, Gone);
    told(story(), &mut json);
    assert!(json.finish().is_ok());
    told(story(), &mut Lines::new(subject(folder.path()), Density::Everything, Gone));
}

#[test]
fn a_disk_that_is_full_is_told_at_the_end() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut json = Json::new(subject(folder.path()), "local", &["local"], 0, Full);
    told(story(), &mut json);
    assert_eq!(json.finish().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn an_attempt_that_was_lost_is_told_once_when_another_follows() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Vec::new();
    let events = vec![
        (Event::AttemptLaunched { attempt: attempt(0, 1), outputs: 0, memory: None }, 0),
        (Event::AttemptExited { attempt: attempt(0, 1), exit: exit(Cause::Lost, "its supervisor was killed") }, 0),
        (Event::AttemptLaunched { attempt: attempt(0, 2), outputs: 0, memory: None }, 0),
        (Event::AttemptExited { attempt: attempt(0, 2), exit: Exit::code(0) }, 0),
        (Event::AttemptPublished { attempt: attempt(0, 2), artifacts: Vec::new() }, 0),
    ];
    told(events, &mut Lines::new(subject(folder.path()), Density::Settled, &mut sink));
    let told = String::from_utf8(sink).unwrap();
    assert_eq!(told, "retry  attempt 1 of A was lost; launched again\nfinished  A (1.0 s)\n");
}

#[test]
fn a_program_that_is_not_found_is_told_in_short_and_shell_words_get_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let said = |program: &str| {
        let path = "/a/long/folder:".repeat(50);
        let evidence = format!("`{program}` is in none of the folders of PATH: {path}");
        let mut sink = Vec::new();
        let events = vec![
            (Event::AttemptLaunched { attempt: attempt(0, 1), outputs: 0, memory: None }, 0),
            (Event::AttemptExited { attempt: attempt(0, 1), exit: exit(Cause::NotFound, &evidence) }, 1),
        ];
        told(events, &mut Lines::new(subject(folder.path()), Density::Settled, &mut sink));
        String::from_utf8(sink).unwrap()
    };
    let plain = said("nope");
    assert!(plain.contains("`nope` is in none") && plain.lines().all(|line| line.len() < 200), "{plain}");
    assert!(!plain.contains("hint") && !plain.contains("it printed nothing"), "{plain}");
    for program in ["cd", "ls -l", "ls|wc"] {
        assert!(said(program).contains("\n    hint: "), "{program}");
    }
}

/// A foreach layer A of so many splits, of which the third fails, and B of which all of what it needs was skipped.
fn fanned_out(splits: u32, density: Density) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::into_inner(subject(folder.path())).unwrap();
    let mut names = inner.names.clone();
    names.fan_out(LayerId(0));
    let subject = Arc::new(Subject { names, ..inner });
    let values = (0..splits).map(serde_json::Value::from).collect();
    let key = laminar_core::each::Key { name: "x".into(), values };
    let each = laminar_core::each::Each { dimensions: vec![laminar_core::each::Dimension { keys: vec![key] }] };
    let mut events = vec![(Event::LayerOpened { layer: LayerId(0), splits, each: Some(Arc::new(each)) }, 0, 0)];
    for index in 0..splits {
        let attempt = Attempt { split: Split { layer: LayerId(0), index }, number: 1 };
        let failed = u32::from(index >= 2);
        events.push((Event::AttemptLaunched { attempt, outputs: 0, memory: None }, u32::from(index > 2), 0));
        let exit = Exit::code(i32::from(index == 2));
        events.push((Event::AttemptExited { attempt, exit }, failed, 0));
        if index != 2 {
            events.push((Event::AttemptPublished { attempt, artifacts: Vec::new() }, failed, 0));
        }
    }
    events.push((Event::LayerSkipped { layer: LayerId(2) }, 1, 2));
    let mut sink = Vec::new();
    let mut lines = Lines::new(Arc::clone(&subject), density, &mut sink);
    let mut progress = Progress { total: splits + 3, ..Progress::default() };
    for (seq, (event, failed, skipped)) in (1_u64..).zip(events) {
        (progress.failed, progress.skipped) = (failed, skipped);
        progress.finished += u32::from(matches!(event, Event::AttemptPublished { .. }));
        lines.report(&Record { seq, at_ms: i64::try_from(seq * 1000).unwrap(), event }, &progress);
    }
    let told = summary(&subject, Outcome::Failed, &progress, &span(1000));
    (String::from_utf8(sink).unwrap(), told)
}

#[test]
fn a_layer_of_few_splits_is_told_split_by_split() {
    let (told, summary) = fanned_out(3, Density::Settled);
    let expected = "\
opened  A: 3 splits
finished  A[0] (1.0 s)
finished  A[1] (1.0 s)
failed  A[2] (x=2): exit code 1 (1.0 s)
    it printed nothing
skipped  C: its `when` said no, with 1 layer that needs it
";
    assert_eq!(told, expected);
    assert!(summary.starts_with("failed: 1 of 6 tasks in 1.0 s (2 finished, 2 skipped)"), "{summary}");
}

#[test]
fn a_layer_of_many_splits_is_told_by_tenths_and_each_failure_in_full() {
    let (told, _) = fanned_out(1000, Density::Settled);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..2], ["opened  A: 1000 splits", "failed  A[2] (x=2): exit code 1 (1.0 s)"]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("running  A: ")).count(), 9, "{told}");
    assert!(told.contains("running  A: 100 of 1000 splits, 1 failed ("), "{told}");
    assert!(told.contains("\nfailed  A: 1000 splits, 1 failed ("), "{told}");
    let (quiet, _) = fanned_out(1000, Density::Failures);
    assert_eq!(quiet, "failed  A[2] (x=2): exit code 1 (1.0 s)\n    it printed nothing\n");
}

#[test]
fn of_many_that_failed_the_first_are_told_and_the_others_counted() {
    let told = |density| {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Vec::new();
        for index in 0..2000 {
            let attempt = Attempt { split: Split { layer: LayerId(0), index }, number: 1 };
            events.push((Event::AttemptLaunched { attempt, outputs: 0, memory: None }, index));
            events.push((Event::AttemptExited { attempt, exit: Exit::code(1) }, index + 1));
        }
        events.push((Event::ExecutionEnded { outcome: Outcome::Failed }, 2000));
        let mut sink = Vec::new();
        super::tests::told(events, &mut Lines::new(subject(folder.path()), density, &mut sink));
        String::from_utf8(sink).unwrap()
    };
    for density in [Density::Failures, Density::Pulse, Density::Settled] {
        let told = told(density);
        assert_eq!(told.matches("failed  A").count(), 10, "{told}");
        assert_eq!(told.matches("it printed nothing").count(), 10, "{told}");
        let last = "failed  and 1990 more of A; `laminar status 019a8f3c1d2e A` lists them";
        assert_eq!(told.lines().last(), Some(last), "{told}");
    }
    assert_eq!(told(Density::Everything).matches("failed  A").count(), 2000);
}

/// From 1970 to the end, so many milliseconds later.
fn span(to_ms: i64) -> Span {
    let mut span = Span::new(0);
    span.note(&Record { seq: 1, at_ms: to_ms, event: Event::ExecutionEnded { outcome: Outcome::Failed } });
    span
}

#[test]
fn the_summary_counts_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let subject = subject(folder.path());
    let mut took = span(3400);
    let progress = Progress { total: 12, finished: 12, ..Progress::default() };
    assert_eq!(
        summary(&subject, Outcome::Finished, &progress, &took),
        "finished: 12 layers in 3.4 s; execution 019a8f3c1d2e, see `laminar artifacts 019a8f3c1d2e`"
    );
    let progress = Progress { total: 12, finished: 8, caught: 1, failed: 1, cancelled: 2, ..Progress::default() };
    assert_eq!(
        summary(&subject, Outcome::Failed, &progress, &took),
        "failed: 1 of 12 layers in 3.4 s (8 finished, 1 caught, 2 cancelled); execution 019a8f3c1d2e, see `laminar status 019a8f3c1d2e`"
    );
    let resumed = Event::ExecutionResumed { again: Vec::new(), splits: Vec::new(), changed: Vec::new(), update: None };
    took.note(&Record { seq: 2, at_ms: 10_000, event: resumed });
    took.note(&Record { seq: 3, at_ms: 12_000, event: Event::ExecutionEnded { outcome: Outcome::Failed } });
    let told = summary(&subject, Outcome::Failed, &progress, &took);
    assert!(told.starts_with("failed: 1 of 12 layers in 2.0 s since it was resumed (8 finished"), "{told}");
}

//! Runs the suite for some executors as a test program of its own.
//!
//! Its words are those of the usual harness, as far as they make sense, so that cargo and its like can drive it: a test is
//! called `<executor>::<case>`.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::case::{Case, Verdict};
use super::document;
use super::factory::Factory;
use super::table::{Row, table};

const HELP: &str = "\
Whether executors keep the contract; a test for each case and executor, called <executor>::<case>.

  [FILTER]...            only tests whose name holds one of these
  --exact                the name is one of these
  --skip FILTER          not those whose name holds this
  --include-ignored      those too that run on request only
  --ignored              only those
  --test-threads N       how many at once
  --list                 only names them
  --table                prints the results as a Markdown table
";

#[derive(Debug, Default)]
struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    requested: bool,
    only_requested: bool,
    list: bool,
    table: bool,
    help: bool,
    at_once: Option<usize>,
}

/// One case for one executor.
struct Test {
    name: String,
    factory: Arc<dyn Factory>,
    case: Case,
}

/// Runs every case for every one of these executors, as the program's arguments say; what is declared is listed.
#[must_use]
pub fn main(factories: Vec<Box<dyn Factory>>) -> ExitCode {
    run(factories, None)
}

/// The same, with a document that has the results as a table. It is a failure when it says otherwise of an executor that is
/// here and of which all cases were run; with `LAMINAR_TEST_BLESS` set its columns are written anew.
#[must_use]
pub fn documented(factories: Vec<Box<dyn Factory>>, document: impl AsRef<Path>) -> ExitCode {
    run(factories, Some(document.as_ref()))
}

fn run(factories: Vec<Box<dyn Factory>>, document: Option<&Path>) -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(word) => {
            say(&format!("unknown option `{word}`\n\n{HELP}"));
            return ExitCode::from(2);
        }
    };
    if options.help {
        say(HELP);
        return ExitCode::SUCCESS;
    }
    let cases = super::suite();
    let factories: Vec<Arc<dyn Factory>> = factories.into_iter().map(Arc::from).collect();
    let tests: Vec<Test> = factories
        .iter()
        .flat_map(|factory| cases.iter().map(|case| Test::new(factory, *case)))
        .filter(|test| options.wants(test))
        .collect();
    if options.list {
        tests.iter().for_each(|test| say(&format!("{}: test\n", test.name)));
        return ExitCode::SUCCESS;
    }
    let count = tests.len();
    say(&format!("\nrunning {count} tests\n"));
    let begun = Instant::now();
    let rows = play(tests, options.at_once());
    if options.table {
        let names: Vec<_> = factories.iter().map(|factory| factory.name()).collect();
        say(&format!("\n{}", table(&cases, &names, &rows)));
    }
    let stale = document.map_or(Vec::new(), |path| document::hold(path, &cases, &factories, &rows));
    let is_kept = conclude(&rows, begun.elapsed());
    if let (Some(path), [_, ..]) = (document, &stale[..]) {
        let stale = stale.join("\n  ");
        say(&format!("{} is stale; LAMINAR_TEST_BLESS=1 writes it anew:\n  {stale}\n\n", path.display()));
    }
    if is_kept && stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        while let Some(word) = words.next() {
            let (word, mut value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word, None),
            };
            let mut value = || value.take().or_else(|| words.next()).ok_or_else(|| word.clone());
            match word.as_str() {
                "--exact" => options.exact = true,
                "--skip" => options.skips.push(value()?),
                "--include-ignored" => options.requested = true,
                "--ignored" => options.only_requested = true,
                "--list" => options.list = true,
                "--table" => options.table = true,
                "--help" | "-h" => options.help = true,
                "--test-threads" => options.at_once = Some(value()?.parse().map_err(|_| word.clone())?),
                // Said by those who drive the usual harness; nothing here depends on them.
                "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--show-output" => {}
                "--format" | "--color" => drop(value()?),
                other if other.starts_with('-') => return Err(word),
                _ => options.filters.push(word),
            }
        }
        Ok(options)
    }

    fn wants(&self, test: &Test) -> bool {
        let matches = |filter: &String| if self.exact { test.name == *filter } else { test.name.contains(filter) };
        let on_request = match test.case.on_request {
            true => self.requested || self.only_requested,
            false => !self.only_requested,
        };
        on_request && (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skips.iter().any(matches)
    }

    /// Cases wait more than they work.
    fn at_once(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        self.at_once.unwrap_or(cores * 2).max(1)
    }
}

impl Test {
    fn new(factory: &Arc<dyn Factory>, case: Case) -> Test {
        Test { name: case.test(factory.name()), factory: Arc::clone(factory), case }
    }

    /// Longer than the case gives itself, so that only one that blocks its thread is given up.
    fn patience(&self) -> Duration {
        self.factory.deadline() * if self.case.on_request { 12 } else { 3 }
    }
}

/// A test that has been begun.
struct Begun {
    name: String,
    executor: String,
    case: &'static str,
    at: Instant,
    until: Instant,
}

/// Plays all tests, so many at once, each on a thread of its own.
fn play(tests: Vec<Test>, at_once: usize) -> Vec<Row> {
    let (sender, receiver) = channel();
    let mut waiting = VecDeque::from(tests);
    let mut begun: Vec<Begun> = Vec::new();
    let mut rows = Vec::new();
    while !(waiting.is_empty() && begun.is_empty()) {
        while begun.len() < at_once
            && let Some(test) = waiting.pop_front()
        {
            begun.push(begin(test, &sender));
        }
        let Some((name, verdict)) = next(&receiver, &begun) else { continue };
        // One that was given up may still come to an end.
        let Some(at) = begun.iter().position(|test| test.name == name) else { continue };
        let test = begun.swap_remove(at);
        report(&test, &verdict);
        rows.push(Row { executor: test.executor, case: test.case, verdict });
    }
    rows
}

fn begin(test: Test, sender: &Sender<(String, Verdict)>) -> Begun {
    let now = Instant::now();
    let begun = Begun {
        name: test.name.clone(),
        executor: test.factory.name().to_owned(),
        case: test.case.name,
        at: now,
        until: now + test.patience(),
    };
    let sender = sender.clone();
    std::thread::spawn(move || {
        let verdict = test.case.judge(&test.factory);
        // Nobody listens any more when it has been given up.
        let _ = sender.send((test.name, verdict));
    });
    begun
}

/// The next verdict, or that of a test that blocks its thread.
fn next(receiver: &Receiver<(String, Verdict)>, begun: &[Begun]) -> Option<(String, Verdict)> {
    let first = begun.iter().min_by_key(|test| test.until)?;
    let verdict = receiver.recv_timeout(first.until.saturating_duration_since(Instant::now()));
    let hangs = || (first.name.clone(), Verdict::Failed("it blocks its thread and does not come back".to_owned()));
    Some(verdict.unwrap_or_else(|_| hangs()))
}

fn report(test: &Begun, verdict: &Verdict) {
    let took = test.at.elapsed();
    let said = match verdict {
        Verdict::Passed => "ok".to_owned(),
        Verdict::Failed(_) => "FAILED".to_owned(),
        Verdict::Declared(reason) => format!("ignored, declared: {reason}"),
    };
    let slow = if took > Duration::from_secs(2) { format!(" ({took:.1?})") } else { String::new() };
    say(&format!("test {} ... {said}{slow}\n", test.name));
}

/// Says how it went, and returns whether nothing has failed.
fn conclude(rows: &[Row], took: Duration) -> bool {
    let mut failed: Vec<_> = rows
        .iter()
        .filter_map(|row| match &row.verdict {
            Verdict::Failed(why) => Some(format!("---- {}::{} ----\n{why}\n", row.executor, row.case)),
            _ => None,
        })
        .collect();
    failed.sort_unstable();
    if !failed.is_empty() {
        say(&format!("\nfailures:\n\n{}", failed.join("\n")));
    }
    let count = |is: fn(&Verdict) -> bool| rows.iter().filter(|row| is(&row.verdict)).count();
    say(&format!(
        "\ntest result: {}. {} passed; {} failed; {} declared; finished in {took:.2?}\n\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        count(|verdict| matches!(verdict, Verdict::Passed)),
        failed.len(),
        count(|verdict| matches!(verdict, Verdict::Declared(_))),
    ));
    failed.is_empty()
}

fn say(text: &str) {
    // A reader that is gone misses nothing.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

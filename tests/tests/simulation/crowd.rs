//! Many executions at once, each with a seed of its own, on all cores; and the least that still goes wrong of one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::drive::{Report, Setup, simulate};
use crate::faults::{Fault, Figures};

/// How much of a trace is shown: its end.
const LINES_SHOWN: usize = 400;

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// A place for folders that is not a disk, where there is one.
pub(crate) fn root() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("laminar-simulation-").tempdir_in(shm);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Simulates an execution of each seed from `first` on; the error tells how to see one that went wrong again.
pub(crate) fn simulate_many(first: u64, many: u64, setup: &Setup, progress: bool) -> Result<Figures, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done, stop) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new((Figures::default(), None::<Setup>));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let root = root();
                let mut figures = Figures::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + many {
                        break;
                    }
                    let setup = Setup { seed, ..setup.clone() };
                    let report = simulate(&setup, root.path());
                    figures.add(&report.figures);
                    done.fetch_add(1, Ordering::Relaxed);
                    if report.broken.is_some() {
                        stop.store(true, Ordering::Relaxed);
                        let mut total = total.lock().unwrap();
                        if total.1.as_ref().is_none_or(|other| other.seed > seed) {
                            total.1 = Some(setup);
                        }
                    }
                }
                total.lock().unwrap().0.add(&figures);
            });
        }
        if progress {
            show_progress(&done, many, &stop);
        }
    });
    match total.into_inner().unwrap() {
        (figures, None) => Ok(figures),
        (_, Some(setup)) => Err(tell(&setup)),
    }
}

fn show_progress(done: &AtomicU64, many: u64, stop: &AtomicBool) {
    let (began, mut shown) = (Instant::now(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let done = done.load(Ordering::Relaxed);
        let is_all = done >= many || stop.load(Ordering::Relaxed);
        if is_all || shown.elapsed() >= PROGRESS_EVERY {
            shown = Instant::now();
            let seconds = began.elapsed().as_secs_f64();
            // Past the capture of the test harness, which would keep it until the end.
            let _ = writeln!(
                std::io::stderr(),
                "{done} of {many} executions in {seconds:.0} s, {:.0} a second",
                done as f64 / seconds
            );
        }
        if is_all {
            return;
        }
    }
}

/// What went wrong, with the least that does and how to see it again.
pub(crate) fn tell(setup: &Setup) -> String {
    let root = root();
    let setup = shrink(setup, root.path());
    let report = run(&Setup { traced: true, ..setup.clone() }, root.path());
    let mut text = String::new();
    let left_out = report.trace.len().saturating_sub(LINES_SHOWN);
    if left_out > 0 {
        let _ = writeln!(text, "({left_out} lines left out; LAMINAR_SIMULATE_TRACE=FILE keeps all)");
    }
    for line in &report.trace[left_out..] {
        let _ = writeln!(text, "{line}");
    }
    let broken = report.broken.as_deref().unwrap_or("it does not go wrong again: it depends on more than its seed");
    let _ = write!(text, "\nseed {}: {broken}\n\nsee it again with\n    {}\n", setup.seed, command(&setup));
    text
}

fn command(setup: &Setup) -> String {
    let mut text = format!("LAMINAR_SIMULATE_SEED={}", setup.seed);
    if let Some(layers) = setup.layers {
        let _ = write!(text, " LAMINAR_SIMULATE_LAYERS={layers}");
    }
    if !setup.without.is_empty() {
        let words: Vec<_> = setup.without.iter().map(|fault| fault.word()).collect();
        let _ = write!(text, " LAMINAR_SIMULATE_WITHOUT={}", words.join(","));
    }
    format!("{text} cargo test -p laminar-tests --test simulation a_seed")
}

/// The same with fewer layers and fewer kinds of faults, as long as something goes wrong.
fn shrink(setup: &Setup, root: &Path) -> Setup {
    let mut least = setup.clone();
    let goes_wrong = |setup: &Setup| run(setup, root).broken.is_some();
    for fault in Fault::ALL.iter().copied().filter(|fault| !setup.without.contains(fault)) {
        let mut fewer = least.clone();
        fewer.without.push(fault);
        if goes_wrong(&fewer) {
            least = fewer;
        }
    }
    for layers in 1..setup.layers.unwrap_or(24) {
        let fewer = Setup { layers: Some(layers), ..least.clone() };
        if goes_wrong(&fewer) {
            return fewer;
        }
    }
    least
}

fn run(setup: &Setup, root: &Path) -> Report {
    simulate(setup, root)
}

/// What the environment asks for: `LAMINAR_SIMULATE_SEED`, `_LAYERS`, `_WITHOUT`.
pub(crate) fn asked() -> Option<Setup> {
    let seed = number("LAMINAR_SIMULATE_SEED")?;
    Some(Setup { seed, ..limited() })
}

/// The same without the seed.
pub(crate) fn limited() -> Setup {
    let without = std::env::var("LAMINAR_SIMULATE_WITHOUT").unwrap_or_default();
    let fault = |word: &str| Fault::ALL.iter().copied().find(|fault| fault.word() == word);
    let words = without.split(',').filter(|word| !word.is_empty());
    let without = words.map(|word| fault(word).unwrap_or_else(|| panic!("there is no fault `{word}`"))).collect();
    Setup { layers: number("LAMINAR_SIMULATE_LAYERS"), without, ..Setup::default() }
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: `{text}`")))
}

/// Where the whole trace of one seed shall go.
pub(crate) fn trace_file() -> Option<PathBuf> {
    std::env::var_os("LAMINAR_SIMULATE_TRACE").map(PathBuf::from)
}

//! What a layer costs over a bare spawn: the same graph of `true`, run by a loop around `posix_spawn` and by laminar, in
//! turn, so that a noisy machine is noisy for both. Prints one row a graph; the ratio is the median over the pairs.
//!
//!     cargo bench -p laminar-tests --bench layers [-- --layers 10000 --rounds 5 --jobs 2 --graph fan]
//!
//! State and logs are kept, as always. Folders of earlier rounds are removed only at the end: removing thousands of files
//! makes the making of new ones slow for a while, whoever does it.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::zombie_processes, missing_docs)]

use std::ffi::CString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use laminar::Flow;

/// The needs of each layer, in an order in which needs come first.
type Graph = Vec<Vec<usize>>;

/// Splits of the flow program that this benchmark is itself, too.
const PROGRAM_SPLITS: u32 = 2000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("floor") => floor(&read(Path::new(&args[1])), args[2].parse().unwrap(), args.get(3).map(String::as_str)),
        // What a layer of the program does until it knows that it is one.
        Some("nothing") => drop(program()),
        Some(word) if !word.starts_with("--") => return laminar::main(program()),
        _ => measure(&args),
    }
    ExitCode::SUCCESS
}

/// A layer with splits that each leave a value, as a flow program.
fn program() -> Flow {
    let flow = Flow::new("Bench");
    flow.foreach("Square", (0..PROGRAM_SPLITS).collect::<Vec<_>>(), |n: u32| Ok(n));
    flow
}

fn measure(args: &[String]) {
    let option = |name: &str, default: usize| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| {
            args.get(at + 1).and_then(|value| value.parse().ok()).expect("a number after the option")
        })
    };
    let (layers, rounds, jobs) = (option("--layers", 10_000), option("--rounds", 5), option("--jobs", 2));
    let only = args.iter().position(|arg| arg == "--graph").and_then(|at| args.get(at + 1));
    let laminar = build();
    let folder = tempfile::tempdir().unwrap();
    println!("{jobs} at once, {rounds} rounds; a round is the floor, then laminar");
    println!(
        "{:<10}{:>9}{:>15}{:>15}{:>9}{:>12}{:>12}",
        "graph", "layers", "floor us/layer", "laminar", "ratio", "peak MiB", "store MiB"
    );
    let graphs = [
        ("wide", wide(layers), flow_file(&wide(layers))),
        ("layered", layered(layers), flow_file(&layered(layers))),
        ("chain", chain(layers / 10), flow_file(&chain(layers / 10))),
        ("fan", wide(layers), fan(layers)),
    ];
    for (name, graph, flow) in graphs {
        if only.is_none_or(|only| only == name) {
            row(&laminar, folder.path(), name, &graph, &flow, rounds, jobs);
        }
    }
    if only.is_none_or(|only| only == "program") {
        let own = std::env::current_exe().unwrap();
        let graph = wide(PROGRAM_SPLITS as usize);
        row_of(&own, folder.path(), "program", (&graph, Some(&own)), None, rounds, jobs);
    }
    if only.is_none() {
        one_layer(&laminar, folder.path());
    }
}

fn wide(layers: usize) -> Graph {
    vec![Vec::new(); layers]
}

fn chain(layers: usize) -> Graph {
    (0..layers).map(|layer: usize| layer.checked_sub(1).into_iter().collect()).collect()
}

/// Levels of a hundred, each layer needs three of the level before (fewer where two fall together).
fn layered(layers: usize) -> Graph {
    let width = layers.min(100);
    let needs = |layer: usize| {
        let (level, place) = (layer / width, layer % width);
        let Some(before) = level.checked_sub(1) else { return Vec::new() };
        let mut needs =
            [place, (place * 7 + 1) % width, (place * 13 + 5) % width].map(|at| before * width + at).to_vec();
        needs.sort_unstable();
        needs.dedup();
        needs
    };
    (0..layers).map(needs).collect()
}

/// A layer that leaves a list of so many numbers, and one that is fanned out over it.
fn fan(splits: usize) -> String {
    let list = format!("echo [$(seq -s, {splits})] > \\\"$LAMINAR_OUTPUTS/all.json\\\"");
    format!(
        "{{\"flow\":\"Fan\",\"layers\":{{\"List\":{{\"run\":\"{list}\"}},\n\
         \"Fan\":{{\"foreach\":{{\"n\":\"${{{{ List.all }}}}\"}},\"command\":[\"/bin/true\"]}}}}}}\n"
    )
}

fn row(laminar: &Path, folder: &Path, name: &str, graph: &Graph, text: &str, rounds: usize, jobs: usize) {
    let flow = folder.join(format!("{name}.json"));
    std::fs::write(&flow, text).unwrap();
    row_of(laminar, folder, name, (graph, None), Some(&flow), rounds, jobs);
}

/// The same of a flow file, or of a program that has its flow in it; the floor starts `bare`, if not `true`.
fn row_of(
    laminar: &Path,
    folder: &Path,
    name: &str,
    (graph, bare_program): (&Graph, Option<&Path>),
    flow: Option<&Path>,
    rounds: usize,
    jobs: usize,
) {
    let plain = folder.join(format!("{name}.txt"));
    let lines = graph.iter().map(|needs| needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    std::fs::write(&plain, lines.map(|line| line + "\n").collect::<String>()).unwrap();
    let mut pairs = Vec::new();
    let (mut peak, mut store) = (0, 0);
    for round in 0..=rounds {
        let mut bare = Command::new(std::env::current_exe().unwrap());
        bare.arg("floor").arg(&plain).arg(jobs.to_string()).args(bare_program);
        let root = folder.join(format!("{name}-{round}"));
        let (floor, _) = time(&mut bare);
        let (took, rss) = time(
            Command::new(laminar)
                .arg("run")
                .args(flow)
                .arg("-q")
                .arg("--root")
                .arg(&root)
                .args(["--jobs", &jobs.to_string()]),
        );
        // The first pair warms the caches.
        if round > 0 {
            pairs.push((floor, took));
            peak = peak.max(rss);
            store = store.max(size(&root));
        }
    }
    let per_layer = |times: Vec<Duration>| median(times).as_secs_f64() * 1e6 / graph.len() as f64;
    let mut ratios: Vec<f64> = pairs.iter().map(|(floor, took)| took.as_secs_f64() / floor.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{name:<10}{:>9}{:>15.1}{:>15.1}{:>9.2}{:>12.1}{:>12.1}",
        graph.len(),
        per_layer(pairs.iter().map(|pair| pair.0).collect()),
        per_layer(pairs.iter().map(|pair| pair.1).collect()),
        ratios[ratios.len() / 2],
        peak as f64 / 1024.0,
        store as f64 / (1 << 20) as f64
    );
}

/// The bytes of the run stores of a root.
fn size(root: &Path) -> u64 {
    let executions = std::fs::read_dir(root.join("executions")).unwrap().map(|entry| entry.unwrap().path());
    let files = executions.flat_map(|execution| std::fs::read_dir(execution).unwrap()).map(Result::unwrap);
    let stores = files.filter(|file| file.file_name().to_string_lossy().starts_with("store.db"));
    stores.map(|file| file.metadata().unwrap().len()).sum()
}

/// What `laminar run` adds to a flow of one layer.
fn one_layer(laminar: &Path, folder: &Path) {
    let flow = folder.join("one.json");
    std::fs::write(&flow, flow_file(&wide(1))).unwrap();
    let mut added = Vec::new();
    for round in 0..20 {
        let (bare, _) = time(&mut Command::new("/bin/true"));
        let root = folder.join(format!("one-{round}"));
        let (took, _) = time(Command::new(laminar).arg("run").arg(&flow).arg("-q").arg("--root").arg(&root));
        added.push(took.saturating_sub(bare));
    }
    println!("a flow of one layer takes {:.1} ms more than its layer", median(added).as_secs_f64() * 1e3);
}

fn flow_file(graph: &Graph) -> String {
    let mut text = String::from("{\"flow\":\"Bench\",\"layers\":{");
    for (layer, needs) in graph.iter().enumerate() {
        let comma = if layer == 0 { "" } else { "," };
        let needs = needs.iter().map(|need| format!("\"s{need}\"")).collect::<Vec<_>>().join(",");
        let _ = write!(text, "{comma}\n\"s{layer}\":{{\"needs\":[{needs}],\"command\":[\"/bin/true\"]}}");
    }
    text + "}}\n"
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs a command, and returns how long it took and its peak resident memory in KiB.
fn time(command: &mut Command) -> (Duration, i64) {
    // cargo's folders of libraries would make the start of every `true` slower than it is for anybody else.
    command.env_remove("LD_LIBRARY_PATH");
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: both pointers are valid for writes; the child is ours and is waited for here alone.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    let took = start.elapsed();
    assert!(waited == pid && status == 0, "{command:?} failed with status {status:#x}");
    // SAFETY: wait4 has filled it in, and zeroes are a valid value.
    (took, unsafe { usage.assume_init() }.ru_maxrss)
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release", "--quiet", "--package", "laminar"]).status().unwrap();
    assert!(built.success(), "laminar does not build");
    let bench = std::env::current_exe().unwrap();
    let laminar = bench.ancestors().nth(2).unwrap().join("laminar");
    assert!(laminar.is_file(), "there is no {}", laminar.display());
    laminar
}

fn read(graph: &Path) -> Graph {
    let text = std::fs::read_to_string(graph).unwrap();
    text.lines().map(|line| line.split_whitespace().map(|need| need.parse().unwrap()).collect()).collect()
}

/// The floor: a loop of `posix_spawn` and `waitpid` that keeps the order of the graph, and nothing else.
fn floor(graph: &Graph, jobs: usize, program: Option<&str>) {
    let argv = match program {
        None => vec![c"/bin/true".to_owned()],
        Some(program) => vec![CString::new(program).unwrap(), c"nothing".to_owned()],
    };
    let mut waiting: Vec<usize> = graph.iter().map(Vec::len).collect();
    let mut dependants = vec![Vec::new(); graph.len()];
    for (layer, needs) in graph.iter().enumerate() {
        for need in needs {
            dependants[*need].push(layer);
        }
    }
    let mut ready: std::collections::VecDeque<usize> = (0..graph.len()).filter(|layer| waiting[*layer] == 0).collect();
    let mut running = std::collections::HashMap::new();
    let mut done = 0;
    while done < graph.len() {
        while running.len() < jobs
            && let Some(layer) = ready.pop_front()
        {
            running.insert(spawn(&argv), layer);
        }
        let mut status = 0;
        // SAFETY: the pointer is valid for writes.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        let layer = running.remove(&pid).expect("a child of ours");
        assert_eq!(status, 0);
        done += 1;
        for dependant in &dependants[layer] {
            waiting[*dependant] -= 1;
            if waiting[*dependant] == 0 {
                ready.push_back(*dependant);
            }
        }
    }
}

fn spawn(words: &[CString]) -> libc::pid_t {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let mut pid = 0;
    let program = &words[0];
    let pointers = words.iter().map(|word| word.as_ptr().cast_mut());
    let argv: Vec<*mut libc::c_char> = pointers.chain([std::ptr::null_mut()]).collect();
    // SAFETY: the strings are terminated and outlive the call, as do the terminated arrays of them.
    let error = unsafe {
        libc::posix_spawn(&raw mut pid, program.as_ptr(), std::ptr::null(), std::ptr::null(), argv.as_ptr(), environ)
    };
    assert_eq!(error, 0, "cannot spawn");
    pid
}

//! What a layer costs over a bare spawn: the same graph of `true`, run by a loop around `posix_spawn`, by laminar, and by each
//! of make, ninja, n2 and xargs that is installed, in turn, so that a noisy machine is noisy for all. Ratios are medians over
//! the rounds.
//!
//!     cargo bench -p laminar-tests --bench layers [-- --layers 10000 --rounds 5 --jobs 2 --graph fan --no-peers]
//!
//! State and logs are kept, as always. Folders of earlier rounds are removed only at the end: removing thousands of files
//! makes the making of new ones slow for a while, whoever does it.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::ffi::CString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use laminar::Flow;

#[allow(unreachable_pub, reason = "shared by benchmarks")]
mod common;
use common::{build, median, option, time};

/// The needs of each layer, in an order in which needs come first.
type Graph = Vec<Vec<usize>>;

/// The command of a round.
type MakeCommand = Box<dyn Fn(usize) -> Command>;

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
    let (layers, rounds, jobs) =
        (option(args, "--layers", 10_000), option(args, "--rounds", 5), option(args, "--jobs", 2));
    let only = args.iter().position(|arg| arg == "--graph").and_then(|at| args.get(at + 1));
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { laminar: build(), folder: folder.path().to_owned(), rounds, jobs };
    println!("{jobs} at once, {rounds} rounds; a round is the floor, then laminar, then each peer that is installed");
    println!(
        "{:<9}{:<9}{:>9}{:>11}{:>11}{:>8}{:>11}{:>12}",
        "graph", "runner", "layers", "floor us", "us/layer", "ratio", "peak MiB", "store MiB"
    );
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let peers = |graph: &str| if args.iter().any(|arg| arg == "--no-peers") { Vec::new() } else { peers(graph) };
    let argv = r#""command":["/bin/true"]"#;
    let graphs = [
        ("wide", wide(layers), argv),
        ("layered", layered(layers), argv),
        ("scripts", layered(layers), r#""run":"/bin/true""#),
        ("chain", chain(layers / 10), argv),
    ];
    for (name, graph, does) in graphs {
        if is_wanted(name) {
            bench.rows(name, &graph, &flow_file(&graph, does), &peers(name));
        }
    }
    if is_wanted("fan") {
        bench.rows("fan", &wide(layers), &fan(layers), &[]);
    }
    if is_wanted("program") {
        bench.program();
    }
}

/// Others that run graphs of commands: how a graph is written for each, if it must be, and the command line.
struct Peer {
    name: &'static str,
    /// What says whether it is installed.
    probe: &'static str,
    write: fn(&Graph) -> String,
    /// With `FILE` and `JOBS` in place of these.
    script: &'static str,
}

const PEERS: [Peer; 4] = [
    Peer { name: "make", probe: "make", write: make_file, script: "make -s -jJOBS -f FILE all" },
    Peer { name: "ninja", probe: "ninja", write: ninja_file, script: "ninja --quiet -jJOBS -f FILE" },
    Peer { name: "n2", probe: "n2", write: ninja_file, script: "n2 -j JOBS -f FILE" },
    Peer { name: "xargs", probe: "xargs", write: lines, script: "xargs -P JOBS -n 1 -a FILE /bin/true" },
];

/// The peers that are installed and can run this graph.
fn peers(graph: &str) -> Vec<&'static Peer> {
    let has = |peer: &&Peer| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(peer.probe).is_file())
    };
    PEERS.iter().filter(has).filter(|peer| peer.name != "xargs" || graph == "wide").collect()
}

fn make_file(graph: &Graph) -> String {
    let names: Vec<String> = (0..graph.len()).map(|layer| format!("s{layer}")).collect();
    let mut text = format!(".PHONY: all {0}\nall: {0}\n", names.join(" "));
    for (layer, needs) in graph.iter().enumerate() {
        let _ = writeln!(text, "s{layer}:{}\n\t@/bin/true", names_of(needs));
    }
    text
}

/// Nothing is made by the commands, so that everything runs in every round.
fn ninja_file(graph: &Graph) -> String {
    let mut text = "rule r\n command = /bin/true\n".to_owned();
    for (layer, needs) in graph.iter().enumerate() {
        let _ = writeln!(text, "build s{layer}: r{}", names_of(needs));
    }
    text
}

fn names_of(needs: &[usize]) -> String {
    needs.iter().map(|need| format!(" s{need}")).collect()
}

fn lines(graph: &Graph) -> String {
    (0..graph.len()).map(|layer| format!("{layer}\n")).collect()
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

struct Bench {
    laminar: PathBuf,
    folder: PathBuf,
    rounds: usize,
    jobs: usize,
}

/// How long one runner took in each round, beside its floor.
#[derive(Default)]
struct Row {
    took: Vec<Duration>,
    ratios: Vec<f64>,
    peak: i64,
}

impl Bench {
    fn rows(&self, name: &str, graph: &Graph, text: &str, peers: &[&Peer]) {
        let flow = self.folder.join(format!("{name}.json"));
        std::fs::write(&flow, text).unwrap();
        let mut commands: Vec<(&str, MakeCommand)> = vec![("laminar", self.laminar(name, &self.laminar, Some(flow)))];
        for peer in peers {
            let folder = self.folder.join(format!("{name}-{}", peer.name));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("file"), (peer.write)(graph)).unwrap();
            let script = peer.script.replace("FILE", "file").replace("JOBS", &self.jobs.to_string());
            let command = move |_| {
                let mut command = Command::new("sh");
                // Its own memory of what was built before would let it run nothing.
                command.args(["-c", &format!("rm -f .n*; exec {script}")]).current_dir(&folder);
                command
            };
            commands.push((peer.name, Box::new(command)));
        }
        self.compare(name, graph, None, &commands);
    }

    /// The same of a flow program, beside bare starts of that program.
    fn program(&self) {
        let own = std::env::current_exe().unwrap();
        let graph = wide(PROGRAM_SPLITS as usize);
        self.compare("program", &graph, Some(&own), &[("laminar", self.laminar("program", &own, None))]);
    }

    fn laminar(&self, name: &str, program: &Path, flow: Option<PathBuf>) -> MakeCommand {
        let (folder, jobs, name, program) =
            (self.folder.clone(), self.jobs.to_string(), name.to_owned(), program.to_owned());
        Box::new(move |round| {
            let mut command = Command::new(&program);
            command.arg("run").args(&flow).args(["-q", "--jobs", &jobs]);
            command.arg("--root").arg(root(&folder, &name, round));
            command
        })
    }

    fn compare(&self, name: &str, graph: &Graph, bare_program: Option<&Path>, commands: &[(&str, MakeCommand)]) {
        let plain = self.folder.join(format!("{name}.txt"));
        let lines = graph.iter().map(|needs| needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        std::fs::write(&plain, lines.map(|line| line + "\n").collect::<String>()).unwrap();
        let mut floors = Vec::new();
        let mut rows: Vec<Row> = commands.iter().map(|_| Row::default()).collect();
        for round in 0..=self.rounds {
            let mut bare = Command::new(std::env::current_exe().unwrap());
            bare.arg("floor").arg(&plain).arg(self.jobs.to_string()).args(bare_program);
            let (floor, _) = time(&mut bare);
            for (row, (_, command)) in rows.iter_mut().zip(commands) {
                let (took, peak) = time(&mut command(round));
                // The first round warms the caches.
                if round > 0 {
                    row.took.push(took);
                    row.ratios.push(took.as_secs_f64() / floor.as_secs_f64());
                    row.peak = row.peak.max(peak);
                }
            }
            floors.push(floor);
        }
        let per_layer = |times: Vec<Duration>| median(times).as_secs_f64() * 1e6 / graph.len() as f64;
        let floor = per_layer(floors.split_off(1));
        for (row, (runner, _)) in rows.into_iter().zip(commands) {
            let store = match *runner {
                "laminar" => format!("{:.1}", size(&root(&self.folder, name, self.rounds)) as f64 / f64::from(1 << 20)),
                _ => "-".to_owned(),
            };
            println!(
                "{name:<9}{runner:<9}{:>9}{floor:>11.1}{:>11.1}{:>8.2}{:>11.1}{store:>12}",
                graph.len(),
                per_layer(row.took),
                median(row.ratios),
                row.peak as f64 / 1024.0,
            );
        }
    }
}

fn root(folder: &Path, name: &str, round: usize) -> PathBuf {
    folder.join(format!("{name}-{round}"))
}

/// The bytes of the run stores of a root.
fn size(root: &Path) -> u64 {
    let executions = std::fs::read_dir(root.join("executions")).unwrap().map(|entry| entry.unwrap().path());
    let files = executions.flat_map(|execution| std::fs::read_dir(execution).unwrap()).map(Result::unwrap);
    let stores = files.filter(|file| file.file_name().to_string_lossy().starts_with("store.db"));
    stores.map(|file| file.metadata().unwrap().len()).sum()
}

fn flow_file(graph: &Graph, does: &str) -> String {
    let mut text = String::from("{\"flow\":\"Bench\",\"layers\":{");
    for (layer, needs) in graph.iter().enumerate() {
        let comma = if layer == 0 { "" } else { "," };
        let needs = needs.iter().map(|need| format!("\"s{need}\"")).collect::<Vec<_>>().join(",");
        let _ = write!(text, "{comma}\n\"s{layer}\":{{\"needs\":[{needs}],{does}}}");
    }
    text + "}}\n"
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

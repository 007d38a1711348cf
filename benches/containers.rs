//! What a layer costs in a container: the same command by `xargs -P2 docker run --rm` and by laminar, in turn, so that a noisy
//! machine is noisy for both. Prints one row for each engine; the ratio is the median over the pairs.
//!
//!     . /var/lib/laminar-test/env    # after `tests/engines up`: names the image
//!     cargo bench -p laminar-tests --bench containers [-- --layers 60 --rounds 5 --jobs 2 --engine docker --ways --reuse \
//!         --networks --at-once 100 --laminar PROGRAM]
//!
//! `--reuse` measures splits of one layer in containers that are reused (`--splits 1000` of them) against one container each
//! (`--layers` of them), both by laminar, in turn; the ratio is that of the times of a split.
//!
//! `--ways` measures ways to drive an engine's command line instead, without laminar; `--networks` kinds of network in the same
//! way, one of them that of a container which is there already. `--at-once 100` measures what so many containers that
//! run at the same time need of memory beside the engine: by clients in the foreground, and by laminar. Only containers with
//! this bench's label are made, and only those are removed.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[allow(unreachable_pub, reason = "shared by benchmarks")]
mod common;
use common::{build, median, option, time};

/// What the containers of the floor are called by, to be removed again.
const LABEL: &str = "laminar.test=bench";

/// Ways to run `$N` containers of `$IMAGE`, `$JOBS` at once, with `$ENGINE`: a name, and a script for one of them, or for all
/// when it is the last step.
const WAYS: [(&str, &str, &str); 4] = [
    ("run --rm", "$ENGINE run --rm --label $LABEL --network none $IMAGE true", ""),
    ("run, rm in the end", "$ENGINE run --label $LABEL --network none $IMAGE true", REMOVE),
    (
        "create, start, wait, rm",
        "id=$($ENGINE create --label $LABEL --network none $IMAGE true); $ENGINE start $id >/dev/null; $ENGINE wait $id >/dev/null",
        REMOVE,
    ),
    (
        "run --detach, wait, rm",
        "$ENGINE wait $($ENGINE run -d --label $LABEL --network none $IMAGE true) >/dev/null",
        REMOVE,
    ),
];

/// Kinds of network, as [`WAYS`]. `$OTHER` is a container that is there.
const NETWORKS: [(&str, &str, &str); 4] = [
    ("the engine's own", "$ENGINE run --rm --label $LABEL $IMAGE true", ""),
    ("none", "$ENGINE run --rm --label $LABEL --network none $IMAGE true", ""),
    ("host", "$ENGINE run --rm --label $LABEL --network host $IMAGE true", ""),
    ("that of another container", "$ENGINE run --rm --label $LABEL --network container:$OTHER $IMAGE true", ""),
];

const REMOVE: &str = "$ENGINE ps -aq --filter label=$LABEL | xargs $ENGINE rm -f >/dev/null";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let text = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1).cloned());
    let number = |name: &str, default: usize| option(&args, name, default);
    let Ok(image) = std::env::var("LAMINAR_TEST_IMAGE") else {
        println!("LAMINAR_TEST_IMAGE is not set; see tests/engines");
        return;
    };
    let bench =
        Bench { image, layers: number("--layers", 60), rounds: number("--rounds", 5), jobs: number("--jobs", 2) };
    let engines = text("--engine").map_or(vec!["docker".to_owned(), "podman".to_owned()], |one| vec![one]);
    let at_once = number("--at-once", 0);
    if at_once == 0 {
        println!("{} containers of `true`, {} at once, {} rounds", bench.layers, bench.jobs, bench.rounds);
    }
    if args.iter().any(|arg| arg == "--ways") {
        return engines.iter().for_each(|engine| bench.ways(engine, &WAYS, ""));
    }
    if args.iter().any(|arg| arg == "--networks") {
        return engines.iter().for_each(|engine| bench.networks(engine));
    }
    let laminar = text("--laminar").map_or_else(build, PathBuf::from);
    if at_once > 0 {
        println!("{:<10}{:>34}{:>34}", "engine", "clients in the foreground, MiB", "laminar, MiB");
        return engines.iter().for_each(|engine| bench.at_once(engine, &laminar, at_once));
    }
    if args.iter().any(|arg| arg == "--reuse") {
        let splits = number("--splits", 1000);
        println!("{:<10}{:>18}{:>18}{:>14}", "engine", "one each, ms/split", "reused, ms/split", "times faster");
        return engines.iter().for_each(|engine| bench.reuse(engine, &laminar, splits));
    }
    println!("{:<10}{:>16}{:>16}{:>9}", "engine", "floor ms/layer", "laminar", "ratio");
    engines.iter().for_each(|engine| bench.row(engine, &laminar));
}

struct Bench {
    image: String,
    layers: usize,
    rounds: usize,
    jobs: usize,
}

impl Bench {
    fn row(&self, engine: &str, laminar: &Path) {
        let folder = tempfile::tempdir().unwrap();
        let layers: Vec<String> = (0..self.layers).map(|at| format!("\"s{at}\":{{\"command\":[\"true\"]}}")).collect();
        let flow = format!(
            "{{\"flow\":\"Bench\",\"defaults\":{{\"container\":{{\"image\":\"{}\",\"network\":\"none\"}}}},\"layers\":{{{}}}}}",
            self.image,
            layers.join(",")
        );
        std::fs::write(folder.path().join("flow.json"), flow).unwrap();
        let mut pairs = Vec::new();
        for round in 0..=self.rounds {
            let floor = self.floor(engine, WAYS[0]);
            let mut command = Command::new(laminar);
            command.args(["run", "flow.json", "-q", "--backend", engine, "--jobs", &self.jobs.to_string()]);
            let (took, _) = time(command.current_dir(folder.path()));
            // The first pair warms the caches.
            if round > 0 {
                pairs.push((floor, took));
            }
        }
        let floor = self.per_layer(pairs.iter().map(|pair| pair.0).collect());
        let took = self.per_layer(pairs.iter().map(|pair| pair.1).collect());
        println!("{engine:<10}{floor:>16.1}{took:>16.1}{:>9.2}", ratio(&pairs));
    }

    /// Splits in containers that are reused against one container each.
    fn reuse(&self, engine: &str, laminar: &Path, splits: usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut pairs = Vec::new();
        for round in 0..=self.rounds {
            let [each, reused] = [(self.layers, false), (splits, true)].map(|(splits, reuse)| {
                let all: Vec<String> = (0..splits).map(|at| at.to_string()).collect();
                let flow = format!(
                    "{{\"flow\":\"Bench\",\"layers\":{{\"Fan\":{{\"foreach\":{{\"i\":[{}]}},\"command\":[\"true\"],\
                     \"container\":{{\"image\":\"{}\",\"network\":\"none\",\"reuse\":{reuse}}}}}}}}}",
                    all.join(","),
                    self.image
                );
                std::fs::write(folder.path().join("flow.json"), flow).unwrap();
                let mut command = Command::new(laminar);
                command.args(["run", "flow.json", "-q", "--backend", engine, "--jobs", &self.jobs.to_string()]);
                time(command.current_dir(folder.path())).0.as_secs_f64() * 1e3 / splits as f64
            });
            if round > 0 {
                pairs.push((each, reused));
            }
        }
        let each = median(pairs.iter().map(|pair| pair.0).collect());
        let reused = median(pairs.iter().map(|pair| pair.1).collect());
        let faster = median(pairs.iter().map(|pair| pair.0 / pair.1).collect());
        println!("{engine:<10}{each:>18.1}{reused:>18.2}{faster:>14.0}");
    }

    fn networks(&self, engine: &str) {
        let tell = |args: &[&str]| Command::new(engine).args(args).output().unwrap().stdout;
        let other = tell(&["run", "--detach", "--label", LABEL, &self.image, "sleep", "1000"]);
        let other = String::from_utf8(other).unwrap();
        self.ways(engine, &NETWORKS, other.trim());
        tell(&["rm", "--force", other.trim()]);
    }

    /// What `many` containers of `sleep` need of memory while they run, but for what is the engine's: first by clients in the
    /// foreground, then by laminar, with what it has in the containers.
    fn at_once(&self, engine: &str, laminar: &Path, many: usize) {
        let label = format!("{LABEL}.{}", std::process::id());
        let run = format!("exec {engine} run --rm --label {label} --network none {} sleep 1000", self.image);
        let all = format!("for i in $(seq {many}); do sh -c '{run}' & done; wait");
        let mut clients = Command::new("sh").args(["-c", &all]).process_group(0).spawn().unwrap();
        let sleeps = || in_containers("sleep");
        let settle = |before: usize| {
            until(|| sleeps() >= before + many);
            std::thread::sleep(Duration::from_secs(3));
        };
        let before = sleeps();
        settle(before);
        let alone = memory(clients.id());
        let ids = Command::new(engine).args(["ps", "-q", "--filter", &format!("label={label}")]).output().unwrap();
        let ids = String::from_utf8(ids.stdout).unwrap();
        assert!(Command::new(engine).args(["kill"]).args(ids.split_whitespace()).output().unwrap().status.success());
        clients.wait().unwrap();

        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<String> = (0..many).map(|at| at.to_string()).collect();
        let flow = format!(
            "{{\"flow\":\"Bench\",\"layers\":{{\"Fan\":{{\"foreach\":{{\"i\":[{}]}},\"command\":[\"sleep\",\"1000\"],\
             \"container\":{{\"image\":\"{}\",\"network\":\"none\"}}}}}}}}",
            numbers.join(","),
            self.image
        );
        std::fs::write(folder.path().join("flow.json"), flow).unwrap();
        let mut command = Command::new(laminar);
        command.args(["run", "flow.json", "-q", "--backend", engine, "--jobs", &many.to_string()]);
        let mut scheduler = command.current_dir(folder.path()).spawn().unwrap();
        let before = sleeps();
        settle(before);
        let ours = memory(scheduler.id()).with(supervisors());
        let cancel = ["cancel", "--force"];
        assert!(Command::new(laminar).args(cancel).current_dir(folder.path()).output().unwrap().status.success());
        scheduler.wait().unwrap();
        println!("{engine:<10}{:>34}{:>34}", alone.shown(), ours.shown());
    }

    fn ways(&self, engine: &str, ways: &[(&str, &str, &str)], other: &str) {
        println!("{engine:<28}{:>10}{:>23}", "ms/layer", "ratio to the first");
        let mut all: Vec<Vec<Duration>> = vec![Vec::new(); ways.len()];
        for round in 0..=self.rounds {
            for (at, way) in ways.iter().enumerate() {
                let took = self.floor_beside(engine, *way, other);
                if round > 0 {
                    all[at].push(took);
                }
            }
        }
        for ((name, ..), times) in ways.iter().zip(&all) {
            let pairs: Vec<_> = all[0].iter().copied().zip(times.iter().copied()).collect();
            println!("  {name:<26}{:>10.1}{:>23.2}", self.per_layer(times.clone()), ratio(&pairs));
        }
    }

    /// The containers without laminar.
    fn floor(&self, engine: &str, way: (&str, &str, &str)) -> Duration {
        self.floor_beside(engine, way, "")
    }

    fn floor_beside(&self, engine: &str, (_, one, then): (&str, &str, &str), other: &str) -> Duration {
        let script = format!("seq {} | xargs -P{} -I{{}} sh -c \"$ONE\"; {then}", self.layers, self.jobs);
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .env("ONE", one)
            .env("ENGINE", engine)
            .env("IMAGE", &self.image)
            .env("OTHER", other)
            .env("LABEL", LABEL);
        time(&mut command).0
    }

    fn per_layer(&self, times: Vec<Duration>) -> f64 {
        median(times).as_secs_f64() * 1e3 / self.layers as f64
    }
}

/// The memory of processes.
#[derive(Clone, Copy, Default)]
struct Memory {
    processes: usize,
    /// With what they share with others in proportion, in KiB.
    kib: u64,
}

impl Memory {
    fn of(pid: u32) -> Memory {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
        Memory { processes: 1, kib: pss.unwrap_or(0) }
    }

    fn with(self, other: Memory) -> Memory {
        Memory { processes: self.processes + other.processes, kib: self.kib + other.kib }
    }

    fn shown(self) -> String {
        format!("{} ({} processes)", self.kib >> 10, self.processes)
    }
}

/// That of a process and all below it.
fn memory(pid: u32) -> Memory {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.map(memory).fold(Memory::of(pid), Memory::with)
}

/// That of all supervisors in containers.
fn supervisors() -> Memory {
    let is_one = |line: &[u8]| line.split(|byte| *byte == 0).nth(1).is_some_and(|word| word == b"__laminar_enter");
    processes().filter(|(_, line)| is_one(line)).map(|(pid, _)| Memory::of(pid)).fold(Memory::default(), Memory::with)
}

/// How many processes of this program there are in containers: in another namespace than ours.
fn in_containers(program: &str) -> usize {
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = space("self");
    let is_one = |(pid, line): &(u32, Vec<u8>)| line.starts_with(program.as_bytes()) && space(&pid.to_string()) != own;
    processes().filter(is_one).count()
}

/// All processes of the machine, with their command lines.
fn processes() -> impl Iterator<Item = (u32, Vec<u8>)> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid: u32| Some((pid, std::fs::read(format!("/proc/{pid}/cmdline")).ok()?)))
}

/// Waits for something that takes minutes at most.
fn until(is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it does not come");
}

/// The median of the second over the first.
fn ratio(pairs: &[(Duration, Duration)]) -> f64 {
    median(pairs.iter().map(|(floor, took)| took.as_secs_f64() / floor.as_secs_f64()).collect())
}

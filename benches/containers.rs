//! What a layer costs in a container: the same command by `xargs -P2 docker run --rm` and by laminar, in turn, so that a noisy
//! machine is noisy for both. Prints one row for each engine; the ratio is the median over the pairs.
//!
//!     . /var/lib/laminar-test/env    # after `tests/engines up`: names the image
//!     cargo bench -p laminar-tests --bench containers [-- --layers 60 --rounds 5 --jobs 2 --engine docker --ways --reuse]
//!
//! `--reuse` measures splits of one layer in containers that are reused (`--splits 1000` of them) against one container each
//! (`--layers` of them), both by laminar, in turn; the ratio is that of the times of a split.
//!
//! `--ways` measures ways to drive an engine's command line instead, without laminar. Only containers with this bench's
//! label are made, and only those are removed.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
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
    println!("{} containers of `true`, {} at once, {} rounds, no network", bench.layers, bench.jobs, bench.rounds);
    if args.iter().any(|arg| arg == "--ways") {
        return engines.iter().for_each(|engine| bench.ways(engine));
    }
    let laminar = build();
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

    fn ways(&self, engine: &str) {
        println!("{engine:<26}{:>10}{:>22}", "ms/layer", "ratio to `run --rm`");
        let mut all: Vec<Vec<Duration>> = vec![Vec::new(); WAYS.len()];
        for round in 0..=self.rounds {
            for (at, way) in WAYS.into_iter().enumerate() {
                let took = self.floor(engine, way);
                if round > 0 {
                    all[at].push(took);
                }
            }
        }
        for ((name, ..), times) in WAYS.iter().zip(&all) {
            let pairs: Vec<_> = all[0].iter().copied().zip(times.iter().copied()).collect();
            println!("  {name:<24}{:>10.1}{:>22.2}", self.per_layer(times.clone()), ratio(&pairs));
        }
    }

    /// The containers without laminar.
    fn floor(&self, engine: &str, (_, one, then): (&str, &str, &str)) -> Duration {
        let script = format!("seq {} | xargs -P{} -I{{}} sh -c \"$ONE\"; {then}", self.layers, self.jobs);
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .env("ONE", one)
            .env("ENGINE", engine)
            .env("IMAGE", &self.image)
            .env("LABEL", LABEL);
        time(&mut command).0
    }

    fn per_layer(&self, times: Vec<Duration>) -> f64 {
        median(times).as_secs_f64() * 1e3 / self.layers as f64
    }
}

/// The median of the second over the first.
fn ratio(pairs: &[(Duration, Duration)]) -> f64 {
    median(pairs.iter().map(|(floor, took)| took.as_secs_f64() / floor.as_secs_f64()).collect())
}

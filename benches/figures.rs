//! What the command line costs where no layer runs: starting, reading flows, going on, finding everything cached, looking at
//! many executions; and the datastore, beside `b3sum` where that is installed, and beside the disk.
//!
//!     cargo bench -p laminar-tests --bench figures [-- --layers 100000 --executions 10000 --rounds 5 --gigabytes 4]
//!
//! Everything is done by the program as people use it, and timed from outside. Figures are medians over the rounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[allow(unreachable_pub, reason = "shared by benchmarks")]
mod common;
use common::{build, median, option, time};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { laminar: build(), folder: folder.path().to_owned(), rounds: option(&args, "--rounds", 5) };
    bench.starts();
    bench.many_layers(option(&args, "--layers", 100_000));
    bench.many_executions(option(&args, "--executions", 10_000));
    bench.small_artifacts(option(&args, "--layers", 100_000));
    bench.large_artifact(option(&args, "--gigabytes", 4) as u64);
}

struct Bench {
    laminar: PathBuf,
    folder: PathBuf,
    rounds: usize,
}

impl Bench {
    /// The program with these arguments, in the benchmark's folder.
    fn command(&self, root: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.laminar);
        command.args(args).arg("--root").arg(self.folder.join(root)).current_dir(&self.folder);
        command
    }

    /// How long the program takes with these arguments, and its peak memory.
    fn tell(&self, what: &str, root: &str, args: &[&str]) -> Duration {
        let runs: Vec<_> = (0..=self.rounds).map(|_| time(&mut self.command(root, args))).collect();
        // The first warms the caches.
        let took = median(runs[1..].iter().map(|run| run.0).collect());
        let peak = runs.iter().map(|run| run.1).max().unwrap_or(0);
        println!("{what:<66}{:>10.1} ms{:>8} MiB", took.as_secs_f64() * 1e3, peak >> 10);
        took
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn starts(&self) {
        self.tell("laminar --version", "none", &["--version"]);
        self.write("one.json", &json(1, ""));
        let bare = median((0..20).map(|_| time(&mut Command::new("/bin/true")).0).collect());
        let one = self.tell("run of one layer", "one", &["run", "one.json", "-q"]);
        println!(
            "{:<66}{:>10.1} ms",
            "  of these, beyond a bare start of its command",
            (one - bare).as_secs_f64() * 1e3
        );
    }

    fn many_layers(&self, layers: usize) {
        self.write("many.json", &json(layers, ""));
        self.write("many.yaml", &yaml(layers));
        self.write("cached.json", &json(layers, r#""cache":true,"#));
        self.tell(&format!("check of {layers} layers, JSON"), "none", &["check", "many.json"]);
        self.tell(&format!("check of {layers} layers, YAML"), "none", &["check", "many.yaml"]);
        time(&mut self.command("many", &["run", "many.json", "-q"]));
        self.tell(&format!("resume of {layers} layers that have finished"), "many", &["resume", "-q"]);
        self.tell(&format!("status of {layers} layers"), "many", &["status"]);
        time(&mut self.command("cached", &["run", "cached.json", "-q"]));
        self.tell(&format!("run of {layers} layers that are all cached"), "cached", &["run", "cached.json", "-q"]);
    }

    fn many_executions(&self, executions: usize) {
        for _ in 0..executions {
            time(&mut self.command("list", &["run", "one.json", "-q"]));
        }
        self.tell(&format!("list over {executions} executions"), "list", &["list"]);
        self.tell(&format!("status over {executions} executions"), "list", &["status"]);
    }

    fn small_artifacts(&self, files: usize) {
        let make = format!("mkdir $LAMINAR_OUTPUTS/all && cd $LAMINAR_OUTPUTS/all && seq {files} | split -l 1 -a 5 -");
        let alone = self.folder.join("alone");
        let mut plain = Command::new("sh");
        plain.args(["-c", &make]).env("LAMINAR_OUTPUTS", &alone);
        self.write("small.json", &format!(r#"{{"flow":"Small","layers":{{"A":{{"run":"{make}"}}}}}}"#));
        let mut each = Vec::new();
        for round in 0..=self.rounds {
            std::fs::create_dir(&alone).unwrap();
            let (bare, _) = time(&mut plain);
            std::fs::rename(&alone, self.folder.join(format!("alone-{round}"))).unwrap();
            let (took, _) = time(&mut self.command(&format!("small-{round}"), &["run", "small.json", "-q"]));
            each.push(took.saturating_sub(bare).as_secs_f64() * 1e6 / files as f64);
        }
        println!("{:<66}{:>10.1} us", format!("one of {files} small files, beyond making it"), median(each));
    }

    fn large_artifact(&self, gigabytes: u64) {
        let make = format!("head -c {gigabytes}G /dev/zero");
        self.write(
            "large.json",
            &format!(r#"{{"flow":"Large","layers":{{"A":{{"run":"{make} > $LAMINAR_OUTPUTS/file"}}}}}}"#),
        );
        let file = self.folder.join("file");
        let mut plain = Command::new("sh");
        plain.args(["-c", &format!("{make} > {}", file.display())]);
        let (mut ours, mut theirs, mut disk) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.rounds {
            time(&mut plain);
            let begun = Instant::now();
            File::open(&file).and_then(|file| file.sync_data()).unwrap();
            disk.push(begun.elapsed().as_secs_f64());
            std::fs::remove_file(&file).unwrap();
            let (bare, _) = time(&mut plain);
            if has("b3sum") {
                theirs.push(time(Command::new("b3sum").arg(&file)).0.as_secs_f64());
            }
            std::fs::remove_file(&file).unwrap();
            let root = format!("large-{round}");
            let (took, _) = time(&mut self.command(&root, &["run", "large.json", "-q"]));
            ours.push(took.saturating_sub(bare).as_secs_f64());
            std::fs::remove_dir_all(self.folder.join(root)).unwrap();
        }
        let speed = |seconds: Vec<f64>| gigabytes as f64 / median(seconds);
        println!("{:<66}{:>10.1} GiB/s", format!("adopting {gigabytes} GiB, beyond writing them"), speed(ours));
        match theirs.is_empty() {
            true => println!("  b3sum is not installed"),
            false => println!("{:<66}{:>10.1} GiB/s", "  b3sum of the same", speed(theirs)),
        }
        println!("{:<66}{:>10.1} GiB/s", "  bringing the same to the disk, `fdatasync` alone", speed(disk));
    }
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| Path::new(&folder).join(program).is_file())
}

/// Levels of a hundred layers, each of which needs one of the level before.
fn json(layers: usize, more: &str) -> String {
    let mut text = String::from("{\"flow\":\"Bench\",\"layers\":{");
    for layer in 0..layers {
        let comma = if layer == 0 { "" } else { "," };
        let needs = layer.checked_sub(100).map(|need| format!("\"s{need}\"")).unwrap_or_default();
        let _ = write!(text, "{comma}\n\"s{layer}\":{{{more}\"needs\":[{needs}],\"command\":[\"/bin/true\"]}}");
    }
    text + "}}\n"
}

fn yaml(layers: usize) -> String {
    let mut text = String::from("flow: Bench\nlayers:\n");
    for layer in 0..layers {
        let needs = layer.checked_sub(100).map(|need| format!("s{need}")).unwrap_or_default();
        let _ = writeln!(text, "  s{layer}:\n    needs: [{needs}]\n    run: /bin/true");
    }
    text
}

//! Executions whose schedulers, supervisors, clients or containers are killed at random moments, and what must hold all the same.
//!
//! A flow of layers that build on each other is run; again and again something of it is killed with SIGKILL, and whoever is
//! left, or comes after, goes on. In the end every artifact is what an undisturbed run leaves, no layer ran beside itself,
//! none that had finished ran again, every log is whole, and nothing is left. What the layers witness themselves is in files
//! of the flow's folder.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test that cannot go on panics, and says why")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal};

use crate::world::{DEADLINE, World, finish};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The scheduler; another resumes.
    Scheduler,
    /// The scheduler with its whole process group.
    Group,
    /// What supervises plain processes, and with it they.
    Supervisor,
    /// The engine's clients that the scheduler has started.
    Clients,
    /// A container of the execution, through the engine.
    Container,
}

/// An engine's own command line: arguments in, what it prints out.
pub type Engine<'a> = Box<dyn Fn(&[&str]) -> String + 'a>;

/// One flow on one backend, to be disturbed.
pub struct Chaos<'a> {
    /// A folder with the program, for this alone.
    pub program: &'a World,
    /// What follows `run`: the backend.
    pub backend: Vec<String>,
    /// The flow's name, by which its containers are known.
    pub flow: String,
    /// What the flow's `defaults` say of containers; empty on plain processes.
    pub container: String,
    /// How many splits each level has, and how many levels there are: by turns a layer for each, and one that is fanned out
    /// over what the first layer has left.
    pub shape: (usize, usize),
    /// How many run at once.
    pub jobs: usize,
    /// The longest time between two kills.
    pub longest: Duration,
    /// Runs the engine's own command line: the names of the execution's containers, or a container's end.
    pub engine: Option<Engine<'a>>,
}

/// How many kills a test does: few, unless `LAMINAR_TEST_KILLS` says more.
#[must_use]
pub fn kills(few: usize) -> usize {
    std::env::var("LAMINAR_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Random numbers from a seed: `LAMINAR_TEST_SEED`, or the time.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// New dice. The seed is printed, so that a test that went wrong can be played again, as far as chance is all.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "shown with a test that fails")]
    pub fn new() -> Dice {
        let said = std::env::var("LAMINAR_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        let seed = said.unwrap_or_else(now);
        eprintln!("LAMINAR_TEST_SEED={seed}");
        Dice(seed)
    }

    /// A number below this one (xorshift64, G. Marsaglia 2003).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

impl Default for Dice {
    fn default() -> Dice {
        Dice::new()
    }
}

/// What each layer does: witnesses that it begins; reads what it needs; leaves a value; witnesses that it ends.
const SCRIPT: &str = "me=$LAMINAR_LAYER_NAME[$LAMINAR_LAYER_INDEX]; echo begins $me $LAMINAR_LAYER_ATTEMPT >> seen; \
    echo begins $me; \
    cat $LAMINAR_INPUTS/L*/value $LAMINAR_INPUTS/F*/value/* 2>/dev/null > $LAMINAR_OUTPUTS/read || true; \
    (cat $LAMINAR_OUTPUTS/read; echo $me SAID) | md5sum > $LAMINAR_OUTPUTS/value; sleep 0.0SOME; \
    echo ends $me >&2; echo ends $me $LAMINAR_LAYER_ATTEMPT >> seen";

impl Chaos<'_> {
    /// Kills so often, over as many executions as it takes.
    pub fn play(&self, victim: Victim, kills: usize) {
        let mut dice = Dice::new();
        self.write();
        let expected = self.undisturbed();
        let mut done = 0;
        while done < kills {
            self.reset();
            done += self.execution(victim, kills - done, &mut dice);
            self.check(victim, &expected);
        }
    }

    fn write(&self) {
        let (width, levels) = self.shape;
        let mut flow = format!(
            "flow: {}\ndefaults:\n  retry: {{ attempts: 30, delay: 10ms, max_delay: 20ms }}\n{}layers:\n",
            self.flow, self.container
        );
        let script = |pause: &str, said: &str| SCRIPT.replace("SOME", pause).replace("SAID", said);
        let list = format!("echo [$(seq -s, {width})] > $LAMINAR_OUTPUTS/all.json");
        flow.push_str(&format!("  Seed: {{ run: '{}; {list}' }}\n", script("1", "seed")));
        for level in 0..levels {
            let before = |place: usize| match level {
                0 => "Seed".to_owned(),
                _ if level % 2 == 0 => format!("F{}", level - 1),
                _ => format!("L{}", (level - 1) * width + place % width),
            };
            let needs = |place: usize| {
                let needs: BTreeSet<String> = (0..3).map(|other| before(place * 5 + other * 7)).collect();
                needs.into_iter().collect::<Vec<_>>().join(", ")
            };
            if level % 2 == 1 {
                let script = script("${{ index % 9 }}", "${{ each.of }}");
                let asked = "when: \"${{ Seed.all | length > 0 }}\", foreach: { of: \"${{ Seed.all }}\" }";
                flow.push_str(&format!("  F{level}: {{ needs: [{}], {asked}, run: '{script}' }}\n", needs(level)));
                continue;
            }
            for place in 0..width {
                let at = level * width + place;
                let script = script(&((at * 37) % 9).to_string(), "plain");
                flow.push_str(&format!("  L{at}: {{ needs: [{}], run: '{script}' }}\n", needs(place)));
            }
        }
        self.program.write("flow.yaml", flow);
    }

    /// Every split, as the command line and the splits themselves call it.
    fn splits(&self) -> Vec<String> {
        let (width, levels) = self.shape;
        let name = |at: usize| match (at / width % 2, at / width) {
            (0, _) => format!("L{at}[0]"),
            (_, level) => format!("F{level}[{}]", at % width),
        };
        std::iter::once("Seed[0]".to_owned()).chain((0..width * levels).map(name)).collect()
    }

    fn reset(&self) {
        let _ = std::fs::remove_file(self.program.path().join("seen"));
    }

    fn start(&self, words: &[&str]) -> Child {
        let jobs = self.jobs.to_string();
        let mut command = self.program.command(words.iter().copied().chain(["--jobs", &jobs]));
        if words == ["run"] {
            command.args(&self.backend);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
    }

    /// What a run leaves that nobody disturbs.
    fn undisturbed(&self) -> BTreeMap<String, String> {
        self.reset();
        finish(self.start(&["run"])).exits(0);
        self.artifacts()
    }

    fn executions(&self) -> Vec<String> {
        let listed = self.program.run(["list", "--json"]).exits(0).json();
        listed.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    }

    /// One execution to its good end; returns how often something was killed.
    fn execution(&self, victim: Victim, most: usize, dice: &mut Dice) -> usize {
        let before = self.executions();
        let mut kills = 0;
        let mut child = self.start(&["run"]);
        let deadline = Instant::now() + DEADLINE * 20;
        loop {
            assert!(Instant::now() < deadline, "the execution does not come to an end");
            let pause = Duration::from_millis(5 + dice.below(self.longest.as_millis() as u64));
            let until = if kills < most { Instant::now() + pause } else { deadline };
            if let Some(ran) = ends_before(&mut child, until) {
                assert!(ran, "{}", finish(child).stderr);
                return kills;
            }
            if !self.kill(victim, &mut child, dice) {
                continue;
            }
            kills += 1;
            if matches!(victim, Victim::Scheduler | Victim::Group) {
                child.wait().unwrap();
                // It may have died before the execution existed.
                let words = if self.executions() == before { "run" } else { "resume" };
                child = self.start(&[words]);
            }
        }
    }

    /// Kills; false when there was nothing to kill.
    fn kill(&self, victim: Victim, child: &mut Child, dice: &mut Dice) -> bool {
        match victim {
            Victim::Scheduler => child.kill().is_ok(),
            Victim::Group => rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL).is_ok(),
            Victim::Supervisor => {
                let marker = self.program.path().as_os_str().as_encoded_bytes().to_vec();
                let supervisors = processes(|pid| {
                    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    words.windows(marker.len()).any(|window| window == marker)
                        && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                            .is_ok_and(|it| it.starts_with("laminar-super"))
                });
                supervisors.into_iter().filter(|pid| kill_process(*pid)).count() > 0
            }
            Victim::Clients => {
                let scheduler = child.id();
                let children = std::fs::read_to_string(format!("/proc/{scheduler}/task/{scheduler}/children"));
                let children = children.unwrap_or_default();
                let clients = children.split_whitespace().filter_map(|pid| pid.parse().ok());
                clients.filter(|pid| kill_process(*pid)).count() > 0
            }
            Victim::Container => {
                let engine = self.engine.as_ref().expect("an engine");
                let flow = format!("label=laminar.flow={}", self.flow);
                let running = engine(&["ps", "--quiet", "--filter", &flow]);
                let running: Vec<&str> = running.split_whitespace().collect();
                let Some(one) = running.get(dice.below(running.len() as u64) as usize) else { return false };
                engine(&["kill", one]);
                true
            }
        }
    }

    fn artifacts(&self) -> BTreeMap<String, String> {
        let listed = self.program.run(["artifacts", "--json"]).exits(0).json();
        let one = |it: &serde_json::Value| {
            let text = |key: &str| it[key].as_str().unwrap().to_owned();
            (format!("{}[{}]/{}", text("layer"), it["index"], text("name")), text("digest"))
        };
        listed.iter().map(one).collect()
    }

    /// No layer ran beside itself: nothing of an attempt is seen once the next has begun. Where the layers themselves were
    /// not killed, each ran once.
    fn check_witnesses(&self, victim: Victim) {
        let mut seen: HashMap<String, Seen> = HashMap::new();
        for line in self.program.read("seen").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, layer, attempt] = words[..] else { panic!("`{line}` in `seen`") };
            let attempt = attempt.parse().unwrap();
            let of = seen.entry(layer.to_owned()).or_default();
            if what == "begins" {
                of.begun.push(attempt);
            } else {
                assert_eq!(of.begun.last(), Some(&attempt), "{layer} is alive beside its next attempt");
                of.ended.push(attempt);
            }
        }
        let is_alone = |seen: &Seen| seen.begun.is_sorted_by(|one, next| one < next) && !seen.ended.is_empty();
        assert!(seen.values().all(is_alone));
        assert_eq!(seen.len(), self.splits().len());
        if matches!(victim, Victim::Scheduler | Victim::Group | Victim::Clients) {
            for (layer, seen) in seen {
                assert_eq!((seen.begun.len(), seen.ended.len()), (1, 1), "{layer} ran more than once");
            }
        }
    }

    /// What must hold of an execution that is over.
    fn check(&self, victim: Victim, expected: &BTreeMap<String, String>) {
        assert_eq!(self.program.run(["status", "--json"]).exits(0).document()["state"], "finished");
        assert!(self.artifacts() == *expected, "other artifacts than those of an undisturbed run");
        self.check_witnesses(victim);
        let events = self.program.run(["status", "-f", "--json"]).exits(0).json();
        let mut published: HashMap<String, u32> = HashMap::new();
        for event in &events {
            let layer = format!("{}[{}]", event["layer"].as_str().unwrap_or_default(), event["index"]);
            match event["event"].as_str() {
                Some("attempt_published") => *published.entry(layer).or_default() += 1,
                Some("attempt_launched") => assert!(!published.contains_key(&layer), "{layer} had finished"),
                _ => {}
            }
        }
        let splits = self.splits();
        assert_eq!((published.len(), published.values().max()), (splits.len(), Some(&1)));
        for split in splits {
            let log = self.program.run(["logs", "latest", &split]).exits(0).stdout;
            assert_eq!(log, format!("begins {split}\nends {split}\n"));
        }
        self.program.is_quiet();
        if let Some(engine) = &self.engine {
            let flow = format!("label=laminar.flow={}", self.flow);
            assert_eq!(engine(&["ps", "--all", "--quiet", "--filter", &flow]), "", "containers are left");
        }
    }
}

/// What a layer's witness says: its attempts in the order in which they began, and those that came to an end.
#[derive(Default)]
struct Seen {
    begun: Vec<u32>,
    ended: Vec<u32>,
}

/// Whether it ended before this time, and if so, whether well.
fn ends_before(child: &mut Child, until: Instant) -> Option<bool> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes(is: impl Fn(i32) -> bool) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| is(*pid)).collect()
}

fn kill_process(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok())
}

//! What can go wrong, how often it does in one execution, and how often it did in all.

use crate::dice::Dice;

macro_rules! faults {
    ($($fault:ident $text:literal,)*) => {
        /// What can go wrong, or is done by people, at a random moment.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault { $($fault,)* }

        impl Fault {
            pub(crate) const ALL: &[Fault] = &[$(Fault::$fault,)*];

            /// What it is called on the command line and in figures.
            pub(crate) fn word(self) -> &'static str {
                match self { $(Fault::$fault => $text,)* }
            }
        }
    };
}

faults! {
    PrepareFails "prepare-fails",
    StartFails "start-fails",
    StartAnswerLost "start-answer-lost",
    CreatedOnly "created-never-started",
    RecoverFails "recover-fails",
    WaitBreaks "wait-breaks",
    StopFails "stop-fails",
    StopAnswerLost "stop-answer-lost",
    RemoveFails "remove-fails",
    ListFails "list-fails",
    ReleaseFails "release-fails",
    EngineDown "engine-down",
    Hangs "verb-hangs",
    TaskGone "task-gone",
    TaskForgotten "task-forgotten",
    AppendFails "append-fails",
    DiesBeforeAppend "dies-before-append",
    DiesAfterAppend "dies-after-append",
    ShutOut "shut-out",
    RecordsFail "records-fail",
    CloseFails "close-fails",
    AdoptFails "adopt-fails",
    AdoptRejects "adopt-rejects",
    DiesInAdopt "dies-in-adopt",
    ViewFails "view-fails",
    DiesInView "dies-in-view",
    HoldFails "hold-fails",
    ReadFails "read-fails",
    DiesInRead "dies-in-read",
    IdentityFails "identity-fails",
    FindFails "find-fails",
    RememberFails "remember-fails",
    ForgetFails "forget-fails",
    CacheForgets "cache-forgets",
    RecallFails "recall-fails",
    Damaged "cached-is-damaged",
    ObjectLost "object-lost",
    DiesInCache "dies-in-cache",
    DiesInVerb "dies-in-verb",
    DiesAtMoment "dies-at-a-moment",
    Cancel "cancel",
    Kill "kill",
    ClockJumps "clock-jumps",
    OtherLimits "other-limits",
    OtherMood "other-environment",
    Again "again",
}

impl Fault {
    /// Whether there are few occasions for it.
    pub(crate) fn is_rarely_met(self) -> bool {
        use Fault::{
            CacheForgets, Damaged, DiesInCache, DiesInRead, DiesInView, ForgetFails, ReadFails, RecallFails,
            RememberFails, ViewFails,
        };
        matches!(
            self,
            ViewFails
                | DiesInView
                | ReadFails
                | DiesInRead
                | RememberFails
                | ForgetFails
                | CacheForgets
                | RecallFails
                | Damaged
                | DiesInCache
        )
    }
}

const COUNT: usize = Fault::ALL.len();

/// How often each kind of fault happens in one execution: executions differ, so that each kind is met alone, with few
/// others, and with all.
#[derive(Clone, Debug)]
pub(crate) struct Weather([u32; COUNT]);

impl Weather {
    pub(crate) const CALM: Weather = Weather([0; COUNT]);

    pub(crate) fn new(dice: &mut Dice) -> Weather {
        let off = dice.pick(&[1, 2, 2, 4, 12]);
        let mut rates = [0; COUNT];
        for (fault, rate) in Fault::ALL.iter().zip(&mut rates) {
            let often = dice.pick(if fault.is_rarely_met() { &[2, 2, 3, 6] } else { &[2, 3, 6, 12, 30, 100] });
            *rate = if dice.below(off) > 0 { 0 } else { often };
            // It takes something damaged to be forgotten.
            if *fault == Fault::ForgetFails {
                *rate = 2;
            }
        }
        Weather(rates)
    }

    /// The same without these.
    pub(crate) fn without(mut self, faults: &[Fault]) -> Weather {
        for fault in faults {
            self.0[*fault as usize] = 0;
        }
        self
    }

    /// It happens once in this many times; 0: never.
    pub(crate) fn rate(&self, fault: Fault) -> u64 {
        u64::from(self.0[fault as usize])
    }
}

/// What happened in one execution or in many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) executions: u64,
    pub(crate) incarnations: u64,
    pub(crate) layers: u64,
    pub(crate) processes: u64,
    /// Layers that were opened, with so many splits, skipped, or of which nobody could say.
    pub(crate) opened: u64,
    pub(crate) splits: u64,
    pub(crate) skipped: u64,
    pub(crate) undecided: u64,
    /// Attempts that were sized, splits that were not in the cache, and that were.
    pub(crate) sized: u64,
    /// Attempts that were offered, and how many of them began before they were launched.
    pub(crate) offered: u64,
    pub(crate) followed: u64,
    pub(crate) keyed: u64,
    pub(crate) cached: u64,
    pub(crate) events: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) faults: Counts,
}

#[derive(Clone, Debug)]
pub(crate) struct Counts([u64; COUNT]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; COUNT])
    }
}

impl Figures {
    pub(crate) fn met(&mut self, fault: Fault) {
        self.faults.0[fault as usize] += 1;
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults.0[fault as usize]
    }

    pub(crate) fn add(&mut self, other: &Figures) {
        self.executions += other.executions;
        self.incarnations += other.incarnations;
        self.layers += other.layers;
        self.processes += other.processes;
        self.opened += other.opened;
        self.splits += other.splits;
        self.skipped += other.skipped;
        self.undecided += other.undecided;
        self.sized += other.sized;
        self.offered += other.offered;
        self.followed += other.followed;
        self.keyed += other.keyed;
        self.cached += other.cached;
        self.events += other.events;
        self.virtual_ms += other.virtual_ms;
        for (count, more) in self.faults.0.iter_mut().zip(other.faults.0) {
            *count += more;
        }
    }

    /// All of it, for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{} executions, {} schedulers, {} layers, {} processes, {} events, {} days of virtual time\n\
             {} layers opened with {} splits, {} skipped, {} undecided, {} attempts sized, {} splits keyed, {} cached\n\
             {} attempts offered, {} of them began before they were launched\n",
            self.executions,
            self.incarnations,
            self.layers,
            self.processes,
            self.events,
            self.virtual_ms / 86_400_000,
            self.opened,
            self.splits,
            self.skipped,
            self.undecided,
            self.sized,
            self.keyed,
            self.cached,
            self.offered,
            self.followed,
        );
        for fault in Fault::ALL {
            text.push_str(&format!("{:>12}  {}\n", self.count(*fault), fault.word()));
        }
        text
    }
}

//! How often a layer is tried, after which ends, with what pauses, and with how much memory.
//!
//! Values, and the words a user writes for them. What follows from an exit is the scheduler's business.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::executor::Cause;
use crate::units::{Wrong, clip, closest};

/// The words of `only` that are no exit codes.
const WORDS: [(&str, On); 6] = [
    ("oom", On::OutOfMemory),
    ("timeout", On::TimedOut),
    ("signal", On::Signal),
    ("lost", On::Lost),
    ("engine", On::Engine),
    ("outputs", On::Outputs),
];

/// How often a layer is tried, and the pause between attempts.
///
/// The pause after the n-th charged attempt is `delay * backoff^(n-1)`, at most `max_delay`, plus a random share of up to
/// `jitter` of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How many attempts are charged before the layer has failed; at least 1.
    pub attempts: u32,
    /// The first pause.
    pub delay: Duration,
    /// What each pause is multiplied with to give the next; at least 1.
    pub backoff: f64,
    /// The longest pause, before the random share is added.
    pub max_delay: Option<Duration>,
    /// The largest random share that is added; at least 0.
    pub jitter: f64,
    /// After which ends there is another attempt; after any, if it does not say.
    pub only: Option<Arc<[On]>>,
    /// What the memory of an attempt is multiplied with after each attempt that was out of memory; more than 1.
    pub memory: Option<f64>,
    /// The most memory that an attempt is given this way.
    pub max_memory: Option<u64>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 1,
            delay: Duration::from_millis(100),
            backoff: 2.0,
            max_delay: None,
            jitter: 0.1,
            only: None,
            memory: None,
            max_memory: None,
        }
    }
}

/// An end of an attempt after which there is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// `oom`: it was out of memory.
    OutOfMemory,
    /// `timeout`: its time was up.
    TimedOut,
    /// `signal`: a signal ended it.
    Signal,
    /// `lost`: nobody knows how it ended, more often than is tried again without being charged.
    Lost,
    /// `engine`: the engine failed, or it could not be started.
    Engine,
    /// `outputs`: it exited well, and did not leave what it promised.
    Outputs,
    /// `75`, `100-110`: an exit code from the first to the second.
    Codes(i32, i32),
}

/// How a failed attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<'a> {
    /// By its process, or whoever ended that.
    Exit(&'a Cause),
    /// What it left was rejected.
    Rejected,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Exit(cause) => cause.fmt(f),
            Failure::Rejected => f.write_str("`outputs`"),
        }
    }
}

impl On {
    fn covers(self, failure: Failure<'_>) -> bool {
        let Failure::Exit(cause) = failure else { return self == On::Outputs };
        match (self, cause) {
            (On::OutOfMemory, Cause::OutOfMemory)
            | (On::TimedOut, Cause::TimedOut)
            | (On::Signal, Cause::Signal(_))
            | (On::Lost, Cause::Lost)
            | (On::Engine, Cause::EngineFailed | Cause::NotStarted) => true,
            (On::Codes(first, last), Cause::Code(code)) => (first..=last).contains(code),
            _ => false,
        }
    }
}

impl Retry {
    /// Whether there is another attempt after this end, as long as there are attempts left.
    #[must_use]
    pub fn covers(&self, failure: Failure<'_>) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|on| on.covers(failure)))
    }

    /// The pause after so many charged attempts, without the random share; cut at `longest`.
    #[must_use]
    pub fn pause(&self, charged: u32, longest: Duration) -> Duration {
        if self.delay.is_zero() {
            return Duration::ZERO; // whatever the factor is: it may have become infinite
        }
        let exponent = i32::try_from(charged.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.backoff.powi(exponent);
        let pause = Duration::try_from_secs_f64(seconds).unwrap_or(longest);
        pause.min(self.max_delay.unwrap_or(longest)).min(longest)
    }

    /// The memory of an attempt after so many that were out of memory, if the first was given `base`.
    #[must_use]
    pub fn memory_after(&self, base: u64, failures: u32) -> u64 {
        let (Some(factor), 1..) = (self.memory, failures) else { return base };
        let most = self.max_memory.unwrap_or(u64::MAX).max(base);
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        #[expect(clippy::cast_precision_loss, reason = "a size is given, not counted")]
        let wanted = base as f64 * factor.powi(exponent);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "such a cast saturates; it is positive"
        )]
        let wanted = wanted as u64;
        wanted.clamp(base, most)
    }
}

/// One entry of `only`.
pub(super) fn on(text: &str) -> Result<On, Wrong> {
    if let Some((_, on)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*on);
    }
    let words = || WORDS.iter().map(|(word, _)| *word);
    let Some(codes) = codes(text) else {
        let near = closest(text, words()).map(|near| format!("did you mean `{near}`?"));
        let all = words().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let hint = near.unwrap_or_else(|| format!("write {all}, an exit code or a range of them, such as `100-110`"));
        return Err(Wrong { message: format!("`{}` is no end of an attempt", clip(text)), hint: Some(hint) });
    };
    let (first, last) = (*codes.start(), *codes.end());
    if first < 1 || last > 255 || first > last {
        let what = match text.contains('-') && first != last {
            true => "are no exit codes of failures",
            false => "is no exit code of a failure",
        };
        return Err(Wrong { message: format!("`{}` {what} (1 to 255)", clip(text)), hint: None });
    }
    Ok(On::Codes(first, last))
}

fn codes(text: &str) -> Option<RangeInclusive<i32>> {
    let number = |text: &str| text.trim().parse::<i32>().ok();
    if let Some(code) = number(text) {
        return Some(code..=code);
    }
    let (first, last) = text.split_once('-')?;
    Some(number(first)?..=number(last)?)
}

/// A factor: `x2`.
pub(super) fn factor(text: &str) -> Result<f64, Wrong> {
    let hint = Some("write a factor of more than 1, such as `x2` or `x1.5`".to_owned());
    let number = text.strip_prefix('x').and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(factor) if factor > 1.0 && factor <= 1000.0 => Ok(factor),
        Some(factor) => {
            Err(Wrong { message: format!("the factor must be more than 1 and at most 1000, but is {factor}"), hint })
        }
        None => Err(Wrong { message: format!("`{}` is no factor", clip(text)), hint }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_word_covers_its_own_end_and_no_other() {
        let ends = [
            ("oom", Failure::Exit(&Cause::OutOfMemory)),
            ("timeout", Failure::Exit(&Cause::TimedOut)),
            ("signal", Failure::Exit(&Cause::Signal(9))),
            ("lost", Failure::Exit(&Cause::Lost)),
            ("engine", Failure::Exit(&Cause::EngineFailed)),
            ("engine", Failure::Exit(&Cause::NotStarted)),
            ("outputs", Failure::Rejected),
            ("75", Failure::Exit(&Cause::Code(75))),
            ("100-110", Failure::Exit(&Cause::Code(110))),
        ];
        for (word, _) in ends {
            let retry = Retry { only: Some([on(word).unwrap()].into()), ..Retry::default() };
            for (own, end) in ends {
                assert_eq!(retry.covers(end), own == word, "{word} {end}");
            }
            for cause in [Cause::NotFound, Cause::NotExecutable, Cause::Cancelled, Cause::Code(111), Cause::Code(1)] {
                assert!(!retry.covers(Failure::Exit(&cause)), "{word} {cause}");
                assert!(Retry::default().covers(Failure::Exit(&cause)));
            }
        }
    }

    #[test]
    fn what_is_no_end_is_told() {
        assert_eq!(on("1-3").unwrap(), On::Codes(1, 3));
        assert_eq!(on("omm").unwrap_err().hint.unwrap(), "did you mean `oom`?");
        assert!(on("memory pressure").unwrap_err().hint.unwrap().contains("`outputs`, an exit code"));
        for text in ["0", "256", "-1", "9-3", "1-300", "0-5", "", "3-", "-", "1-2-3"] {
            assert!(on(text).is_err(), "{text}");
        }
        assert!((factor("x1.5").unwrap() - 1.5).abs() < f64::EPSILON);
        for text in ["2", "x", "x1", "x0.5", "xinf", "xnan", "x-2", "x1001", "2x", ""] {
            assert!(factor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_grows_by_the_factor_up_to_the_most() {
        let retry = Retry { memory: Some(2.0), max_memory: Some(100), ..Retry::default() };
        let after: Vec<_> = (0..5).map(|failures| retry.memory_after(20, failures)).collect();
        assert_eq!(after, [20, 40, 80, 100, 100]);
        assert_eq!(retry.memory_after(20, u32::MAX), 100);
        assert_eq!(Retry { max_memory: None, ..retry.clone() }.memory_after(1 << 40, 5000), u64::MAX);
        assert_eq!(retry.memory_after(200, 1), 200, "never less than the first was given");
        assert_eq!(Retry::default().memory_after(20, 3), 20);
    }

    #[test]
    fn pauses_are_cut() {
        let longest = Duration::from_secs(1000);
        let retry =
            Retry { delay: Duration::from_secs(1), max_delay: Some(Duration::from_secs(5)), ..Retry::default() };
        let pauses: Vec<_> = (1..=4).map(|charged| retry.pause(charged, longest).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5]);
        let enormous = Retry { backoff: 1e9, max_delay: None, ..retry };
        assert_eq!(enormous.pause(9000, longest), longest);
        assert_eq!(Retry { delay: Duration::ZERO, ..enormous }.pause(9000, longest), Duration::ZERO);
    }
}

//! Which executions are to go, by rules. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use crate::id::ExecutionId;

/// The rules that say which executions are old. Without any, none is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest so many of each flow stay, whatever the other rules say; alone, all others go.
    pub keep: Option<u32>,
    /// What ended longer ago goes.
    pub older_than: Option<Duration>,
    /// The oldest go until the rest, with what it refers to, has no more bytes than this.
    pub max_size: Option<u64>,
}

/// An execution, as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: ExecutionId,
    pub(super) flow: String,
    /// Since when nothing has happened in it, in milliseconds since 1970; `None` for one that must stay.
    pub(super) over_ms: Option<i64>,
}

/// Which rule an execution falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was named.
    Named,
    /// There are enough newer ones of its flow.
    Surplus,
    /// It is too old.
    Old,
    /// There is no room for it.
    TooMuch,
}

/// The executions that are to go, the oldest first. `size` says how many bytes an execution adds to those that it was asked
/// about before.
pub(super) fn select(
    rules: Rules,
    mut all: Vec<Candidate>,
    now_ms: i64,
    mut size: impl FnMut(ExecutionId) -> u64,
) -> Vec<(ExecutionId, Why)> {
    // Ids sort by the time of creation.
    all.sort_by_key(|candidate| Reverse(candidate.id));
    let mut gone = Vec::new();
    let mut newer: HashMap<&str, u32> = HashMap::new();
    let (mut must_stay, mut may_go) = (Vec::new(), Vec::new());
    for candidate in &all {
        let Some(over_ms) = candidate.over_ms else {
            must_stay.push(candidate.id);
            continue;
        };
        let newer = newer.entry(&candidate.flow).or_default();
        *newer += 1;
        let old = rules
            .older_than
            .is_some_and(|age| now_ms.saturating_sub(over_ms) > i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let alone = rules.older_than.is_none() && rules.max_size.is_none();
        match rules.keep {
            Some(keep) if *newer <= keep => must_stay.push(candidate.id),
            Some(_) if alone => gone.push((candidate.id, Why::Surplus)),
            _ if old => gone.push((candidate.id, Why::Old)),
            _ => may_go.push(candidate.id),
        }
    }
    if let Some(most) = rules.max_size {
        let mut total = must_stay.into_iter().fold(0u64, |sum, id| sum.saturating_add(size(id)));
        let mut full = false;
        for id in may_go {
            // Once there is no room for one, there is none for those that are older.
            if !full {
                total = total.saturating_add(size(id));
                full = total > most;
            }
            if full {
                gone.push((id, Why::TooMuch));
            }
        }
    }
    gone.sort_by_key(|(id, _)| *id);
    gone
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    const NOW: i64 = 1_000 * DAY;

    /// Executions by the days since they were over, the oldest first; of flow A unless the text says otherwise.
    fn all(days: &[(i64, &str)]) -> Vec<Candidate> {
        let candidate = |(at, (days, what)): (usize, &(i64, &str))| Candidate {
            id: format!("{:032x}", at + 1).parse().unwrap(),
            flow: if what.starts_with('B') { "B".to_owned() } else { "A".to_owned() },
            over_ms: (!what.ends_with("runs")).then_some(NOW - days * DAY),
        };
        days.iter().enumerate().map(candidate).collect()
    }

    /// Which go, by their number from 1.
    fn gone(rules: Rules, all: Vec<Candidate>, sizes: &[u64]) -> Vec<(usize, Why)> {
        let at = |id: ExecutionId| usize::from_str_radix(&id.to_string(), 16).unwrap();
        let selected = select(rules, all, NOW, |id| sizes[at(id) - 1]);
        selected.into_iter().map(|(id, why)| (at(id), why)).collect()
    }

    fn numbers(rules: Rules, days: &[(i64, &str)]) -> Vec<usize> {
        gone(rules, all(days), &[1; 16]).into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn without_a_rule_none_goes() {
        assert_eq!(numbers(Rules::default(), &[(900, ""), (1, "")]), [0; 0]);
    }

    #[test]
    fn the_newest_of_each_flow_stay() {
        let days = [(9, ""), (8, "B"), (7, ""), (6, "B"), (5, ""), (4, "runs")];
        let keep = |keep| Rules { keep: Some(keep), ..Rules::default() };
        assert_eq!(numbers(keep(1), &days), [1, 2, 3]);
        assert_eq!(numbers(keep(2), &days), [1], "one that runs is none of them");
        assert_eq!(numbers(keep(0), &days), [1, 2, 3, 4, 5], "one that runs stays in any case");
    }

    #[test]
    fn age_counts_from_the_end() {
        let older = Rules { older_than: Some(Duration::from_secs(30 * 86_400)), ..Rules::default() };
        assert_eq!(numbers(older, &[(31, ""), (30, ""), (-5, ""), (99, "runs")]), [1]);
        let never = Rules { older_than: Some(Duration::MAX), ..Rules::default() };
        assert_eq!(numbers(never, &[(900, "")]), [0; 0]);
    }

    #[test]
    fn to_keep_protects_from_the_other_rules() {
        let days = [(50, ""), (40, ""), (35, ""), (1, "")];
        let older_than = Some(Duration::from_secs(30 * 86_400));
        assert_eq!(numbers(Rules { keep: Some(3), older_than, max_size: None }, &days), [1]);
        assert_eq!(numbers(Rules { keep: Some(3), older_than: None, max_size: Some(0) }, &days), [1]);
        assert_eq!(numbers(Rules { keep: Some(1), older_than, max_size: None }, &days), [1, 2, 3]);
    }

    #[test]
    fn the_oldest_go_until_there_is_room() {
        let most = |most| Rules { max_size: Some(most), ..Rules::default() };
        let days = [(5, ""), (4, ""), (3, ""), (2, "runs"), (1, "")];
        let sizes = [1, 5, 2, 10, 3];
        assert_eq!(gone(most(21), all(&days), &sizes), []);
        assert_eq!(gone(most(20), all(&days), &sizes), [(1, Why::TooMuch)]);
        assert_eq!(gone(most(15), all(&days), &sizes), [(1, Why::TooMuch), (2, Why::TooMuch)]);
        assert_eq!(gone(most(14), all(&days), &sizes).len(), 3);
        assert_eq!(gone(most(0), all(&days), &sizes).len(), 4, "what runs stays");
    }

    #[test]
    fn each_goes_once_and_says_why() {
        let rules = Rules { keep: None, older_than: Some(Duration::from_secs(4 * 86_400)), max_size: Some(1) };
        assert_eq!(gone(rules, all(&[(5, ""), (3, ""), (1, "")]), &[9, 1, 1]), [(1, Why::Old), (2, Why::TooMuch)]);
    }
}

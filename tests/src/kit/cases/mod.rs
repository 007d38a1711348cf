//! All cases, by the side of the contract they look at.
#![expect(clippy::unwrap_used, reason = "a case that cannot go on panics, and says why")]

mod begin;
mod end;
mod limits;
mod line;
mod offer;
mod output;
mod recovery;
mod stop;
mod surroundings;

use super::case::Case;

/// Makes a case of an async function on a scene: its name, its rules, what it needs. With `maybe` the function returns
/// whether it could be played at all.
macro_rules! case {
    (maybe $play:ident, [$($rule:literal),*], [$($need:ident),*]) => {
        $crate::kit::case::Case {
            name: stringify!($play),
            rules: &[$($rule),*],
            needs: &[$($crate::kit::factory::Ability::$need),*],
            folder: ".",
            on_request: false,
            run: |scene| Box::pin($play(scene)),
        }
    };
    ($play:ident, [$($rule:literal),*], [$($need:ident),*]) => {
        $crate::kit::case::Case {
            name: stringify!($play),
            rules: &[$($rule),*],
            needs: &[$($crate::kit::factory::Ability::$need),*],
            folder: ".",
            on_request: false,
            run: |scene| Box::pin(async move {
                $play(scene).await;
                Ok(())
            }),
        }
    };
}
use case;

/// Every case of the kit, each name once.
#[must_use]
pub fn suite() -> Vec<Case> {
    [
        begin::CASES,
        surroundings::CASES,
        output::CASES,
        end::CASES,
        limits::CASES,
        line::CASES,
        offer::CASES,
        stop::CASES,
        recovery::CASES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_of_the_contract_has_a_case() {
        let contract = include_str!("../../../../core/src/executor.rs");
        let numbers = contract.lines().filter_map(|line| line.strip_prefix("//! ")?.split_once(". ")?.0.parse().ok());
        let stated: BTreeSet<u8> = numbers.collect();
        let held: BTreeSet<u8> = suite().iter().flat_map(|case| case.rules.iter().copied()).collect();
        assert_eq!(held, stated);
        assert!(!stated.is_empty());
    }

    #[test]
    fn no_two_cases_have_the_same_name() {
        let names: BTreeSet<_> = suite().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), suite().len());
    }
}

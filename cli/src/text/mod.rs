//! How values look in a terminal or a pipe: durations, sizes, times, tables, and text that nobody vouches for.
//!
//! Values in, text out; unaware of streams, flows and executions.

pub(crate) mod amount;
pub(crate) mod duration;
pub(crate) mod size;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod visible;
pub(crate) mod when;

/// `1 layer`, `2 layers`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The first few names, then how many more there are: `A, B and 3 more`.
pub(crate) fn few<'a>(names: impl IntoIterator<Item = &'a str>, most: usize) -> String {
    let mut names = names.into_iter();
    let shown: Vec<&str> = names.by_ref().take(most).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_agrees_with_its_number() {
        assert_eq!(count(1, "layer"), "1 layer");
        assert_eq!(count(0, "layer"), "0 layers");
        assert_eq!(count(12, "layer"), "12 layers");
    }

    #[test]
    fn many_names_are_cut() {
        assert_eq!(few(["A", "B"], 3), "A, B");
        assert_eq!(few(["A", "B", "C", "D", "E"], 3), "A, B, C and 2 more");
        assert_eq!(few([], 3), "");
    }
}

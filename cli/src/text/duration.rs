//! Durations in their short form: `45 ms`, `3.4 s`, `2 min 5 s`, `1 h 3 min`, `2 d 4 h`. Cut, never rounded up.

use std::time::Duration;

/// The short form.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.subsec_millis()),
        1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The short form of the time between two moments in milliseconds; none when the clock ran backwards.
pub(crate) fn between(from_ms: i64, to_ms: i64) -> String {
    short(Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0)))
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_magnitude_has_its_form() {
        let forms = [
            (0, "0 ms"),
            (45, "45 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (3456, "3.4 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min"),
            (125_000, "2 min 5 s"),
            (3_780_000, "1 h 3 min"),
            (187_200_000, "2 d 4 h"),
        ];
        for (ms, form) in forms {
            assert_eq!(short(Duration::from_millis(ms)), form);
        }
    }

    #[test]
    fn a_clock_that_ran_backwards_gives_nothing() {
        assert_eq!(between(2000, 1000), "0 ms");
        assert_eq!(between(i64::MIN, i64::MAX), between(0, i64::MAX));
    }
}

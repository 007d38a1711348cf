//! Moments as people say them: `just now`, `3 min ago`, `5 d ago`, or a date when it is long ago.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::text::duration;

/// Milliseconds since 1970, now.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long ago it was. Moments to come, by a clock that was set, are `just now`.
pub(crate) fn ago(at_ms: i64, now_ms: i64) -> String {
    const MONTH: i64 = 30 * 86_400;
    match now_ms.saturating_sub(at_ms) / 1000 {
        ..5 => "just now".to_owned(),
        seconds @ 5..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds @ 86_400..MONTH => format!("{} d ago", seconds / 86_400),
        _ => stamp(at_ms).chars().take(10).collect(),
    }
}

/// The moment as RFC 3339 in UTC, with milliseconds: `2026-11-21T06:31:43.250Z`.
pub(crate) fn stamp(at_ms: i64) -> String {
    let moment = u64::try_from(at_ms).ok().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    // A clock outside of the years 1970 to 9999 is nothing to fail for.
    match moment {
        Some(moment) if at_ms < 253_402_300_800_000 => humantime::format_rfc3339_millis(moment).to_string(),
        _ => format!("{at_ms} ms"),
    }
}

/// How long something took, or has taken until now.
pub(crate) fn took(from_ms: i64, to_ms: Option<i64>) -> String {
    duration::between(from_ms, to_ms.unwrap_or_else(now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_gets_coarser() {
        let now = 1_795_000_000_000;
        let ago = |seconds: i64| ago(now - seconds * 1000, now);
        assert_eq!(ago(-60), "just now");
        assert_eq!(ago(4), "just now");
        assert_eq!(ago(5), "5 s ago");
        assert_eq!(ago(119), "1 min ago");
        assert_eq!(ago(7200), "2 h ago");
        assert_eq!(ago(3 * 86_400), "3 d ago");
        assert_eq!(ago(400 * 86_400), "2025-10-14");
    }

    #[test]
    fn impossible_moments_are_shown_as_they_are() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(-1), "-1 ms");
        assert_eq!(stamp(i64::MAX), format!("{} ms", i64::MAX));
    }
}

//! Durations, sizes, ranges and names as a user writes them. Pure; an error is what is wrong and what to do about it.

use std::time::Duration;

use bytesize::ByteSize;

/// What is wrong with a value, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

fn wrong<T>(message: String, hint: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message, hint: Some(hint.into()) })
}

/// A length of time: `100ms`, `10m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    let trimmed = text.trim();
    if trimmed.parse::<f64>().is_ok() {
        return wrong(
            format!("`{trimmed}` has no unit"),
            format!("write `{trimmed}s` for seconds, or `ms`, `m`, `h`, `d`"),
        );
    }
    let units = "write durations like `100ms`, `10m` or `1h 30m`";
    humantime::parse_duration(trimmed).or_else(|_| wrong(format!("`{}` is not a duration", clip(trimmed)), units))
}

/// A number of bytes: `1500MiB`, `4GiB`, `1024`; at least 1.
pub(crate) fn size(text: &str) -> Result<u64, Wrong> {
    let trimmed = text.trim();
    let units = "write sizes like `1500MiB` or `4GiB`; a bare number counts bytes";
    match trimmed.parse::<ByteSize>() {
        Ok(size) if size.as_u64() == u64::MAX => {
            wrong(format!("`{}` is more than can be counted", clip(trimmed)), units)
        }
        Ok(size) if size.as_u64() == 0 => wrong(format!("`{}` is no size", clip(trimmed)), "leave it out for no limit"),
        Ok(size) => Ok(size.as_u64()),
        Err(_) => wrong(format!("`{}` is not a size", clip(trimmed)), units),
    }
}

/// Memory: a size that is not so small that its unit was forgotten.
pub(crate) fn memory(key: &str, text: &str) -> Result<u64, Wrong> {
    let bytes = size(text)?;
    if bytes >= 1 << 20 {
        return Ok(bytes);
    }
    wrong(format!("`{key}` is {bytes} bytes"), format!("write a unit, such as `{bytes}MiB`; at least 1 MiB"))
}

/// Cores in thousandths.
pub(crate) fn cpu(cores: f64) -> Result<u64, Wrong> {
    let millis = (cores * 1000.0).round();
    if (1.0..=1e9).contains(&millis) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a billion")]
        return Ok(millis as u64);
    }
    if millis > 1e9 {
        return Err(Wrong { message: format!("`cpu` is {cores}, but must be at most 1000000"), hint: None });
    }
    wrong(format!("`cpu` is {cores}, but must be at least 0.001"), "leave it out for no limit")
}

/// A number of things: at least `least`, and fitting into 32 bits.
pub(crate) fn count(key: &str, number: i64, least: u32) -> Result<u32, Wrong> {
    match u32::try_from(number) {
        Ok(number) if number >= least => Ok(number),
        _ if number < i64::from(least) => {
            Err(Wrong { message: format!("`{key}` is {number}, but must be at least {least}"), hint: None })
        }
        _ => Err(Wrong { message: format!("`{key}` is {number}, but must be at most {}", u32::MAX), hint: None }),
    }
}

/// A finite number of at least `least`.
pub(crate) fn factor(key: &str, number: f64, least: f64) -> Result<f64, Wrong> {
    if number.is_finite() && number >= least {
        return Ok(number);
    }
    Err(Wrong { message: format!("`{key}` is {number}, but must be a number of at least {least}"), hint: None })
}

/// What the kernel said, without its number.
pub(crate) fn plain_words(error: &std::io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_lowercase()
}

/// The beginning of a text, short enough for a message.
pub(crate) fn clip(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() { format!("{short}…") } else { short }
}

/// The candidate that a misspelt name was probably meant to be.
pub(crate) fn closest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // A name this long was not typed by hand.
    if name.len() > 128 {
        return None;
    }
    // One letter of a name of two is half of it; that is another name.
    let allowed = name.chars().count().min(9) / 3;
    let lower = name.to_lowercase();
    let near = candidates.filter(|candidate| candidate.len().abs_diff(name.len()) <= 12).filter_map(|candidate| {
        let known = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&lower, &known);
        let alike = distance <= allowed || allowed > 0 && strsim::jaro_winkler(&lower, &known) > 0.85;
        alike.then_some((distance, candidate))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(duration("10").unwrap_err().message, "`10` has no unit");
        assert!(duration("10").unwrap_err().hint.unwrap().contains("`10s`"));
        for text in ["", "-1s", "ten", "99999999999999999999y", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_count_bytes() {
        assert_eq!(size("1500MiB").unwrap(), 1500 << 20);
        assert_eq!(size("4 GiB").unwrap(), 4 << 30);
        assert_eq!(size("1.5k").unwrap(), 1500);
        assert_eq!(size("1024").unwrap(), 1024);
        assert_eq!(memory("memory", "1MiB").unwrap(), 1 << 20);
        assert!(memory("memory", "100").unwrap_err().hint.unwrap().contains("`100MiB`"));
        for text in ["", "0", "0GiB", "-1", "much", "4GiBs", "99999999EB", "18446744073709551615", "1.2.3M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_positive() {
        assert_eq!(cpu(0.5).unwrap(), 500);
        assert!(cpu(1e9).unwrap_err().message.ends_with("at most 1000000"));
        for cores in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.0001, 1e300] {
            assert!(cpu(cores).is_err(), "{cores}");
        }
    }
}

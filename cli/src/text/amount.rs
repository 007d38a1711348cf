//! Amounts as the command line takes them: cores (`2`, `0.5`) , bytes (`4GiB`, `512MB`) and durations (`300ms`).

use std::time::Duration;

use bytesize::ByteSize;

/// Cores in thousandths, from `2` or `0.5`.
///
/// # Errors
/// When the text is no such amount, or below one thousandth.
pub(crate) fn cores(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number of cores, such as `2` or `0.5`");
    let millis = (text.parse::<f64>().map_err(|_| wrong())? * 1000.0).round();
    if !(1.0..=1e12).contains(&millis) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 1e12, by the check")]
    Ok(millis as u64)
}

/// Bytes, from `4GiB`, `512 MB` or a plain number.
///
/// # Errors
/// When the text is no such amount, or zero.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if bytes > 0 => Ok(bytes),
        _ => Err(format!("`{text}` is not an amount of memory, such as `4GiB` or `512MB`")),
    }
}

/// A length of time: `300ms`, `1h 30m`.
///
/// # Errors
/// When the text is no such length.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is not a duration, such as `300ms` or `1m 30s`"))
}

/// A parameter: `name=value`, cut at the first `=`.
///
/// # Errors
/// When there is no `=`, or nothing before it.
pub(crate) fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a parameter is written `name=value`".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted_in_thousandths() {
        assert_eq!(cores("2").unwrap(), 2000);
        assert_eq!(cores("0.5").unwrap(), 500);
        for wrong in ["", "0", "-1", "two", "nan", "inf", "1e300", "500m"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_memory_is_no_amount() {
        assert_eq!(bytes("4GiB").unwrap(), 4 << 30);
        assert_eq!(bytes("1.5MB").unwrap(), 1_500_000);
        for wrong in ["", "0", "-1", "lots", "GiB", "1XB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_may_hold_equals_signs() {
        assert_eq!(parameter("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(parameter("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(parameter("=b").is_err());
        assert!(parameter("a").is_err());
    }
}

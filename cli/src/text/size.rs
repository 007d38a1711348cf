//! Sizes in bytes: `512 B`, `1.5 KiB`, `4.0 GiB`.

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The short form, with one decimal.
pub(crate) fn short(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = bytes.ilog2() / 10;
    let tenths = (u128::from(bytes) * 10) >> (power * 10);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_magnitude_has_its_unit() {
        assert_eq!(short(0), "0 B");
        assert_eq!(short(1023), "1023 B");
        assert_eq!(short(1024), "1.0 KiB");
        assert_eq!(short(1536), "1.5 KiB");
        assert_eq!(short(4 << 30), "4.0 GiB");
        assert_eq!(short(u64::MAX), "15.9 EiB");
    }
}

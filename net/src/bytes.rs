//! Sizes in bytes as people write them: `512MiB`, `4G`, `1.5GiB`.

use std::fmt;

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size: {why} (examples: 512MiB, 4G, 1.5GiB, 1048576)")]
pub struct BytesError {
    text: String,
    why: &'static str,
}

/// Reads a size. Units: none or `B` (bytes), `K`, `M`, `G`, `T`, `P`, `E`, alone or as `KB`, `KiB`; upper or lower case; all
/// of them mean powers of 1024, as they do for Slurm and `ulimit`. Fractions are rounded down to whole bytes.
///
/// # Errors
/// If the text is not a number with a known unit, is negative, or is larger than a `u64` can count.
///
/// ```
/// use aeolian_net::bytes::parse;
/// assert_eq!(parse("512MiB"), Ok(512 << 20));
/// assert_eq!(parse("4G"), Ok(4 << 30));
/// assert_eq!(parse("1.5 GiB"), Ok(3 << 29));
/// assert!(parse("4 apples").is_err());
/// ```
pub fn parse(text: &str) -> Result<u64, BytesError> {
    let fail = |why| BytesError { text: text.chars().take(40).collect(), why };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    if number.is_empty() {
        return Err(fail("it must begin with a number that is not negative"));
    }
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        "e" | "eb" | "eib" => 60,
        _ => return Err(fail("the unit is not one of B, K, M, G, T, P, E, KiB, MiB, GiB, TiB, PiB, EiB")),
    };
    let too_large = || fail("it is larger than 16 EiB");
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(fail("the number is malformed"));
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_large())? };
    // Whole part exactly; only the fraction (< 1) goes through floating point.
    let part = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse::<f64>().unwrap_or(0.0) };
    let part = (part * (1u64 << shift) as f64) as u64;
    whole.checked_mul(1 << shift).and_then(|w| w.checked_add(part)).ok_or_else(too_large)
}

/// A size that displays itself in the largest binary unit with at most one decimal: `23.5 GiB`.
///
/// ```
/// use aeolian_net::bytes::Bytes;
/// assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
/// assert_eq!(Bytes(64 << 20).to_string(), "64 MiB");
/// assert_eq!(Bytes(100).to_string(), "100 B");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut exponent = if self.0 == 0 { 0 } else { self.0.ilog2() as usize / 10 };
        let mut tenths = (self.0 as u128 * 10 + (1u128 << (10 * exponent)) / 2) >> (10 * exponent);
        if tenths >= 10240 && exponent < 6 {
            exponent += 1; // 1023.99 KiB rounds to 1 MiB, not to 1024 KiB
            tenths = 10;
        }
        let unit = units[exponent.min(6)];
        if tenths.is_multiple_of(10) {
            f.pad(&format!("{} {unit}", tenths / 10))
        } else {
            f.pad(&format!("{}.{} {unit}", tenths / 10, tenths % 10))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_and_borders() {
        for (text, bytes) in [
            ("0", 0),
            ("17b", 17),
            (" 1k ", 1024),
            ("2KB", 2048),
            ("3 kib", 3072),
            ("0.5M", 1 << 19),
            (".5K", 512),
            ("1T", 1 << 40),
            ("2PiB", 2 << 50),
            ("1.5 EiB", 3 << 59),
            ("18446744073709551615", u64::MAX),
            ("9007199254740993", 9007199254740993), // not a double
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            " ",
            "-1",
            "G",
            "1.2.3",
            ".",
            "1X",
            "1GiBB",
            "18446744073709551616",
            "16384P",
            "16E",
            "nan",
            "inf",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes((1 << 20) - 1).to_string(), "1 MiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16 EiB");
        assert_eq!(parse(&Bytes((1 << 60) - 1).to_string()), Ok(1 << 60));
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_again(n in 0u64..1 << 60) {
            let again = parse(&Bytes(n).to_string()).unwrap();
            prop_assert!(again.abs_diff(n) as f64 <= 0.051 * n as f64 + 1.0, "{n} -> {again}");
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}

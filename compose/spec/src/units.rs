//! Sizes, durations, numbers, booleans and dates as QEMU's users write them.

use std::time::Duration;

/// `512`, `512M`, `1.5G`, `0x1000`, `4096B`: bytes. A bare number counts `default_unit` bytes.
pub(crate) fn size(text: &str, default_unit: u64) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is not a size such as 512M or 2G");
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).map_err(|_| wrong());
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => default_unit,
        "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return Err(wrong()),
    };
    scaled(digits, unit).ok_or_else(wrong)
}

/// `30`, `30s`, `1.5s`, `500ms`, `20us`, `7ns`, `2m`, `1h`. A bare number counts seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a duration such as 30s or 500ms");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "s" => 1_000_000_000,
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(wrong()),
    };
    scaled(digits, unit)
        .map(Duration::from_nanos)
        .ok_or_else(wrong)
}

/// `whole.fraction` times `unit`, exactly, or nothing if it is no number, does not fit, or leaves
/// a remainder.
fn scaled(digits: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 15 {
        return None;
    }
    let base = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() {
        return if digits.contains('.') {
            None
        } else {
            Some(base)
        };
    }
    let ten_to = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(unit);
    if part % ten_to != 0 {
        return None;
    }
    base.checked_add(u64::try_from(part / ten_to).ok()?)
}

/// QEMU's booleans.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(format!("\"{text}\" is neither on nor off")),
    }
}

/// A decimal or 0x number.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("\"{text}\" is not a number"))
}

/// `YYYY-MM-DD`, `YYYY-MM-DDTHH:MM:SS`, or `@SECONDS`: seconds since 1970 UTC.
pub(crate) fn date(text: &str) -> Option<i64> {
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok();
    }
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(day, '-')?;
    let [hour, minute, second] = numbers(time.trim_end_matches('Z'), ':')?;
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        _ => 31,
    };
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    in_range
        .then(|| days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| part.parse::<i64>().ok()).flatten()
    });
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. The year is taken to begin in March,
/// so that the leap day is its last day.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("512", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2g", Some(2 << 30)),
            ("0x1000", Some(0x1000)),
            ("4096B", Some(4096)),
            ("0", Some(0)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.", None),
            (".5G", None),
            ("1.0000001K", None),
            ("1X", None),
            ("99999999T", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text, 1 << 20).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("30", Some(30_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("500ms", Some(500_000_000)),
            ("20us", Some(20_000)),
            ("7ns", Some(7)),
            ("2m", Some(120_000_000_000)),
            ("1h", Some(3_600_000_000_000)),
            ("s", None),
            ("1.5ns", None),
            ("1 s", None),
            ("1d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                duration(text).ok(),
                expected.map(Duration::from_nanos),
                "{text}"
            );
        }
    }

    #[test]
    fn dates() {
        let cases = [
            ("1970-01-01", Some(0)),
            ("2000-02-29T12:00:00", Some(951_825_600)),
            ("2026-01-01", Some(1_767_225_600)),
            ("2026-01-01T00:00:01Z", Some(1_767_225_601)),
            ("@42", Some(42)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-1", None),
            ("2026-01-01T25:00:00", None),
            ("yesterday", None),
        ];
        for (text, expected) in cases {
            assert_eq!(date(text), expected, "{text}");
        }
    }
}

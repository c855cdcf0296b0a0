//! Numbers as people read and write them.

use std::time::Duration;

use anyhow::{Context as _, bail};

/// Bytes with a unit: `23 B`, `1.2 KiB`, `31 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A number in few columns: `9999`, `12k`, `3.4M`.
pub(crate) fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        _ => scaled(number, 1000.0, &["", "k", "M", "G", "T"]),
    }
}

/// A number in full, with commas: `1,204,311`.
pub(crate) fn full(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: `1 channel`, `3 channels`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", full(number))
}

/// A time in its two largest units: `0.8 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0..10 => format!("{seconds}.{} s", ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A time in few columns: `12s`, `3m`, `2h`, `3d`.
pub(crate) fn age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A time as it is written in a command, with a unit; seconds without one.
pub(crate) fn parse_time(text: &str) -> anyhow::Result<Duration> {
    const HINT: &str = "use a number with ms, s, m, h or d";
    let (number, unit) = split_unit(text);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => bail!(HINT),
    };
    let number: f64 = number.parse().context(HINT)?;
    Duration::try_from_secs_f64(number * seconds).context("that is too long")
}

/// Bytes as they are written in a command, with a unit or without.
pub(crate) fn parse_bytes(text: &str) -> anyhow::Result<u64> {
    const HINT: &str = "use a number with B, KiB, MiB or GiB";
    let (number, unit) = split_unit(text);
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1_u64 << 30,
        _ => bail!(HINT),
    };
    let number: u64 = number.parse().context(HINT)?;
    number.checked_mul(bytes).context("that is too much")
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(digits)
}

fn scaled(number: u64, base: f64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut units = units.iter();
    let mut unit = units.next().expect("there are units");
    // What would be rounded up to the base is one of the next unit.
    while value.round() >= base
        && let Some(next) = units.next()
    {
        value /= base;
        unit = next;
    }
    let precise = format!("{value:.1}");
    match precise.strip_suffix(".0") {
        None if precise.len() == "1.2".len() => precise + unit,
        _ => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_at_most_four_digits_and_a_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1229, "1.2 KiB"),
            (10 * 1024 + 512, "10 KiB"),
            (1024 * 1024 - 1, "1 MiB"),
            (32 << 20, "32 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn short_numbers_are_exact_below_ten_thousand() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10k"),
            (12_345, "12k"),
            (999_999, "1M"),
            (3_400_000, "3.4M"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn full_numbers_have_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_204_311, "1,204,311"),
        ] {
            assert_eq!(full(number), text);
        }
        assert_eq!(count(1, "channel"), "1 channel");
        assert_eq!(count(1_000, "channel"), "1,000 channels");
    }

    #[test]
    fn times_are_told_in_their_largest_units() {
        for (ms, long, brief) in [
            (0, "0.0 s", "0s"),
            (850, "0.8 s", "0s"),
            (12_900, "12 s", "12s"),
            (60_000, "1 min", "1m"),
            (192_000, "3 min 12 s", "3m"),
            (7_500_000, "2 h 5 min", "2h"),
            (3 * 86_400_000 + 4 * 3_600_000, "3 d 4 h", "3d"),
        ] {
            assert_eq!((duration(ms), age(ms)), (long.into(), brief.into()));
        }
    }

    #[test]
    fn times_and_sizes_have_units() {
        for (text, ms) in [
            ("5", 5_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2m", 120_000),
            ("2min", 120_000),
            ("0.5h", 1_800_000),
            ("1d", 86_400_000),
            ("0", 0),
        ] {
            let time = Duration::from_millis(ms);
            assert_eq!(parse_time(text).unwrap(), time, "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "5 s",
            "5x",
            "1e400",
            "1.2.3",
            "99999999999999999999h",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        for (text, bytes) in [("0", 0), ("7B", 7), ("3KiB", 3_072), ("16MiB", 16 << 20)] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "KiB", "1.5MiB", "1MB", "-1", "99999999999GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}

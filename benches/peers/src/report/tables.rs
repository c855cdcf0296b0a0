//! The tables: a row for each broker, a column for each x.

use crate::plan::{LARGE, SMALL};
use crate::results::{Results, Spread, Work};

use super::{BROKERS, spread};

/// All tables, each with its plot from the folder.
pub fn sections(results: &Results, folder: &str) -> String {
    let image = |name: &str, text: &str| format!("![{text}]({folder}/{name}.svg)\n");
    [
        "## One publisher, one subscriber\n\nMessages delivered per second, by payload.\n"
            .into(),
        table(results, Work::OneToOne, Unit::Rate, bytes),
        image("throughput", "messages per second by payload"),
        format!(
            "## Fan-out\n\n{SMALL}-byte messages delivered per second, to all subscribers \
             together, by subscribers.\n"
        ),
        table(results, Work::FanOut, Unit::Rate, |x| x.to_string()),
        image("fan-out", "deliveries per second by subscribers"),
        format!(
            "## Large messages\n\nMessages of {}, GB/s to all subscribers together, by subscribers.\n",
            bytes(LARGE as u64)
        ),
        table(results, Work::LargeFanOut, Unit::Times(1e-9), |x| x.to_string()),
        format!(
            "## Round trip\n\nA client sends {SMALL} bytes through the broker to another, which \
             sends {SMALL} back: microseconds, by percentile; everything pinned to one core.\n"
        ),
        table(results, Work::RoundTrip, Unit::Times(1.0), percentile),
        image("round-trip", "round trip times by percentile"),
        "## Memory of idle connections\n\nMiB of resident memory, by connections with one \
         subscription each. For localhub these are whole sessions.\n"
            .into(),
        table(results, Work::Memory, Unit::Times(1.0 / 1_048_576.0), |x| x.to_string()),
        image("memory", "memory by connections"),
        "## Reconnect storm\n\nSeconds, by sessions, from all connections lost to all sessions \
         resumed.\n"
            .into(),
        table(results, Work::Storm, Unit::Times(1.0), |x| x.to_string()),
    ]
    .join("\n")
}

/// What the numbers of a table are shown in.
#[derive(Clone, Copy)]
enum Unit {
    /// In millions or thousands, and which of them it is.
    Rate,
    /// Multiplied by a factor, as the text above the table says.
    Times(f64),
}

impl Unit {
    fn show(self, values: Spread) -> String {
        match self {
            Self::Rate if values.median >= 1e6 => spread(values.scaled(1e-6)) + " M",
            Self::Rate => spread(values.scaled(1e-3)) + " k",
            Self::Times(factor) => spread(values.scaled(factor)),
        }
    }
}

fn table(results: &Results, work: Work, unit: Unit, label: impl Fn(u64) -> String) -> String {
    let xs = results.xs(work);
    let labels: Vec<String> = xs.iter().map(|x| label(*x)).collect();
    let mut table = format!(
        "| | {} |\n|{}\n",
        labels.join(" | "),
        " --- |".repeat(xs.len() + 1)
    );
    for (name, shown, _) in BROKERS {
        let cell = |x: &u64| {
            let Some(values) = results.values(name, work, *x) else {
                return "–".into();
            };
            let lost = results.lost(name, work, *x);
            let lost = match lost > 0.0 {
                true => format!(", up to {:.1} % lost", lost * 100.0),
                false => String::new(),
            };
            unit.show(values) + &lost
        };
        let cells: Vec<String> = xs.iter().map(cell).collect();
        if cells.iter().any(|cell| cell != "–") {
            table += &format!("| {shown} | {} |\n", cells.join(" | "));
        }
    }
    table
}

/// A number of bytes, in words.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        1_048_576.. => format!("{} MiB", bytes / 1_048_576),
        1_024.. => format!("{} KiB", bytes / 1_024),
        _ => format!("{bytes} B"),
    }
}

/// A percentile, in words.
pub fn percentile(per_mille: u64) -> String {
    match per_mille {
        1_000 => "max".into(),
        _ if per_mille.is_multiple_of(10) => format!("p{}", per_mille / 10),
        _ => format!("p{}.{}", per_mille / 10, per_mille % 10),
    }
}

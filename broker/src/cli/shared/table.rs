//! Tables for people: aligned columns, no lines, as wide as the terminal.

use std::fmt;

use localhub::logging::escaped;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
const GAP: usize = 2;

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    /// What it may be cut down to.
    narrowest: Option<usize>,
    /// The highest goes first when the terminal is too narrow; 0 stays.
    spare: u8,
}

impl Column {
    /// Text, from the left, never cut.
    pub(crate) const fn text(title: &'static str) -> Self {
        Self {
            title,
            right: false,
            narrowest: None,
            spare: 0,
        }
    }

    /// A number, from the right.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self {
            right: true,
            ..Self::text(title)
        }
    }

    /// May be cut down to so many columns.
    pub(crate) const fn cut_to(self, narrowest: usize) -> Self {
        Self {
            narrowest: Some(narrowest),
            ..self
        }
    }

    /// May be left out where the terminal is narrow, the highest `rank` first.
    pub(crate) const fn spare(self, rank: u8) -> Self {
        Self {
            spare: rank,
            ..self
        }
    }
}

/// Rows under titles. Cells are escaped: a table can show what clients say.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with one cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<_> = cells
            .into_iter()
            .map(|cell| escaped(&cell).into_owned())
            .collect();
        assert_eq!(
            row.len(),
            self.columns.len(),
            "a row has as many cells as there are columns"
        );
        self.rows.push(row);
    }

    /// The table, not wider than so many columns if that is possible, and the titles of the columns
    /// that were left out to make it so.
    pub(crate) fn fitted(&self, columns: Option<usize>) -> (Fitted<'_>, Vec<&'static str>) {
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len())
            .map(|column| (column, self.width(column)))
            .collect();
        let mut left_out = Vec::new();
        if let Some(available) = columns {
            let total = |shown: &[(usize, usize)]| {
                shown.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP
            };
            let least = |shown: &[(usize, usize)]| {
                let narrowest = shown.iter().map(|(column, width)| {
                    (
                        *column,
                        self.columns[*column]
                            .narrowest
                            .map_or(*width, |least| least.min(*width)),
                    )
                });
                total(&narrowest.collect::<Vec<_>>())
            };
            while least(&shown) > available
                && let Some(spare) = (0..shown.len())
                    .filter(|at| self.columns[shown[*at].0].spare > 0)
                    .max_by_key(|at| self.columns[shown[*at].0].spare)
            {
                left_out.push(self.columns[shown.remove(spare).0].title);
            }
            while total(&shown) > available
                && let Some(widest) = shown
                    .iter_mut()
                    .filter(|(column, width)| {
                        self.columns[*column]
                            .narrowest
                            .is_some_and(|least| *width > least)
                    })
                    .max_by_key(|(_, width)| *width)
            {
                widest.1 -= 1;
            }
        }
        (Fitted { table: self, shown }, left_out)
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].width());
        cells
            .chain([self.columns[column].title.width()])
            .max()
            .unwrap_or(0)
    }
}

/// A table and how wide each of its columns is.
#[derive(Debug)]
pub(crate) struct Fitted<'a> {
    table: &'a Table,
    shown: Vec<(usize, usize)>,
}

impl fmt::Display for Fitted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<String> = self
            .table
            .columns
            .iter()
            .map(|column| column.title.to_owned())
            .collect();
        for (at, row) in [&titles].into_iter().chain(&self.table.rows).enumerate() {
            let mut line = String::new();
            for (column, width) in &self.shown {
                let cell = cut(&row[*column], *width);
                let space = " ".repeat(width.saturating_sub(cell.width()));
                match self.table.columns[*column].right {
                    true => line.extend([space, cell]),
                    false => line.extend([cell, space]),
                }
                line += &" ".repeat(GAP);
            }
            if at > 0 {
                writeln!(f)?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// The beginning of a text that fits, with an ellipsis where it was cut.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.into();
    }
    let mut room = columns.saturating_sub(1);
    let mut kept = String::new();
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::text("NAME").cut_to(6),
            Column::number("PID").spare(1),
            Column::text("PROGRAM").cut_to(8).spare(2),
            Column::number("IN"),
        ]);
        table.row([
            "kiosk-ui".into(),
            "4711".into(),
            "flutter-kiosk".into(),
            "12k".into(),
        ]);
        table.row(["größe\u{1b}[m".into(), "1".into(), "-".into(), "3".into()]);
        table
    }

    fn fitted(columns: usize) -> (String, Vec<&'static str>) {
        let table = table();
        let (fitted, left_out) = table.fitted(Some(columns));
        (fitted.to_string(), left_out)
    }

    #[test]
    fn columns_are_aligned_and_nothing_is_cut_without_a_terminal() {
        let expected = "\
NAME            PID  PROGRAM         IN
kiosk-ui       4711  flutter-kiosk  12k
größe\\u{1b}[m     1  -                3";
        assert_eq!(table().fitted(None).0.to_string(), expected);
    }

    #[test]
    fn wide_columns_are_cut_before_any_is_left_out() {
        let expected = "\
NAME         PID  PROGRAM     IN
kiosk-ui    4711  flutter-…  12k
größe\\u{1…     1  -            3";
        assert_eq!(fitted(32), (expected.into(), vec![]));
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_is_told() {
        let expected = "\
NAME      PID   IN
kiosk-…  4711  12k
größe\\…     1    3";
        assert_eq!(fitted(18), (expected.into(), vec!["PROGRAM"]));
        let (text, left_out) = fitted(3);
        assert_eq!(left_out, ["PROGRAM", "PID"]);
        assert_eq!(
            text.lines().next(),
            Some("NAME     IN"),
            "what must stay stays"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 11..60 {
            for line in fitted(columns).0.lines() {
                assert!(line.width() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn a_table_without_rows_has_its_titles() {
        let table = Table::new([Column::text("NAME")]);
        assert_eq!(table.fitted(Some(80)).0.to_string(), "NAME");
    }

    #[test]
    fn text_is_cut_by_columns_not_by_bytes() {
        for (text, columns, expected) in [
            ("äöü", 3, "äöü"),
            ("äöü", 2, "ä…"),
            ("日本語", 4, "日…"),
            ("日本語", 6, "日本語"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected);
        }
    }
}

//! What the verbs that list something have in common.

use serde::Serialize;

use super::exit::note;
use super::output::Output;
use super::table::Table;

/// Shows a list: an object a line for programs, a table fitted to the terminal for people, or a word that
/// there is nothing.
pub(crate) fn show<T: Serialize>(
    json: bool,
    items: &[T],
    nothing: &str,
    table: impl FnOnce(&[T]) -> Table,
) -> anyhow::Result<()> {
    let mut out = Output::new(json);
    if out.is_json() {
        for item in items {
            out.object(item)?;
        }
    } else if items.is_empty() {
        note(nothing);
    } else {
        let table = table(items);
        let (fitted, left_out) = table.fitted(out.columns());
        out.line(fitted)?;
        out.flush()?;
        tell_left_out(&left_out);
    }
    out.flush()?;
    Ok(())
}

/// Says which columns did not fit the terminal.
pub(crate) fn tell_left_out(titles: &[&str]) {
    if !titles.is_empty() {
        note(&format!(
            "the terminal is too narrow for {} (--json has all)",
            titles.join(", ")
        ));
    }
}

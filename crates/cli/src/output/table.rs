//! Tables of aligned columns.

use super::seen;
use super::wrap::{self, width};

/// With less room than this, the last column has lines of its own.
const ROOM: usize = 24;
/// How far those are indented.
const INDENT: usize = 4;

/// Rows under a head. Columns are as wide as their widest cell; the last one is not padded. Where it does not [fit](Table::fit), it
/// goes on below.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
    /// The widths of the columns in the lines taken so far.
    widths: Vec<usize>,
    /// Whether the head is among the rows.
    headed: bool,
    /// Whether the head is shown.
    shown: bool,
    columns: Option<usize>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self::of(&head)
    }

    /// A table with these titles.
    pub(crate) fn of(head: &[&str]) -> Self {
        let titles = head.iter().map(|title| (*title).to_owned()).collect();
        Self {
            rows: vec![titles],
            right: Vec::new(),
            widths: vec![0; head.len()],
            headed: true,
            shown: true,
            columns: None,
        }
    }

    /// Aligns this column to the right.
    pub(crate) fn right(mut self, column: usize) -> Self {
        self.right.push(column);
        self
    }

    /// Leaves the head out; columns are as wide as with it.
    pub(crate) fn without_head(mut self) -> Self {
        self.shown = false;
        self
    }

    /// Breaks the last column so that lines are at most this wide. A longer word has a line of its own.
    pub(crate) fn fit(mut self, columns: Option<usize>) -> Self {
        self.columns = columns;
        self
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.add(cells.to_vec());
    }

    /// Adds a row of as many cells as there are titles.
    pub(crate) fn add(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|c| one_line(c)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == usize::from(self.headed)
    }

    /// How wide the lines are that are not broken.
    pub(crate) fn width(&self) -> usize {
        let widest = |column: usize| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or_default();
        (0..self.widths.len()).map(|column| widest(column) + 2).sum::<usize>().saturating_sub(2)
    }

    /// The lines, without white space at their ends.
    pub(crate) fn lines(mut self) -> Vec<String> {
        self.take()
    }

    /// Takes the lines so far and forgets their rows; later rows are at least as wide. A row that does not fit has several lines.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let rows = std::mem::take(&mut self.rows);
        let hidden = usize::from(self.headed && !self.shown);
        self.headed = false;
        for (column, known) in self.widths.iter_mut().enumerate() {
            *known = rows.iter().map(|row| width(&row[column])).max().unwrap_or_default().max(*known);
        }
        rows.iter().skip(hidden).flat_map(|row| self.lines_of(row)).collect()
    }

    fn lines_of(&self, row: &[String]) -> Vec<String> {
        let Some((last, before)) = row.split_last() else { return Vec::new() };
        let mut line = String::new();
        for (column, cell) in before.iter().enumerate() {
            line += &self.padded(column, cell);
            line += "  ";
        }
        let start = width(&line);
        let end = if self.right.contains(&before.len()) { self.padded(before.len(), last) } else { last.clone() };
        let Some(columns) = self.columns.filter(|columns| start + width(&end) > *columns) else {
            return vec![format!("{line}{end}").trim_end().to_owned()];
        };
        let longest = end.split(' ').map(width).max().unwrap_or_default();
        if start + ROOM.max(longest) <= columns {
            let mut lines = wrap::lines(&end, columns - start, 0);
            for (at, part) in lines.iter_mut().enumerate() {
                *part = if at == 0 { format!("{line}{part}") } else { format!("{:start$}{part}", "") };
            }
            return lines;
        }
        let above = wrap::lines(line.trim_end(), columns, INDENT);
        let below = wrap::lines(&format!("{:INDENT$}{end}", ""), columns, INDENT);
        above.into_iter().filter(|line| !line.is_empty()).chain(below).collect()
    }

    fn padded(&self, column: usize, cell: &str) -> String {
        let pad = " ".repeat(self.widths[column] - width(cell));
        if self.right.contains(&column) { pad + cell } else { cell.to_owned() + &pad }
    }
}

/// A cell stays in its line and column, whatever a server's message contains.
fn one_line(text: &str) -> String {
    seen::cell(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_on_as_wide_as_it_was() {
        let mut table = Table::new(["A", "B"]);
        table.row(["long one".to_owned(), "x".to_owned()]);
        assert_eq!(table.take(), ["A         B", "long one  x"]);
        assert!(table.is_empty());
        table.row(["y".to_owned(), "z".to_owned()]);
        assert_eq!(table.take(), ["y         z"]);
    }

    #[test]
    fn the_last_column_goes_on_below_where_it_does_not_fit() {
        let table = |key: &str, detail: &str| {
            let mut table = Table::new(["K", "DETAIL"]).without_head().fit(Some(36));
            table.row([key.to_owned(), detail.to_owned()]);
            table.lines()
        };
        assert_eq!(table("key", "fits"), ["key  fits"]);
        let detail = "a detail with some words that is broken";
        assert_eq!(table("key", detail), ["key  a detail with some words that", "     is broken"]);
        let below = ["a key with words", "    a detail with some words that is", "    broken"];
        assert_eq!(table("a key with words", detail), below);
        let url = "https://example.org/a/very/long/one/of/them";
        assert_eq!(table("key", &format!("see {url}")), ["key", "    see", &format!("    {url}")]);
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(["A", "SIZE", "B"]).right(1);
        table.row(["é日本".to_owned(), "1".to_owned(), "x\ny".to_owned()]);
        table.row([super::super::paint("PASS", 32, true), "12345".to_owned(), String::new()]);
        table.row(["\x1b[2J".to_owned(), "\x1b[0m".to_owned(), "\u{202e}".to_owned()]);
        let lines: Vec<String> = table.lines().iter().map(|line| seen::text(line).into_owned()).collect();
        let expected = [
            "A           SIZE  B",
            "é日本          1  x y",
            "\x1b[32mPASS\x1b[0m       12345",
            "\\x1b[2J  \\x1b[0m  \\u{202e}",
        ];
        assert_eq!(lines, expected);
    }
}

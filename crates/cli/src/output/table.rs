//! Tables of aligned columns.

use unicode_width::UnicodeWidthStr;

use super::seen;

/// Rows under a head. Columns are as wide as their widest cell; the last one is not padded.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
    /// The widths of the columns in the lines taken so far.
    widths: Vec<usize>,
    /// Whether the head is among the rows.
    headed: bool,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self::of(&head)
    }

    /// A table with these titles.
    pub(crate) fn of(head: &[&str]) -> Self {
        let titles = head.iter().map(|title| (*title).to_owned()).collect();
        Self { rows: vec![titles], right: Vec::new(), widths: vec![0; head.len()], headed: true }
    }

    /// Aligns this column to the right.
    pub(crate) fn right(mut self, column: usize) -> Self {
        self.right.push(column);
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

    /// The lines, without white space at their ends.
    pub(crate) fn lines(mut self) -> Vec<String> {
        self.take()
    }

    /// Takes the lines so far and forgets their rows; later rows are at least as wide.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let rows = std::mem::take(&mut self.rows);
        self.headed = false;
        for (column, known) in self.widths.iter_mut().enumerate() {
            *known = rows.iter().map(|row| width(&row[column])).max().unwrap_or_default().max(*known);
        }
        let widths = &self.widths;
        rows.iter()
            .map(|row| {
                let mut line = String::new();
                for (column, cell) in row.iter().enumerate() {
                    let pad = " ".repeat(widths[column] - width(cell));
                    if self.right.contains(&column) {
                        line += &pad;
                        line += cell;
                    } else {
                        line += cell;
                        line += &pad;
                    }
                    line += "  ";
                }
                line.trim_end().to_owned()
            })
            .collect()
    }
}

/// A cell stays in its line and column, whatever a server's message contains.
fn one_line(text: &str) -> String {
    seen::cell(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

/// Width on the terminal; colour escapes take none.
fn width(text: &str) -> usize {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once('m').map_or("", |(_, tail)| tail);
    }
    plain += rest;
    plain.width()
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

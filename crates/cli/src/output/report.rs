//! Checks as a table.

use lifeboat_core::Check;
pub(crate) use lifeboat_core::words::{count, old, seconds, size, time};

use super::Output;
use super::table::Table;

/// A table of checks, in the order in which they were made.
pub(crate) fn checks<'a>(output: &Output, checks: impl IntoIterator<Item = &'a Check>) -> Table {
    let mut table = Table::new(["CHECK", "STATUS", "FIGURE", "TIME", "DETAIL"]);
    for check in checks {
        table.row([
            check.name.clone(),
            output.status(check.status),
            check.figure.clone(),
            if check.seconds > 0.0 { seconds(check.seconds) } else { "-".to_owned() },
            check.detail.clone(),
        ]);
    }
    table
}

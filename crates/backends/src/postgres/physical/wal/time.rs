//! Points in time as a server counts them.

use jiff::Timestamp;

/// Microseconds from 1970-01-01 to 2000-01-01, UTC (`src/include/datatype/timestamp.h`, `POSTGRES_EPOCH_JDATE`).
const EPOCH: i64 = 946_684_800_000_000;

/// A point in time: microseconds since 2000-01-01 00:00 UTC (`TimestampTz`). Any value can stand in a record, so it is one that a
/// calendar may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(pub i64);

impl PgTime {
    /// By the calendar. `None` outside the years −9999 to 9999.
    pub fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0.checked_add(EPOCH)?).ok()
    }
}

/// What is finer than a microsecond is cut off.
impl From<Timestamp> for PgTime {
    fn from(time: Timestamp) -> Self {
        // Year 9999 has 2.5 * 10^17 of them.
        Self(time.as_microsecond() - EPOCH)
    }
}

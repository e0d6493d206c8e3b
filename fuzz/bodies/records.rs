//! Any bytes under the name of a run's record are read or refused, and what is read is written and read again.

use lifeboat_core::history::Record;

pub fn run(input: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(input) else { return };
    let written = serde_json::to_vec(&record).expect("what was read can be written");
    let mut again: Record = serde_json::from_slice(&written).expect("what was written can be read");
    // The last digit of a fraction may be lost.
    again.seconds = record.seconds;
    assert_eq!(again, record);
}

//! Tests of the codec: what is written is read, and what is damaged is found.

mod damage;
mod fixtures;
mod format;
mod json;
mod round_trip;

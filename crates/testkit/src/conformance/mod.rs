//! Conformance suites: one for each trait, run by every implementation of it.
//!
//! A suite is a set of async functions that panic where a promise of the trait is broken.

pub mod encryptor;
pub mod sink;
pub mod source;
pub mod system;
pub mod target;
pub mod verifier;

//! What a program outside of Lifeboat adds to it: a [system](notebook), a [sink](shelf) and an [encryptor](veil) of its own. Each
//! passes the suite that `lifeboat-conformance` publishes for its trait, and the program has the whole command line.

pub mod notebook;
pub mod shelf;
pub mod veil;

pub use notebook::Notebook;
pub use shelf::Shelf;
pub use veil::Veil;

/// The systems of the program.
pub fn systems() -> lifeboat::cli::Systems {
    let mut systems = lifeboat::cli::Systems::new();
    systems.add::<Notebook>();
    systems
}

//! Any text as a config file is read or refused.

use std::path::Path;

use lifeboat_config::{Config, Systems};

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = Config::parse(text, Path::new("lifeboat.toml"), &Systems::new());
}

//! `completions` and `man`.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use lifeboat_core::{Error, Result};

use crate::exit::Exit;
use crate::session::Session;

/// Prints the completion script for a shell.
pub(crate) fn print(mut command: Command, shell: Shell, session: &Session) -> Result<Exit> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    if session.output.is_json() {
        session.output.result(&serde_json::json!({ "shell": shell.to_string(), "script": script }));
    }
    session.output.line(script.trim_end());
    Ok(Exit::Good)
}

/// Writes a manual page for the program and each of its commands.
///
/// # Errors
/// An error of the file system.
pub(crate) fn write_man(command: Command, folder: &Path, session: &Session) -> Result<Exit> {
    let failed = |e| Error::io("write manual pages into", folder.display().to_string(), e);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let program = command.get_name().to_owned();
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    let mut written = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&program) && name.ends_with(".1") {
            written.push(folder.join(name).display().to_string());
        }
    }
    written.sort();
    for path in &written {
        session.output.line(path);
    }
    session.output.result(&written);
    Ok(Exit::Good)
}

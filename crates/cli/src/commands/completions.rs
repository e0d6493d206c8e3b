//! `completions` and `man`.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use lifeboat_core::{Error, Result};

use crate::complete;
use crate::exit::Exit;
use crate::session::Session;
use lifeboat_config::Systems;
use lifeboat_config::manual::Section;

/// Prints the completion script for a shell.
pub(crate) fn print(mut command: Command, shell: Shell, session: &Session) -> Result<Exit> {
    let name = command.get_name().to_owned();
    let script = complete::script(shell, &name).unwrap_or_else(|| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    });
    if session.output.is_json() {
        session.output.result(&serde_json::json!({ "shell": shell.to_string(), "script": script }));
    }
    session.output.as_it_is(script.trim_end());
    Ok(Exit::Good)
}

/// lifeboat.toml(5): every table and every key.
fn toml_page(sections: &[Section]) -> String {
    let mut page =
        String::from(".TH lifeboat.toml 5\n.SH NAME\nlifeboat.toml \\- the config file of lifeboat\n.SH DESCRIPTION\n");
    page += "It names sinks, jobs and copies, in TOML. It is looked for in the working folder, in\n$XDG_CONFIG_HOME/lifeboat and in \
             /etc/lifeboat; \\-\\-config and LIFEBOAT_CONFIG name it elsewhere.\nA text may hold ${NAME}, the value of a variable, or \
             be file:PATH, the content of a file;\nboth are looked up when they are needed. `lifeboat init` writes a file to start with.\n";
    for section in sections {
        page += &format!(".SH {}\n", roff(&section.title));
        for text in [&section.about, &section.example].into_iter().filter(|text| !text.is_empty()) {
            page += &format!("{}\n.PP\n", roff(text));
        }
        for key in &section.keys {
            page += &format!(".TP\n\\fB{}\\fR (\\fI{}\\fR)\n{}\n", roff(&key.name), roff(key.kind), roff(&key.about));
            page += &format!(".br\nDefault: {}.\n.br\nExample: {}\n", roff(&key.default), roff(&key.example));
        }
    }
    page + ".SH SEE ALSO\nlifeboat(1)\n"
}

/// A text as roff takes it: nothing in it is a request.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
}

/// Writes a manual page for the program and each of its commands, and with systems one for their config file.
///
/// # Errors
/// An error of the file system.
pub(crate) fn write_man(command: Command, folder: &Path, systems: Option<&Systems>, session: &Session) -> Result<Exit> {
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
    if let Some(systems) = systems {
        let path = folder.join("lifeboat.toml.5");
        std::fs::write(&path, toml_page(&systems.manual())).map_err(failed)?;
        written.push(path.display().to_string());
    }
    written.sort();
    for path in &written {
        session.output.as_it_is(path);
    }
    session.output.result(&written);
    Ok(Exit::Good)
}

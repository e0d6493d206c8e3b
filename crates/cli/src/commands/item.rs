//! `show --item`: one item of an artifact, to standard output.

use std::io::{self, IsTerminal, Write};

use futures::StreamExt;
use lifeboat_config::Job;
use lifeboat_core::catalog::At;
use lifeboat_core::progress::{Event, Step, Unit};
use lifeboat_core::words::{Noun, old, time};
use lifeboat_core::{Error, ErrorKind, Level, Restore, Result};

use super::place;
use crate::exit::Exit;
use crate::session::Session;

/// Writes an item of one artifact of a job to standard output, and says on standard error what it is.
pub(crate) async fn run(session: &Session, job: &Job, at: &At, item: &str) -> Result<Exit> {
    let output = &session.output;
    session.begin("read an item of", &job.name)?;
    check_output(output.is_json(), io::stdout().is_terminal())?;
    let store = job.store()?;
    let artifact = place::find(job, store, at).await?;
    let verifier = job.system.verifier(Level::Structure, None).await?;
    let keys = place::keys_for(job, &artifact)?;
    let (taken_at, bytes) = (artifact.name.taken_at, artifact.bytes());
    let subject = artifact.key();
    let restore = Restore::new(store.sink.clone(), artifact).keys(keys).context(session.context.clone());
    let mut read = session.settle("read an item of", &job.name, restore.item(&*verifier, item).await)?;
    output.aside(&format!("{} of {subject}, {} ({})", read.name, time(taken_at), old(taken_at, session.context.now())));
    output.aside(&format!("  {}", read.form));
    let step = Step::Read(read.name.clone());
    session.context.progress.event(Event::Begin { step, unit: Unit::Bytes, total: Some(bytes.into()) });
    let mut written = 0u64;
    while let Some(chunk) = read.stream.next().await {
        let chunk = session.settle("read an item of", &job.name, chunk).inspect_err(|_| {
            output.warn(&format!(
                "what was written of {} is not whole, or not what was backed up: do not use it",
                read.name
            ));
        })?;
        if let Err(error) = io::stdout().write_all(&chunk) {
            // A reader that has seen enough (`… | head`) is no failure; but then nothing was proven either.
            if error.kind() == io::ErrorKind::BrokenPipe {
                output.note("nobody reads any more: what was read was not compared with the proof");
                return Ok(Exit::Good);
            }
            return Err(Error::io("write to", "standard output", error));
        }
        written += chunk.len() as u64;
    }
    io::stdout().flush().map_err(|error| Error::io("write to", "standard output", error))?;
    session.context.progress.event(Event::End);
    let compared = match &read.expected {
        Some(expected) => {
            let unit = job.system.unit(&expected.kind).unwrap_or(Noun::ENTRIES);
            format!("{}, as its proof says", unit.count(expected.count))
        }
        None => "compared with nothing: the backup has no manifest".to_owned(),
    };
    output.aside(&format!("DONE {}: {}, {compared}", read.name, lifeboat_core::words::size(written)));
    Ok(Exit::Good)
}

/// Standard output is the item's alone, and no terminal: the bytes are whatever the source had.
fn check_output(json: bool, terminal: bool) -> Result<()> {
    if json {
        let why = "standard output cannot hold both JSON and the item";
        return Err(Error::new(ErrorKind::Config, "use", "--json", why).hint("leave out --json"));
    }
    if terminal {
        let why = "its bytes may do anything to a terminal";
        return Err(Error::new(ErrorKind::Config, "write", "the item to standard output", why)
            .hint("write it to a file (> orders.copy), or to a program that shows it (| less)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_goes_to_no_terminal_and_not_beside_json() {
        assert!(check_output(false, false).is_ok());
        for (json, terminal) in [(true, false), (false, true), (true, true)] {
            assert_eq!(check_output(json, terminal).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}

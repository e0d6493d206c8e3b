//! Your own source: the output of any command, here as a backup of `/etc/hostname`.
//!
//! ```text
//! cargo run --example custom_source -- file:///tmp/backups
//! ```

#![allow(clippy::print_stdout)] // A program for a terminal.

use lifeboat::proof::WholeStream;
use lifeboat::{Backup, Context, Description, Error, ErrorKind, Reading, Result, Source, async_trait, sinks, stream};
use tokio::process::Command;

/// The standard output of a command.
struct Output {
    program: &'static str,
    arguments: Vec<&'static str>,
}

#[async_trait]
impl Source for Output {
    async fn describe(&self) -> Result<Description> {
        Ok(Description::new("command", "txt").dataset("output").tool(self.program.to_owned()))
    }

    async fn open(&self, _: &Context) -> Result<Reading> {
        let output = Command::new(self.program).args(&self.arguments).kill_on_drop(true).output().await;
        let output = output.map_err(|e| Error::io("run", self.program, e))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::new(ErrorKind::Tool, "run", self.program, said));
        }
        Ok(Reading::new(stream::once(output.stdout), Box::new(WholeStream::new(self.program))))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "file:///tmp/lifeboat-example".to_owned());
    let source = Output { program: "cat", arguments: vec!["/etc/hostname"] };
    let receipt = Backup::new(source).unencrypted().to(sinks::open(&place)?).run().await?;
    println!("{} ({} bytes) is in {place}", receipt.key, receipt.stored_bytes);
    Ok(())
}

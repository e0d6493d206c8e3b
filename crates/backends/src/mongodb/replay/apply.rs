//! `applyOps`: operations of the oplog, in batches, in their order.
//!
//! The server applies the operations of one command one after the other, or all at once when all of them are inserts, updates
//! and deletes; on an error it may have applied some (`repl/apply_ops.cpp`). Operations of the oplog can be applied twice without
//! harm, so a batch that failed is sent again one by one: that names the one, and does what all at once cannot do.

use bson::{Bson, RawDocumentBuf};
use lifeboat_core::{Error, ErrorKind, Result};

use crate::mongodb::command::{document, ended, flag, name, text};
use crate::mongodb::failure::{self, code};
use crate::mongodb::listing::{Look, Topology};

/// Operations of one command.
const OPERATIONS: usize = 500;
/// Bytes of one command, unless it has one operation: all of it becomes one entry of the server's own oplog, which can have 16 MiB.
const BYTES: usize = 1 << 20;

/// What `--no-oplog-replay` is recommended with.
pub(crate) const WITHOUT: &str = "--no-oplog-replay restores the collections as they were read, each at its own time";

/// Operations that wait to be sent, and how.
pub(crate) struct Applier {
    look: Look,
    waiting: Vec<(RawDocumentBuf, String)>,
    bytes: usize,
    bypass_validation: bool,
    /// Operations that the server has applied.
    pub(crate) applied: u64,
}

impl Applier {
    pub(crate) fn new(look: &Look) -> Self {
        Self { look: look.clone(), waiting: Vec::new(), bytes: 0, bypass_validation: true, applied: 0 }
    }

    /// Whether the server has the command and lets the user run it: asked before hours are spent on everything else.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] or [`ErrorKind::Permission`] when it has not, or does not.
    pub(crate) async fn try_out(look: &Look) -> Result<()> {
        let Err(error) = run(look, &[], false).await else { return Ok(()) };
        let subject = look.connection.redacted();
        match failure::code_of(&error) {
            Some(code::COMMAND_NOT_FOUND) => {
                let why = "the archive holds an oplog, but this server cannot replay it: it has no applyOps";
                Err(Error::new(ErrorKind::Unsupported, "restore into", subject, why)
                    .hint(format!("restore into a mongod (a mongos has none either); or {WITHOUT}")))
            }
            Some(code::UNAUTHORIZED) => {
                let why =
                    format!("the user is not allowed to replay the archive's oplog: {}", failure::message(&error));
                Err(Error::new(ErrorKind::Permission, "restore into", subject, why)
                    .hint(format!("give the user a role with anyAction on anyResource, as for mongorestore --oplogReplay; or {WITHOUT}")))
            }
            // What it has against none at all, it need not have against some.
            Some(_) => Ok(()),
            None => Err(failure::of_driver("restore into", &subject, &error)),
        }
    }

    /// Takes an operation. `shown` is what it is called when it fails.
    ///
    /// # Errors
    /// That of [`flush`](Self::flush).
    pub(crate) async fn push(&mut self, operation: RawDocumentBuf, shown: String) -> Result<()> {
        let length = operation.as_bytes().len();
        if !self.waiting.is_empty() && (self.waiting.len() == OPERATIONS || self.bytes + length > BYTES) {
            self.flush().await?;
        }
        self.bytes += length;
        self.waiting.push((operation, shown));
        Ok(())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// What the server says, with the operation that it says it of.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if waiting.is_empty() {
            return Ok(());
        }
        let operations: Vec<&RawDocumentBuf> = waiting.iter().map(|(operation, _)| operation).collect();
        match self.send(&operations).await {
            Ok(()) => {}
            Err(error) if waiting.len() > 1 && failure::code_of(&error).is_some() => {
                for (operation, shown) in &waiting {
                    self.send(&[operation]).await.map_err(|e| refused(shown, &e))?;
                }
            }
            Err(error) => return Err(refused(&waiting[0].1, &error)),
        }
        self.applied += waiting.len() as u64;
        Ok(())
    }

    async fn send(&mut self, operations: &[&RawDocumentBuf]) -> mongodb::error::Result<()> {
        let sent = run(&self.look, operations, self.bypass_validation).await;
        match sent {
            Err(error)
                if self.bypass_validation
                    && (failure::message(&error).contains("bypassDocumentValidation")
                        || failure::code_of(&error) == Some(code::UNAUTHORIZED)) =>
            {
                self.bypass_validation = false;
                run(&self.look, operations, false).await
            }
            sent => sent,
        }
    }
}

fn refused(shown: &str, error: &mongodb::error::Error) -> Error {
    let refusal = failure::of_driver("replay", shown, error);
    match refusal.advice() {
        Some(_) => refusal,
        None => refusal.hint(format!("what was there before is untouched; {WITHOUT}")),
    }
}

async fn run(look: &Look, operations: &[&RawDocumentBuf], bypass_validation: bool) -> mongodb::error::Result<()> {
    let command = command(look, operations, bypass_validation).map_err(mongodb::error::Error::custom)?;
    let reply = look.client.database("admin").run_raw_command(command).await?;
    // A server that has refused one says so with `ok: 0`. Should it not, it is not taken for applied.
    let all = reply.get_array("results").is_ok_and(|results| results.iter().all(|done| *done == Bson::Boolean(true)));
    match operations.is_empty() || all || !reply.contains_key("results") {
        true => Ok(()),
        false => Err(mongodb::error::Error::custom("the server says that it has not applied all of the operations")),
    }
}

fn command(look: &Look, operations: &[&RawDocumentBuf], bypass_validation: bool) -> Result<RawDocumentBuf> {
    let mut whole = vec![0; 4];
    name(&mut whole, 0x04, "applyOps");
    let array = whole.len();
    whole.extend_from_slice(&[0; 4]);
    for (number, operation) in operations.iter().enumerate() {
        name(&mut whole, 0x03, &number.to_string());
        whole.extend_from_slice(operation.as_bytes());
    }
    whole.push(0);
    let length = i32::try_from(whole.len() - array).unwrap_or(i32::MAX);
    whole[array..array + 4].copy_from_slice(&length.to_le_bytes());
    if bypass_validation {
        flag(&mut whole, "bypassDocumentValidation", true);
    }
    if look.topology != Topology::Standalone && look.client.write_concern().is_none() {
        let mut inner = Vec::new();
        text(&mut inner, "w", "majority");
        document(&mut whole, 0x03, "writeConcern", &inner);
    }
    ended(whole)
}

//! Receiving the files of a cluster.
//!
//! | | 13 and 14 | from 15 |
//! |---|---|---|
//! | grammar | words | a list in parentheses |
//! | copies | one for each tablespace, the main one last, then one for the manifest | one, whose messages say what they are: `n` archive, `m` manifest, `d` data, `p` progress |
//! | end of an archive | without the two blocks of zeros: they are added here | as tar has it |
//!
//! Source: `repl_gram.y`; `basebackup.c`, `parse_basebackup_options`; `basebackup_copy.c`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes};
use lifeboat_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::super::wal::{Lsn, Timeline};
use super::answer::{Notice, ServerError, row, text};
use super::client::{ANSWER, ReplicationClient};
use super::refusal::Command;
use super::wire::Message;

/// How long the server may send nothing of a backup: it reads each file while it sends it.
const SILENCE: Duration = Duration::from_secs(300);
/// The end of an archive (POSIX, `pax`, "ustar Interchange Format").
const END_OF_TAR: &[u8] = &[0; 1024];

/// What is asked for. The log is not part of the archives, and the server does not wait until its own archive has it.
#[derive(Clone, Debug)]
pub struct BaseBackupOptions {
    /// What the server calls the backup in `backup_label` and in its log.
    pub label: String,
    /// Whether the checkpoint that it begins with is done at once. Spread out, it may take as long as the server's settings allow
    /// before the first byte comes.
    pub fast: bool,
    /// At most so many KiB a second: 32 to 1,048,576.
    pub max_rate: Option<u32>,
    /// Whether the server checks the checksums of pages, if the cluster has them.
    pub verify_checksums: bool,
    /// Whether a manifest comes, with the CRC-32C of each file.
    pub manifest: bool,
    /// How long the checkpoint may take.
    pub start_within: Duration,
}

impl Default for BaseBackupOptions {
    fn default() -> Self {
        Self {
            label: "lifeboat".to_owned(),
            fast: true,
            max_rate: None,
            verify_checksums: true,
            manifest: true,
            start_within: Duration::from_secs(3600),
        }
    }
}

impl BaseBackupOptions {
    /// The command for a version.
    fn command(&self, major: u32) -> Result<String> {
        let wrong = |why: String| Error::new(ErrorKind::Config, "ask for", "a base backup", why);
        if self.label.chars().any(char::is_control) {
            return Err(wrong("its label has control characters".to_owned()));
        }
        if let Some(rate) = self.max_rate.filter(|rate| !(32..=1_048_576).contains(rate)) {
            return Err(wrong(format!("a rate of {rate} KiB a second is not between 32 and 1048576")));
        }
        let label = self.label.replace('\'', "''");
        let (is_list, mut words) = (major >= 15, Vec::new());
        let mut add = |word: &str, listed: &str| {
            let chosen = if is_list { listed } else { word };
            if !chosen.is_empty() {
                words.push(chosen.to_owned());
            }
        };
        add(&format!("LABEL '{label}'"), &format!("LABEL '{label}'"));
        // Without a target the server copies as before 15.
        add("", "TARGET 'client'");
        add("PROGRESS", "PROGRESS true");
        match self.fast {
            true => add("FAST", "CHECKPOINT 'fast'"),
            false => add("", "CHECKPOINT 'spread'"),
        }
        add("NOWAIT", "WAIT false");
        add("", "WAL false");
        if let Some(rate) = self.max_rate {
            add(&format!("MAX_RATE {rate}"), &format!("MAX_RATE {rate}"));
        }
        add("TABLESPACE_MAP", "TABLESPACE_MAP true");
        if !self.verify_checksums {
            add("NOVERIFY_CHECKSUMS", "VERIFY_CHECKSUMS false");
        }
        if self.manifest {
            add("MANIFEST 'yes'", "MANIFEST 'yes'");
            add("MANIFEST_CHECKSUMS 'CRC32C'", "MANIFEST_CHECKSUMS 'CRC32C'");
        }
        Ok(match is_list {
            true => format!("BASE_BACKUP ({})", words.join(", ")),
            false => format!("BASE_BACKUP {}", words.join(" ")),
        })
    }
}

/// A tablespace of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Its number; `None` for the main one, the data directory itself.
    pub oid: Option<u32>,
    /// Where it is on the server.
    pub location: Option<String>,
    /// How large it is about, in KiB.
    pub size: Option<u64>,
}

/// What comes, in this order: for each archive its start and its data, then the manifest and its data, then the end. Progress and
/// warnings may come anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupItem {
    /// An archive begins: the tar file of a tablespace.
    Archive {
        /// Its name, such as `base.tar` or `16931.tar`.
        name: String,
        /// The tablespace; `None` for the main one.
        tablespace: Option<u32>,
    },
    /// The manifest begins.
    Manifest,
    /// Bytes of what has begun last.
    Data(Bytes),
    /// So many bytes were read by the server.
    Progress(u64),
    /// A warning: with SQLSTATE `01000` most likely of a page whose checksum is wrong.
    Warning(Notice),
    /// All was sent.
    End {
        /// Up to where the log is needed for what was sent to be consistent.
        position: Lsn,
        /// On which timeline that is.
        timeline: Timeline,
    },
}

/// A base backup as it comes. While it is there, the connection can do nothing else.
#[derive(Debug)]
pub struct BaseBackup<'a> {
    client: &'a mut ReplicationClient,
    start: Lsn,
    timeline: Timeline,
    tablespaces: Vec<Tablespace>,
    wants_manifest: bool,
    /// Archives that have begun.
    archives: usize,
    has_manifest: bool,
    is_copying: bool,
    is_ended: bool,
    is_done: bool,
    heard: Instant,
    error: Option<Error>,
    items: VecDeque<BackupItem>,
}

impl ReplicationClient {
    /// Begins a base backup, and waits for the server's checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that no server takes; what the server refuses.
    pub async fn base_backup(&mut self, options: &BaseBackupOptions) -> Result<BaseBackup<'_>> {
        let command = options.command(self.major)?;
        self.ask(&command)?;
        let (mut sets, mut start, mut tablespaces) = (0, None, Vec::new());
        loop {
            let limit = if sets == 0 { options.start_within } else { ANSWER };
            let message = self.wire.message(limit).await?;
            match message.tag {
                b'T' => sets += 1,
                b'D' if sets == 1 => start = position(&message.body),
                b'D' if sets == 2 => {
                    let tablespace = tablespace(message.body);
                    tablespaces.push(tablespace.ok_or_else(|| self.wire.broken("a tablespace that cannot be read"))?);
                }
                b'C' => {}
                b'H' => break,
                b'E' => return Err(self.refused(&message.body, Command::BaseBackup).await),
                _ => return Err(self.wire.unexpected(&message)),
            }
        }
        let (start, timeline) = start.ok_or_else(|| self.wire.broken("a backup without its start"))?;
        let mut backup = BaseBackup {
            client: self,
            start,
            timeline,
            tablespaces,
            wants_manifest: options.manifest,
            archives: 0,
            has_manifest: false,
            is_copying: false,
            is_ended: false,
            is_done: false,
            heard: Instant::now(),
            error: None,
            items: VecDeque::new(),
        };
        backup.copy_begins()?;
        Ok(backup)
    }
}

impl BaseBackup<'_> {
    /// From where on the log is needed.
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// On which timeline that is.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// The tablespaces, in the order of their archives: the main one last.
    pub fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    /// What comes next. `None` only when the server has said that the backup is complete, and all of it has come.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] with [`Refusal::DamagedPages`](super::Refusal::DamagedPages) after [`BackupItem::End`]: all has come,
    /// but the server has found pages whose checksum is wrong. The data can be kept, and must never look whole.
    /// [`ErrorKind::Unavailable`] when the connection breaks or the server sends nothing for five minutes.
    ///
    /// # Cancel safety
    /// It can be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<BackupItem>> {
        loop {
            if let Some(notice) = self.client.wire.first_notice() {
                return Ok(Some(BackupItem::Warning(notice)));
            }
            if let Some(item) = self.items.pop_front() {
                return Ok(Some(item));
            }
            if self.is_done {
                return Ok(None);
            }
            match self.client.wire.message_since(&mut self.heard, SILENCE).await {
                Ok(message) => self.take(message)?,
                // What the server said before it closed the connection says more.
                Err(error) => return Err(self.error.take().unwrap_or(error)),
            }
        }
    }

    fn is_old(&self) -> bool {
        self.client.major < 15
    }

    /// A copy begins: of everything, or before 15 of one archive or the manifest.
    fn copy_begins(&mut self) -> Result<()> {
        if self.is_copying || (!self.is_old() && self.archives > 0) {
            return Err(self.client.wire.broken("another copy"));
        }
        self.is_copying = true;
        if !self.is_old() {
            return Ok(());
        }
        let Some(tablespace) = self.tablespaces.get(self.archives) else { return self.manifest_begins() };
        let name = tablespace.oid.map_or("base.tar".to_owned(), |oid| format!("{oid}.tar"));
        let item = BackupItem::Archive { name, tablespace: tablespace.oid };
        self.archives += 1;
        self.items.push_back(item);
        Ok(())
    }

    fn manifest_begins(&mut self) -> Result<()> {
        if self.has_manifest || self.archives < self.tablespaces.len() {
            return Err(self.client.wire.broken("a manifest before the archives are complete"));
        }
        self.has_manifest = true;
        self.items.push_back(BackupItem::Manifest);
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<()> {
        match message.tag {
            b'd' if self.is_copying && self.is_old() => self.items.push_back(BackupItem::Data(message.body)),
            b'd' if self.is_copying => self.copied(message.body)?,
            b'c' if self.is_copying => {
                self.is_copying = false;
                if self.is_old() && !self.has_manifest {
                    self.items.push_back(BackupItem::Data(Bytes::from_static(END_OF_TAR)));
                }
            }
            b'H' => self.copy_begins()?,
            b'T' | b'C' if !self.is_copying => {}
            b'D' if !self.is_copying && !self.is_ended => self.ends(&message.body)?,
            b'E' => {
                let error = ServerError::read(&message.body).error(Command::BaseBackup, &self.client.wire.subject);
                self.error = Some(error);
            }
            b'Z' => {
                self.client.is_amid = false;
                if let Some(error) = self.error.take() {
                    return Err(error);
                }
                if !self.is_ended {
                    return Err(self.client.wire.broken("a backup that is complete before its end"));
                }
                self.is_done = true;
            }
            _ => return Err(self.client.wire.unexpected(&message)),
        }
        Ok(())
    }

    fn copied(&mut self, mut body: Bytes) -> Result<()> {
        let broken = |what: &str| self.client.wire.broken(what);
        let item = match body.try_get_u8() {
            Ok(b'd') if self.archives > 0 => BackupItem::Data(body),
            Ok(b'p') if body.len() == 8 => BackupItem::Progress(body.get_u64()),
            Ok(b'm') => return self.manifest_begins(),
            Ok(b'n') => {
                let name = body.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
                let name = name.filter(|name| !name.is_empty()).ok_or_else(|| broken("an archive without a name"))?;
                let expected = self.tablespaces.get(self.archives).ok_or_else(|| broken("one archive too many"))?;
                let number = name.split('.').next().and_then(|number| number.parse::<u32>().ok());
                if number != expected.oid || self.has_manifest {
                    return Err(broken(&format!("the archive {name}")));
                }
                self.archives += 1;
                BackupItem::Archive { name: name.to_owned(), tablespace: number }
            }
            _ => return Err(broken("a part of a backup that is not known")),
        };
        self.items.push_back(item);
        Ok(())
    }

    /// The end: only when all has come.
    fn ends(&mut self, body: &Bytes) -> Result<()> {
        let (position, timeline) =
            position(body).ok_or_else(|| self.client.wire.broken("an end of the backup that cannot be read"))?;
        if self.archives < self.tablespaces.len() || self.has_manifest != self.wants_manifest {
            return Err(self.client.wire.broken("an end of the backup before all archives and the manifest"));
        }
        self.is_ended = true;
        self.items.push_back(BackupItem::End { position, timeline });
        Ok(())
    }
}

fn position(body: &Bytes) -> Option<(Lsn, Timeline)> {
    let row = row(body.clone())?;
    Some((text(&row, 0)?.parse().ok()?, text(&row, 1)?.parse().ok()?))
}

fn tablespace(body: Bytes) -> Option<Tablespace> {
    let row = row(body)?;
    let number = |at| text(&row, at).map(str::parse::<u64>).transpose().ok();
    let oid = number(0)?.map(u32::try_from).transpose().ok()?;
    Some(Tablespace { oid, location: text(&row, 1).map(str::to_owned), size: number(2)? })
}

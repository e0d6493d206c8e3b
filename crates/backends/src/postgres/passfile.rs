//! The password file, as libpq reads it (`fe-connect.c`, `passwordFromFile`): `host:port:database:user:password`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::connection::Host;

/// The content of a password file. It has a line for each database, so it is consulted for each session.
#[derive(Clone)]
pub(crate) struct Passfile(Arc<SecretSlice<u8>>);

impl Passfile {
    /// Reads a file, if it exists.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if others can read it; errors of reading it.
    pub(super) fn open(path: Option<PathBuf>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        if !metadata.is_file() {
            return Ok(None);
        }
        // libpq ignores such a file with a warning that nobody reads, and the login fails for no visible reason.
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(Error::new(ErrorKind::Config, "use", path.display().to_string(), "others can read it")
                .hint(format!("chmod 600 {}", path.display())));
        }
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", path.display().to_string(), e))?;
        Ok(Some(Self::of(bytes)))
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(SecretSlice::from(bytes)))
    }

    /// The password of the first matching line.
    pub(super) fn password(&self, host: &Host, database: &str, user: &str) -> Option<SecretString> {
        // libpq writes the default socket folder as localhost.
        let name = if host.is_socket() { "localhost" } else { &host.name };
        let port = host.port.to_string();
        let wanted = [name, &port, database, user];
        let lines = self.0.expose_secret().split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        lines.filter(|line| !line.starts_with(b"#")).find_map(|line| {
            let fields = split(line)?;
            let fits = |want: &str, have: &[u8]| have == b"*" || have == want.as_bytes();
            let rest = wanted[1..].iter().zip(&fields[1..]).all(|(want, have)| fits(want, have));
            (rest && (fits(name, &fields[0]) || fields[0] == host.name.as_bytes())).then_some(())?;
            let [.., password] = fields;
            String::from_utf8(password).ok().map(SecretString::from)
        })
    }
}

/// Splits a line into five fields at unescaped colons; colons in the password must be escaped.
fn split(line: &[u8]) -> Option<[Vec<u8>; 5]> {
    let mut fields: [Vec<u8>; 5] = Default::default();
    let mut at = 0;
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => fields[at].push(*bytes.next()?),
            b':' if at < 4 => at += 1,
            b':' => break,
            byte => fields[at].push(*byte),
        }
    }
    (at == 4).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let host = Host { name: "h".to_owned(), address: None, port: 5432 };
        let find = |text: &[u8]| {
            let password = Passfile::of(text.to_vec()).password(&host, "d", "u")?;
            Some(password.expose_secret().to_owned())
        };
        // A line that is not UTF-8 is for another program.
        let text = b"# comment\nother:*:*:u:no\n\xff:*:*:u:no\nh:5432:d:u:a\\:b\\\\c\n*:*:*:*:late\n";
        assert_eq!(find(text).unwrap(), "a:b\\c");
        assert!(find(b"h:5433:d:u:x\nshort:line\n").is_none());
    }
}

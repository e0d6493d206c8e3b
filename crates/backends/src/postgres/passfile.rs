//! The password file, as libpq reads it (`fe-connect.c`, `passwordFromFile`): `host:port:database:user:password`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::SecretString;

use super::connection::Connection;

/// The password for a connection from `PGPASSFILE` or `~/.pgpass`.
pub(crate) fn lookup(connection: &Connection) -> Result<Option<SecretString>> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let Some(path) = named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"))) else {
        return Ok(None);
    };
    let Ok(metadata) = path.metadata() else { return Ok(None) };
    if !metadata.is_file() {
        return Ok(None);
    }
    // libpq ignores such a file with a warning that nobody reads, and the login fails for no visible reason.
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::Config, "use", path.display().to_string(), "others can read it")
            .hint(format!("chmod 600 {}", path.display())));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", path.display().to_string(), e))?;
    Ok(find(&text, connection))
}

fn find(text: &str, connection: &Connection) -> Option<SecretString> {
    // libpq writes the default socket folder as localhost.
    let host = if connection.is_socket() { "localhost" } else { &connection.host };
    let port = connection.port.to_string();
    let wanted = [host, &port, &connection.database, &connection.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line)?;
        let fits = wanted.iter().zip(&fields).all(|(want, have)| have == "*" || have == want);
        (fits
            || (fields[0] == connection.host && wanted[1..].iter().zip(&fields[1..]).all(|(w, h)| h == "*" || h == w)))
        .then(|| SecretString::from(fields[4].clone()))
    })
}

/// Five fields at unescaped colons; the password may hold further ones only when they are escaped.
fn split(line: &str) -> Option<[String; 5]> {
    let mut fields: [String; 5] = Default::default();
    let mut at = 0;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => fields[at].push(chars.next()?),
            ':' if at < 4 => at += 1,
            ':' => break,
            c => fields[at].push(c),
        }
    }
    (at == 4).then_some(fields)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let c = Connection::parse(&SecretString::from("postgres://u:x@h:5432/d".to_owned())).unwrap();
        let text = "# comment\nother:*:*:u:no\nh:5432:d:u:a\\:b\\\\c\n*:*:*:*:late\n";
        assert_eq!(find(text, &c).unwrap().expose_secret(), "a:b\\c");
        assert!(find("h:5433:d:u:x\nshort:line\n", &c).is_none());
    }
}

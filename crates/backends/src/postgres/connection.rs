//! How to connect to a server, for Lifeboat's own sessions and for the client programs.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_core::Result;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::ChannelBinding;

use super::parameters::{self, Surroundings};
use super::passfile::Passfile;

/// How a connection is protected. Whenever TLS is used, the server's certificate is checked, for our own sessions and for
/// pg_dump and pg_restore alike, and with it the server's name unless the URL says `verify-ca`: stricter than libpq's
/// `require`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it.
    Prefer,
    /// Always, except for a socket, which never leaves the machine.
    Require,
}

/// The required kind of server (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// One of the possible addresses of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// A host's name, which its certificate must have, or the folder of a socket.
    pub(crate) name: String,
    /// Its address, if that need not be looked up.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Host {
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// Nobody can eavesdrop on the machine itself, and Debian's self-signed certificate would only be an obstacle.
    pub(super) fn is_local(&self) -> bool {
        self.is_socket() || matches!(&*self.name, "localhost" | "127.0.0.1" | "::1")
    }
}

/// A server, a database on it, and the credentials.
///
/// Parsed from a URL: `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`. What the URL omits comes
/// from a service file, from the environment (`PGHOST`, `PGSSLMODE` …) and from libpq's own defaults, in this order. A
/// host that starts with `/` (`%2Fvar%2Frun%2Fpostgresql`) is the folder of a Unix socket. Of several hosts
/// (`postgres://a,b/database`), the first that responds and satisfies `target_session_attrs` is used.
#[derive(Clone)]
pub struct Connection {
    /// At least one.
    pub(crate) hosts: Vec<Host>,
    pub(crate) wanted: Wanted,
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
    pub(crate) passfile: Option<Passfile>,
    pub(crate) database: String,
    /// Determined by the host unless set.
    pub(crate) ssl_mode: Option<SslMode>,
    /// Whether a certificate of the named authority will do under any name (`verify-ca`).
    pub(crate) any_name: bool,
    pub(crate) ssl_root: Option<PathBuf>,
    pub(crate) ssl_cert: Option<PathBuf>,
    pub(crate) ssl_key: Option<PathBuf>,
    pub(crate) options: Option<String>,
    /// For each host; zero is none.
    pub(crate) connect_timeout: Duration,
    pub(crate) channel_binding: ChannelBinding,
}

impl Connection {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](lifeboat_core::ErrorKind::Config), naming the invalid part. It never contains the
    /// password.
    pub fn parse(url: &SecretString) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let user = || whoami::username().ok().filter(|user| !user.is_empty());
        parameters::read(url, &Surroundings { variable: &variable, home, user: &user })
    }

    /// The first host, or the only one.
    pub(crate) fn host(&self) -> &Host {
        &self.hosts[0]
    }

    /// How the connection to the first host is protected.
    pub(crate) fn ssl_mode(&self) -> SslMode {
        let host = self.host();
        match self.ssl_mode {
            _ if host.is_socket() => SslMode::Disable,
            Some(mode) => mode,
            None if host.is_local() => SslMode::Disable,
            None => SslMode::Prefer,
        }
    }

    /// The same, to this host alone.
    pub(crate) fn at(&self, host: Host) -> Self {
        Self { hosts: vec![host], wanted: Wanted::Any, ..self.clone() }
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The password for the first host.
    pub(crate) fn password(&self) -> Option<SecretString> {
        let from_file = || self.passfile.as_ref()?.password(self.host(), &self.database, &self.user);
        self.password.clone().or_else(from_file)
    }

    /// The server and database without password, for messages: `postgres://user@host:5432/database`.
    pub fn redacted(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|Host { name, port, .. }| match name.contains(':') {
                true => format!("[{name}]:{port}"),
                false => format!("{name}:{port}"),
            })
            .collect();
        format!("postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }

    /// The variables by which libpq's programs get all of this, so that nothing of it is in their arguments: for the first
    /// host, protected as our own session there is.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let host = self.host();
        let mut vars = vec![
            ("PGHOST", host.name.clone()),
            ("PGPORT", host.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", "lifeboat".to_owned()),
            (
                "PGCONNECT_TIMEOUT",
                match self.connect_timeout.as_secs() {
                    0 => "0".to_owned(),
                    seconds => seconds.max(2).to_string(),
                },
            ),
            // Times with a zone are written in the session's zone: the proof holds only if that is always the same.
            ("PGTZ", "UTC".to_owned()),
            // Our own sessions cannot have it either.
            ("PGGSSENCMODE", "disable".to_owned()),
        ];
        vars.extend(host.address.map(|address| ("PGHOSTADDR", address.to_string())));
        if let Some(password) = self.password() {
            vars.push(("PGPASSWORD", password.expose_secret().to_owned()));
        }
        if let Some(options) = &self.options {
            vars.push(("PGOPTIONS", options.clone()));
        }
        match self.ssl_mode() {
            SslMode::Disable => vars.push(("PGSSLMODE", "disable".to_owned())),
            // A session says which of both it is; before there was one, nothing weaker is given away.
            SslMode::Prefer | SslMode::Require => vars.extend(self.tls_variables()),
        }
        vars
    }

    fn tls_variables(&self) -> Vec<(&'static str, String)> {
        let binding = match self.channel_binding {
            ChannelBinding::Disable => "disable",
            ChannelBinding::Require => "require",
            _ => "prefer",
        };
        let root = self.ssl_root.clone().or_else(system_roots).unwrap_or_else(|| PathBuf::from("system"));
        let show = |path: &Path| path.to_string_lossy().into_owned();
        let mut vars = vec![
            ("PGSSLMODE", if self.any_name { "verify-ca" } else { "verify-full" }.to_owned()),
            ("PGCHANNELBINDING", binding.to_owned()),
            ("PGSSLROOTCERT", show(&root)),
        ];
        if let Some(cert) = &self.ssl_cert {
            vars.push(("PGSSLCERT", show(cert)));
        }
        if let Some(key) = &self.ssl_key {
            vars.push(("PGSSLKEY", show(key)));
        }
        vars
    }
}

/// The locations of the distributions' bundles of trusted roots. libpq before 16 does not support "the system's".
fn system_roots() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    named.into_iter().chain(known.into_iter().map(PathBuf::from)).find(|path| path.is_file())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.redacted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_core::ErrorKind;

    use super::*;

    /// With nothing around it but these variables.
    fn parse_with(url: &str, variables: &[(&str, &str)]) -> Result<Connection> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let home = variable("HOME").map(PathBuf::from);
        let user = || Some("me".to_owned());
        parameters::read(&SecretString::from(url.to_owned()), &Surroundings { variable: &variable, home, user: &user })
    }

    fn parse(url: &str) -> Result<Connection> {
        parse_with(url, &[])
    }

    #[test]
    fn a_url_is_read_with_its_escapes() {
        let c = parse("postgres://b%40ck:p%2Fw@db.example:6543/my%20db?sslmode=require&sslrootcert=/ca.pem").unwrap();
        assert_eq!((&*c.user, &*c.host().name, c.host().port, &*c.database), ("b@ck", "db.example", 6543, "my db"));
        assert_eq!(c.password().unwrap().expose_secret(), "p/w");
        assert_eq!(c.ssl_mode(), SslMode::Require);
        assert_eq!(c.redacted(), "postgres://b@ck@db.example:6543/my db");
        let c = parse("postgresql://u@%2Frun%2Fpg:5433/d").unwrap();
        assert!(c.host().is_socket());
        assert_eq!(c.host().name, "/run/pg");
        // libpq takes a plus sign for what it is.
        assert_eq!(parse("postgres://u@h/d?password=a+b%2B").unwrap().password().unwrap().expose_secret(), "a+b+");
    }

    #[test]
    fn tls_is_preferred_over_a_network_and_off_on_the_machine_itself() {
        assert_eq!(parse("postgres://u@db/d").unwrap().ssl_mode(), SslMode::Prefer);
        for local in ["localhost", "127.0.0.1", "[::1]", "%2Ftmp"] {
            assert_eq!(parse(&format!("postgres://u@{local}/d")).unwrap().ssl_mode(), SslMode::Disable, "{local}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "mysql://u:s3cret@h/d",
            "postgres://u:s3cret@h:port/d",
            "postgres://u:s3cret@h/d?sslmode=strong",
            "postgres://u:s3cret@h/d?nonsense=1",
            "postgres://u:s3cret@a,b:1,c:2/d?port=1,2",
            "postgres://u:s3cret@h/d?hostaddr=h",
            "postgres://u:s3cret@h/d?target_session_attrs=best",
            "postgres://u:s3cret@[::1/d",
            "s3cret",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn neither_debug_nor_the_redacted_form_holds_the_password() {
        let c = parse("postgres://u:s3cret@h/d").unwrap();
        assert!(!format!("{c:?} {}", c.redacted()).contains("s3cret"));
    }

    #[test]
    fn programs_get_the_same_checks_as_our_own_sessions() {
        let has = |c: &Connection, name: &'static str, value: &str| c.environment().contains(&(name, value.to_owned()));
        let c = parse("postgres://u:s3cret@h/d?sslmode=require&sslrootcert=/ca.pem").unwrap();
        assert!(has(&c, "PGSSLMODE", "verify-full") && has(&c, "PGSSLROOTCERT", "/ca.pem"));
        // Whatever a session has found out: to the same host, and no less protected.
        for mode in [SslMode::Require, SslMode::Prefer] {
            let there = Connection { ssl_mode: Some(mode), ..c.clone() };
            assert!(has(&there.at(c.host().clone()), "PGSSLMODE", "verify-full"));
        }
        let c = Connection { ssl_mode: Some(SslMode::Disable), ..parse("postgres://u:s3cret@h/d").unwrap() };
        assert!(has(&c, "PGSSLMODE", "disable"));
    }

    #[test]
    fn verify_ca_takes_any_name_of_an_authority_that_was_named() {
        let mode = |c: &Connection| c.environment().into_iter().find(|(name, _)| *name == "PGSSLMODE").unwrap().1;
        let url = |rest: &str| format!("postgres://u@h/d?{rest}");
        for (rest, sent) in [
            ("sslmode=verify-ca&sslrootcert=/ca.pem", "verify-ca"),
            ("sslmode=verify-ca&sslrootcert=/ca.pem&channel_binding=require", "verify-ca"),
            ("sslmode=verify-full&sslrootcert=/ca.pem", "verify-full"),
            ("sslmode=require&sslrootcert=/ca.pem", "verify-full"),
            ("sslrootcert=/ca.pem", "verify-full"),
        ] {
            let c = parse(&url(rest)).unwrap();
            assert_eq!(mode(&c), sent, "{rest}");
            assert_eq!(mode(&c.at(c.host().clone()).with_database("other")), sent, "{rest}");
        }
        // Anybody gets a certificate from the system's authorities: without the name it says nothing.
        for rest in ["sslmode=verify-ca", "sslmode=verify-ca&sslrootcert=system"] {
            let error = parse(&url(rest)).unwrap_err();
            assert!(
                error.message().contains("verify-ca") && error.advice().unwrap().contains("verify-full"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_bound_channel_is_one_with_tls() {
        let c = parse("postgres://u@db/d?channel_binding=require").unwrap();
        assert_eq!(c.ssl_mode(), SslMode::Require);
        assert!(c.environment().contains(&("PGCHANNELBINDING", "require".to_owned())));
        parse("postgres://u@localhost/d?channel_binding=require").unwrap_err();
        parse("postgres://u@%2Frun/d?channel_binding=require&sslmode=require").unwrap_err();
        parse("postgres://u@db/d?channel_binding=maybe").unwrap_err();
    }

    #[test]
    fn an_ipv6_address_has_brackets_in_urls_only() {
        let c = parse("postgres://u@[2001:db8::1]:5433/d").unwrap();
        assert_eq!((&*c.host().name, c.host().port), ("2001:db8::1", 5433));
        assert!(c.environment().contains(&("PGHOST", "2001:db8::1".to_owned())));
        assert_eq!(c.redacted(), "postgres://u@[2001:db8::1]:5433/d");
    }

    #[test]
    fn several_hosts_have_their_ports_and_one_is_for_programs() {
        let c = parse("postgres://u@a:1,[::2]:3,c/d?target_session_attrs=read-write").unwrap();
        let places: Vec<(&str, u16)> = c.hosts.iter().map(|host| (&*host.name, host.port)).collect();
        assert_eq!(places, [("a", 1), ("::2", 3), ("c", 5432)]);
        assert_eq!((c.wanted, &*c.redacted()), (Wanted::ReadWrite, "postgres://u@a:1,[::2]:3,c:5432/d"));
        let vars = c.at(c.hosts[1].clone()).environment();
        assert!(vars.contains(&("PGHOST", "::2".to_owned())) && vars.contains(&("PGPORT", "3".to_owned())), "{vars:?}");
        let c = parse("postgres:///d?host=a,b&port=7&hostaddr=10.0.0.1,").unwrap();
        assert_eq!((c.hosts[1].port, c.hosts[0].address), (7, Some([10, 0, 0, 1].into())));
        assert!(c.environment().contains(&("PGHOSTADDR", "10.0.0.1".to_owned())));
    }

    #[test]
    fn what_the_url_leaves_out_comes_from_where_libpq_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(
            folder.path().join(".pg_service.conf"),
            "# ours\n[other]\nhost=wrong\n[shop]\nhost=db.example\nport=6000\nuser=backup\nsslmode=require\n[shop]\nhost=late\n",
        )
        .unwrap();
        let variables =
            [("HOME", home), ("PGSERVICE", "shop"), ("PGPORT", "1"), ("PGSSLMODE", "disable"), ("PGDATABASE", "d")];
        let c = parse_with("postgres://app@/", &variables).unwrap();
        // The URL first, then the service, then the environment.
        assert_eq!((&*c.redacted(), c.ssl_mode()), ("postgres://app@db.example:6000/d", SslMode::Require));
        let c = parse_with("postgres:///x?service=shop", &[("HOME", home)]).unwrap();
        assert_eq!(c.redacted(), "postgres://backup@db.example:6000/x");
        let named = folder.path().join("named");
        std::fs::write(&named, "[n]\nhost=named\npassword=s3cret\n").unwrap();
        let c = parse_with("postgres:///x?service=n", &[("PGSERVICEFILE", named.to_str().unwrap())]).unwrap();
        assert_eq!((&*c.host().name, c.password().unwrap().expose_secret()), ("named", "s3cret"));
        // A service that is not there is not passed over, and neither is what is not known in one.
        let error = parse_with("postgres://h/x?service=none", &[("HOME", home)]).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        std::fs::write(&named, "[n]\nrequire_auth=s3cret\n").unwrap();
        let error = parse_with("postgres:///x?service=n", &[("PGSERVICEFILE", named.to_str().unwrap())]).unwrap_err();
        assert!(error.to_string().contains("require_auth") && !format!("{error:?}").contains("s3cret"), "{error}");
        // The system's user, whatever USER says.
        let c = parse_with("postgres://h", &[("USER", "somebody")]).unwrap();
        assert_eq!((&*c.user, &*c.database), ("me", "me"));
    }

    #[test]
    fn a_password_file_has_a_line_for_each_database() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "h:5432:shop:u:one\n*:*:postgres:u:two\n").unwrap();
        let url = format!("postgres://u@h/shop?passfile={}", file.path().display());
        let c = parse(&url).unwrap();
        assert_eq!(c.password().unwrap().expose_secret(), "one");
        assert_eq!(c.with_database("postgres").password().unwrap().expose_secret(), "two");
        assert!(c.with_database("other").password().is_none());
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(parse(&url).unwrap_err().to_string().contains("others can read it"));
    }
}

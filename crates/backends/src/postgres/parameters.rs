//! Connection parameters, resolved as libpq does: the URL, a service file, the environment, then its own defaults.
//!
//! Formats and order: `fe-connect.c` (`conninfo_uri_parse_options`, `parseServiceInfo`, `conninfo_add_defaults`) and the
//! manual's chapter "libpq, Database Connection Control Functions".

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::ChannelBinding;

use super::connection::{Connection, Host, SslMode, Wanted};
use super::passfile::Passfile;
use super::service;

const HINT: &str =
    "write postgres://user@host:5432/database?sslmode=require, with the password in PGPASSWORD or ~/.pgpass";

/// Supported parameters, with the corresponding variables.
const KNOWN: [(&str, &str); 18] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("options", "PGOPTIONS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("requiressl", ""),
];

/// Parameters that affect neither what is read nor who can see it, or that Lifeboat sets itself.
const WITHOUT_EFFECT: [&str; 9] = [
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
];

/// A value, and where it was found.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) from: Arc<str>,
}

/// Parameters by name. The first place that sets one counts.
#[derive(Default)]
pub(super) struct Parameters(BTreeMap<&'static str, Value>);

fn wrong(from: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "read", from, why).hint(HINT)
}

impl Parameters {
    /// Adds a parameter from this place, unless an earlier place has set it. Within one place, the last one counts.
    pub(super) fn add(&mut self, from: &Arc<str>, name: &str, text: String) -> Result<()> {
        if WITHOUT_EFFECT.contains(&name) {
            return Ok(());
        }
        // JDBC's way to write it.
        let (name, text) = match (name, &*text) {
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            ("requiressl", "1") => ("sslmode", "require".to_owned()),
            ("requiressl", _) => return Ok(()),
            _ => (name, text),
        };
        let Some((name, _)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).filter(|n| *n != "requiressl").collect();
            let why = format!("its parameter {name} is not known; known are {}", known.join(", "));
            return Err(wrong(from, why));
        };
        if text.contains('\0') {
            return Err(wrong(from, format!("it has a NUL byte in {name}")));
        }
        if self.0.get(name).is_none_or(|there| there.from == *from) {
            self.0.insert(name, Value { text, from: from.clone() });
        }
        Ok(())
    }

    /// Reads a URL.
    fn url(&mut self, url: &str) -> Result<()> {
        let from: Arc<str> = "the PostgreSQL URL".into();
        let rest = match url.split_once("://") {
            Some(("postgres" | "postgresql", rest)) => rest,
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                return Err(wrong(&from, format!("its scheme is {scheme}, not postgres")));
            }
            _ => return Err(wrong(&from, "it is not a URL (expected postgres://…)")),
        };
        let decode = |text: &str, part: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(std::borrow::Cow::into_owned).map_err(|_| wrong(&from, format!("its {part} is not UTF-8")))
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        if let Some(login) = login {
            let (user, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
            if !user.is_empty() {
                self.add(&from, "user", decode(user, "user")?)?;
            }
            if let Some(password) = password.filter(|p| !p.is_empty()) {
                self.add(&from, "password", decode(password, "password")?)?;
            }
        }
        if !hosts.is_empty() {
            let (mut names, mut ports) = (Vec::new(), Vec::new());
            for host in hosts.split(',') {
                let (name, port) =
                    split_port(host).ok_or_else(|| wrong(&from, "one of its hosts has no closing bracket"))?;
                if !port.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(wrong(&from, "it is not a URL (invalid port number)"));
                }
                names.push(decode(name, "host")?);
                ports.push(port);
            }
            if names.iter().any(|name| !name.is_empty()) {
                self.add(&from, "host", names.join(","))?;
            }
            if ports.iter().any(|port| !port.is_empty()) {
                self.add(&from, "port", ports.join(","))?;
            }
        }
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            self.add(&from, "dbname", decode(path, "database")?)?;
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.add(&from, &decode(name, "parameter")?, decode(value, "parameter")?)?;
        }
        Ok(())
    }

    fn environment(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        for (name, variable_name) in KNOWN.iter().filter(|(_, variable)| !variable.is_empty()) {
            if let Some(value) = variable(variable_name) {
                self.add(&Arc::from(*variable_name), name, value)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.text.is_empty())
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| value.text)
    }

    /// Parses a parameter with a fixed set of words.
    fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(Value { text, from }) = self.take(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(wrong(&from, format!("{name}={text} is not known; use one of {}", known.join(", "))))
            }
        }
    }

    fn hosts(&mut self) -> Result<Vec<Host>> {
        let (names, addresses) = (self.take("host"), self.take("hostaddr"));
        let ports = self.take("port");
        let list = |value: &Option<Value>| -> Vec<String> {
            value.iter().flat_map(|v| v.text.split(',')).map(|part| part.trim().to_owned()).collect()
        };
        let (name_list, address_list, port_list) = (list(&names), list(&addresses), list(&ports));
        let count = name_list.len().max(address_list.len()).max(1);
        for (what, list, value) in [("hosts", &name_list, &names), ("addresses", &address_list, &addresses)] {
            if let Some(value) = value.as_ref().filter(|_| list.len() != count) {
                return Err(wrong(&value.from, format!("it has {} {what} but {count} others", list.len())));
            }
        }
        if let Some(value) = ports.as_ref().filter(|_| port_list.len() > 1 && port_list.len() != count) {
            return Err(wrong(&value.from, format!("it has {} ports but {count} hosts", port_list.len())));
        }
        let mut hosts = Vec::new();
        for at in 0..count {
            let from = ports.as_ref().map_or("the port", |v| &*v.from);
            let port = match port_list.get(at).or_else(|| port_list.first()).map(String::as_str) {
                None | Some("") => 5432,
                Some(text) => text
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| wrong(from, format!("\"{text}\" is not a port")))?,
            };
            let address = match address_list.get(at).map(String::as_str) {
                None | Some("") => None,
                Some(text) => Some(text.parse::<IpAddr>().map_err(|_| {
                    let from = addresses.as_ref().map_or("hostaddr", |v| &*v.from);
                    wrong(from, format!("hostaddr={text} is not an IP address"))
                })?),
            };
            let name = match (name_list.get(at).map(String::as_str).unwrap_or_default(), address) {
                ("", Some(address)) => address.to_string(),
                ("", None) => socket_folder(port),
                (name, _) => name.to_owned(),
            };
            hosts.push(Host { name, address, port });
        }
        Ok(hosts)
    }

    /// How the connection is protected, and whether the login is bound to it.
    fn protection(&mut self, hosts: &[Host]) -> Result<Protection> {
        let modes = [
            ("disable", (SslMode::Disable, false)),
            ("prefer", (SslMode::Prefer, false)),
            ("require", (SslMode::Require, false)),
            ("allow", (SslMode::Prefer, false)),
            ("verify-ca", (SslMode::Require, true)),
            ("verify-full", (SslMode::Require, false)),
        ];
        let (mut ssl_mode, any_name) = self.word("sslmode", &modes)?.unzip();
        let bindings = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        let channel_binding = self.word("channel_binding", &bindings)?.unwrap_or(ChannelBinding::Prefer);
        if channel_binding == ChannelBinding::Require {
            // There is nothing to bind to without TLS (libpq ends such a connection too).
            let plain = ssl_mode == Some(SslMode::Disable) || (ssl_mode.is_none() && hosts.iter().any(Host::is_local));
            if plain || hosts.iter().any(Host::is_socket) {
                return Err(wrong("the PostgreSQL URL", "channel_binding=require needs TLS: add sslmode=require"));
            }
            ssl_mode = Some(SslMode::Require);
        }
        Ok(Protection { ssl_mode, any_name: any_name.unwrap_or_default(), channel_binding })
    }

    /// The time limit for each address.
    fn limit(&mut self) -> Result<Duration> {
        let Some(Value { text, from }) = self.take("connect_timeout") else { return Ok(Duration::from_secs(15)) };
        let seconds: i64 =
            text.parse().map_err(|_| wrong(&from, format!("connect_timeout={text} is not a number of seconds")))?;
        // Zero or less means no limit, as in libpq.
        Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    }

    /// The certificate files: those that were named, or the user's own.
    fn certificates(&mut self, around: &Surroundings<'_>) -> Certificates {
        let mut file = |name: &str| self.text(name).map(PathBuf::from);
        let root = file("sslrootcert").or_else(|| around.own_file("root.crt"));
        let root = root.filter(|path| path != Path::new("system"));
        match (file("sslcert"), file("sslkey")) {
            (None, None) => match (around.own_file("postgresql.crt"), around.own_file("postgresql.key")) {
                (Some(cert), Some(key)) => Certificates { root, cert: Some(cert), key: Some(key) },
                _ => Certificates { root, cert: None, key: None },
            },
            (cert, key) => Certificates { root, cert, key },
        }
    }
}

/// How the connection to the server is protected.
struct Protection {
    ssl_mode: Option<SslMode>,
    /// Whether the certificate may have another name.
    any_name: bool,
    channel_binding: ChannelBinding,
}

/// Files of certificates.
struct Certificates {
    /// The trusted authorities.
    root: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// `host`, `host:port`, `[address]`, `[address]:port`: the host without brackets, and the port. `None` without the closing
/// bracket.
fn split_port(host: &str) -> Option<(&str, &str)> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        return Some((address, after.strip_prefix(':').unwrap_or(after)));
    }
    Some(host.split_once(':').unwrap_or((host, "")))
}

/// The folder of the server's socket: the default built into libpq, which depends on the distribution.
fn socket_folder(port: u16) -> String {
    let known = ["/var/run/postgresql", "/run/postgresql", "/tmp"];
    let found = known.iter().find(|folder| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists());
    (*found.unwrap_or(&known[0])).to_owned()
}

/// The environment of the program.
pub(super) struct Surroundings<'a> {
    /// Variables that are set and not empty.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The user's home.
    pub(super) home: Option<PathBuf>,
    /// The operating system's name of the user.
    pub(super) user: &'a dyn Fn() -> Option<String>,
}

impl Surroundings<'_> {
    /// A file below `~/.postgresql`, if it exists.
    fn own_file(&self, name: &str) -> Option<PathBuf> {
        let path = self.home.as_ref()?.join(".postgresql").join(name);
        path.is_file().then_some(path)
    }
}

/// Reads a URL, and takes what it omits from where libpq finds it.
pub(super) fn read(url: &SecretString, around: &Surroundings<'_>) -> Result<Connection> {
    let mut found = Parameters::default();
    found.url(url.expose_secret())?;
    let named =
        |found: &mut Parameters, name: &str, variable: &str| found.text(name).or_else(|| (around.variable)(variable));
    let file = named(&mut found, "servicefile", "PGSERVICEFILE");
    if let Some(service) = named(&mut found, "service", "PGSERVICE") {
        let file = file.map(PathBuf::from);
        service::add(&mut found, &service, file, (around.variable)("PGSYSCONFDIR"), around.home.as_deref())?;
    }
    found.environment(around.variable)?;
    let hosts = found.hosts()?;
    let user = match found.text("user").or_else(around.user) {
        Some(user) => user,
        None => return Err(wrong("the PostgreSQL URL", "it names no user, and the system user has no name either")),
    };
    let database = found.text("dbname").unwrap_or_else(|| user.clone());
    let Protection { ssl_mode, any_name, channel_binding } = found.protection(&hosts)?;
    let wanted = [
        ("any", Wanted::Any),
        ("read-write", Wanted::ReadWrite),
        ("read-only", Wanted::ReadOnly),
        ("primary", Wanted::Primary),
        ("standby", Wanted::Standby),
        ("prefer-standby", Wanted::PreferStandby),
    ];
    let wanted = found.word("target_session_attrs", &wanted)?.unwrap_or(Wanted::Any);
    let connect_timeout = found.limit()?;
    let Certificates { root: ssl_root, cert: ssl_cert, key: ssl_key } = found.certificates(around);
    if any_name && ssl_root.is_none() && !hosts.iter().all(Host::is_socket) {
        // libpq refuses it with the system's roots too: anybody gets a certificate from one of them.
        let why = "sslmode=verify-ca takes a certificate for any name, so it needs an authority of your own";
        return Err(Error::new(ErrorKind::Config, "read", "the PostgreSQL URL", why)
            .hint("name it with sslrootcert=/path/ca.pem, or check the name too with sslmode=verify-full"));
    }
    let password = found.text("password").map(SecretString::from);
    let passfile = match password {
        Some(_) => None,
        None => {
            let path = found.text("passfile").map(PathBuf::from);
            Passfile::open(path.or_else(|| around.home.as_ref().map(|home| home.join(".pgpass"))))?
        }
    };
    Ok(Connection {
        hosts,
        wanted,
        user,
        password,
        passfile,
        database,
        ssl_mode,
        any_name,
        ssl_root,
        ssl_cert,
        ssl_key,
        options: found.text("options"),
        connect_timeout,
        channel_binding,
    })
}

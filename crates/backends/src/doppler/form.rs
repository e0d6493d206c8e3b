//! The forms in which secrets are written out: `.env`, JSON, a Kubernetes Secret. And read back, to prove that nothing was lost
//! in quoting.
//!
//! | form | how a value is written | read by |
//! |---|---|---|
//! | `env` | `NAME='value'`; a value with `'` as `"…"` with `\` before `"`, `\`, `$` and `` ` `` | a POSIX shell (`set -a; . ./file`) for every value; dotenv libraries for those without `'` |
//! | `json` | `{"NAME":"value"}` | everything; Doppler's own `download --format json` has this shape |
//! | `kubernetes` | `data:` in base64 of a `v1` Secret | `kubectl apply -f` |

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifeboat_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::secret::{Secret, Text};
use crate::http::Body;

/// Bytes of all values that a Kubernetes Secret may have.
const LARGEST_SECRET: usize = 1 << 20;

/// A form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// Variables for a shell or a dotenv library.
    #[default]
    Env,
    /// One flat object.
    Json,
    /// The manifest of a Secret.
    Kubernetes(KubernetesName),
}

/// What a Kubernetes Secret is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesName {
    name: String,
    namespace: Option<String>,
}

impl Default for KubernetesName {
    fn default() -> Self {
        Self { name: "secrets".to_owned(), namespace: None }
    }
}

impl KubernetesName {
    /// Checks a name (a DNS subdomain, RFC 1123: 253 characters) and a namespace (a DNS label: 63).
    ///
    /// # Errors
    /// [`ErrorKind::Config`], saying which rule it breaks.
    pub fn new(name: &str, namespace: Option<&str>) -> Result<Self> {
        let wrong = |what: &str, text: &str, why: &str| {
            Err(Error::new(ErrorKind::Config, "use", format!("{what} \"{text}\""), why)
                .hint("Kubernetes takes lower-case letters, digits and '-', with a letter or digit at both ends"))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return wrong("the Secret's name", name, "it is not a valid name for a Secret");
        }
        match namespace {
            Some(namespace) if namespace.len() > 63 || !is_label(namespace) => {
                wrong("the namespace", namespace, "it is not a valid name for a namespace")
            }
            _ => Ok(Self { name: name.to_owned(), namespace: namespace.map(str::to_owned) }),
        }
    }

    /// The same name in a namespace.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_namespace(self, namespace: Option<&str>) -> Result<Self> {
        Self::new(&self.name, namespace)
    }

    /// The name that comes nearest to a dataset's.
    pub fn of_dataset(dataset: &str) -> Self {
        let mapped: String =
            dataset.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Self { name: mapped.trim_matches('-').to_owned(), namespace: None }
    }
}

fn is_label(label: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    !bytes.is_empty() && bytes.iter().all(|b| fits(*b) || *b == b'-') && fits(bytes[0]) && fits(bytes[bytes.len() - 1])
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Env => "env",
            Self::Json => "json",
            Self::Kubernetes(_) => "kubernetes",
        })
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "env" => Ok(Self::Env),
            "json" => Ok(Self::Json),
            "kubernetes" => Ok(Self::Kubernetes(KubernetesName::default())),
            _ => Err(Error::new(ErrorKind::Config, "use", format!("form \"{text}\""), "unknown form")
                .hint("the forms are env, json and kubernetes")),
        }
    }
}

/// A secret that a form has no place for, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) name: String,
    pub(super) why: &'static str,
}

impl Form {
    /// Why a secret cannot be written in this form.
    fn refuses(&self, name: &str, value: &str) -> Option<&'static str> {
        match self {
            Self::Json => None,
            Self::Env if !is_variable(name) => Some("its name is not a valid name of a variable"),
            Self::Env if value.contains('\0') => Some("it holds a NUL, which a variable cannot"),
            Self::Kubernetes(_) if !is_key(name) => Some("its name is not a valid key of a Secret"),
            Self::Env | Self::Kubernetes(_) => None,
        }
    }

    /// Looks whether what takes this form takes so much.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for values of more than a MiB together in a Kubernetes Secret, which its API server refuses
    /// (`MaxSecretSize` in Kubernetes' `pkg/apis/core/types.go`). The largest are named.
    pub(super) fn has_room(&self, secrets: &BTreeMap<String, Secret>) -> Result<()> {
        let Self::Kubernetes(name) = self else { return Ok(()) };
        let written = secrets.iter().filter_map(|(key, secret)| Some((key, secret.value()?)));
        let mut sizes: Vec<(usize, &str)> = written
            .filter(|(key, value)| self.refuses(key, value).is_none())
            .map(|(key, value)| (value.len(), key.as_str()))
            .collect();
        let all: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        if all <= LARGEST_SECRET {
            return Ok(());
        }
        sizes.sort_by(|a, b| b.cmp(a));
        let largest: Vec<String> = sizes.iter().take(3).map(|(bytes, key)| format!("{key} ({bytes} bytes)")).collect();
        let why = format!(
            "its values have {all} bytes, but Kubernetes takes {LARGEST_SECRET}; the largest: {}",
            largest.join(", ")
        );
        Err(Error::new(ErrorKind::Unsupported, "write", format!("the Kubernetes Secret {}", name.name), why).hint(
            "write them with --format env or json and split them into several Secrets, or mount the large ones as files",
        ))
    }

    /// Writes the secrets. What has no value, or no place in the form, is left out and named.
    pub(super) fn write(&self, secrets: &BTreeMap<String, Secret>) -> Result<(Body, Vec<LeftOut>)> {
        let mut left_out = Vec::new();
        let mut kept: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, secret) in secrets {
            let refused = match secret.value() {
                None => Some("restricted: the backup has no value of it"),
                Some(value) => self.refuses(name, value),
            };
            match (refused, secret.value()) {
                (None, Some(value)) => drop(kept.insert(name, value)),
                (why, _) => left_out.push(LeftOut { name: name.clone(), why: why.unwrap_or_default() }),
            }
        }
        let mut body = Body::default();
        let written = match self {
            Self::Env => env(&mut body, &kept),
            Self::Json => json(&mut body, &kept),
            Self::Kubernetes(name) => kubernetes(&mut body, name, &kept),
        };
        written.map_err(|e| Error::new(ErrorKind::Internal, "write", "the secrets", e.to_string()))?;
        Ok((body, left_out))
    }

    /// Reads back what [`write`](Self::write) wrote.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<BTreeMap<String, Text>> {
        match self {
            Self::Env => read_env(std::str::from_utf8(bytes).ok()?),
            Self::Json => serde_json::from_slice(bytes).ok(),
            Self::Kubernetes(_) => read_kubernetes(std::str::from_utf8(bytes).ok()?),
        }
    }
}

/// POSIX, section 8.1: letters, digits and `_`, not beginning with a digit.
fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Kubernetes: `[-._a-zA-Z0-9]+`, up to 253 characters, not `.` and nothing that begins with `..`.
fn is_key(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && name != "."
        && !name.starts_with("..")
}

fn env(body: &mut Body, secrets: &BTreeMap<&str, &str>) -> std::io::Result<()> {
    for (name, value) in secrets {
        write!(body, "{name}=")?;
        if value.contains('\'') {
            body.push(b"\"");
            for part in value.split_inclusive(['"', '\\', '$', '`']) {
                match part.as_bytes() {
                    [before @ .., special @ (b'"' | b'\\' | b'$' | b'`')] => {
                        body.push(before);
                        body.push(&[b'\\', *special]);
                    }
                    plain => body.push(plain),
                }
            }
            body.push(b"\"\n");
        } else {
            body.push(b"'");
            body.push(value.as_bytes());
            body.push(b"'\n");
        }
    }
    Ok(())
}

fn read_env(text: &str) -> Option<BTreeMap<String, Text>> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let value = match after.as_bytes().first()? {
            b'\'' => {
                let (value, after) = after[1..].split_once('\'')?;
                rest = after;
                Text::from(value.to_owned())
            }
            b'"' => {
                let mut value = Zeroizing::new(String::with_capacity(after.len()));
                let mut end = None;
                let mut escaped = false;
                for (at, c) in after.char_indices().skip(1) {
                    match c {
                        _ if std::mem::take(&mut escaped) => value.push(c),
                        '\\' => escaped = true,
                        '"' => {
                            end = Some(at + 1);
                            break;
                        }
                        _ => value.push(c),
                    }
                }
                rest = &after[end?..];
                Text::from(std::mem::take(&mut *value))
            }
            _ => return None,
        };
        rest = rest.strip_prefix('\n')?;
        found.insert(name.to_owned(), value);
    }
    Some(found)
}

fn json(body: &mut Body, secrets: &BTreeMap<&str, &str>) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *body, secrets)?;
    body.push(b"\n");
    Ok(())
}

fn kubernetes(body: &mut Body, name: &KubernetesName, secrets: &BTreeMap<&str, &str>) -> std::io::Result<()> {
    write!(body, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"{}\"\n", name.name)?;
    if let Some(namespace) = &name.namespace {
        writeln!(body, "  namespace: \"{namespace}\"")?;
    }
    body.push(if secrets.is_empty() { b"type: Opaque\ndata: {}\n".as_slice() } else { b"type: Opaque\ndata:\n" });
    for (key, value) in secrets {
        // Quoted: YAML would take NO for a boolean and 1E5 for a number.
        write!(body, "  \"{key}\": \"")?;
        let encoded = Zeroizing::new(STANDARD.encode(value));
        body.push(encoded.as_bytes());
        body.push(b"\"\n");
    }
    Ok(())
}

fn read_kubernetes(text: &str) -> Option<BTreeMap<String, Text>> {
    let (_, data) = text.split_once("\ndata:")?;
    if data == " {}\n" {
        return Some(BTreeMap::new());
    }
    data.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (key, value) = line.strip_prefix("  \"")?.strip_suffix('"')?.split_once("\": \"")?;
            Some((key.to_owned(), Text::from(String::from_utf8(STANDARD.decode(value).ok()?).ok()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_kubernetes_secret_has_a_mib_of_values_at_the_most() {
        let of = |sizes: [(&str, usize); 3]| -> BTreeMap<String, Secret> {
            let secret = |size| Secret {
                raw: Some("x".repeat(size).into()),
                computed: Some("x".repeat(size).into()),
                ..Secret::default()
            };
            sizes.into_iter().map(|(name, size)| (name.to_owned(), secret(size))).collect()
        };
        let kubernetes = Form::Kubernetes(KubernetesName::default());
        let full = of([("A", 1), ("B", (1 << 20) - 1), ("no key", 500)]);
        kubernetes.has_room(&full).unwrap();
        let over = of([("A", 1), ("B", (1 << 20) - 1), ("C", 1)]);
        let error = kubernetes.has_room(&over).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let says = "its values have 1048577 bytes, but Kubernetes takes 1048576; the largest: B (1048575 bytes), C (1 bytes), \
                    A (1 bytes)";
        assert_eq!(error.message(), says);
        for form in [Form::Env, Form::Json] {
            form.has_room(&over).unwrap();
        }
    }

    const AWKWARD: [&str; 12] = [
        "",
        "plain",
        "two words",
        "it's",
        "$HOME `id` $(id) ${X}",
        "it's $HOME `id` $(id) \\ \"quoted\"",
        "-----BEGIN KEY-----\nabc\n-----END KEY-----\n",
        "ends in \\",
        "it's\\\\n",
        "#no comment",
        " spaces ",
        "ünï\t\r\n=",
    ];

    fn secrets(values: impl IntoIterator<Item = impl Into<String>>) -> BTreeMap<String, Secret> {
        values
            .into_iter()
            .enumerate()
            .map(|(n, v)| (format!("SECRET_{n}"), Secret::of_value(Text::from(v.into()))))
            .collect()
    }

    fn forms() -> [Form; 3] {
        [Form::Env, Form::Json, Form::Kubernetes(KubernetesName::new("app.x", Some("prod")).unwrap())]
    }

    #[test]
    fn a_shell_reads_every_value_as_it_is() {
        let secrets = secrets(AWKWARD);
        let (body, left_out) = Form::Env.write(&secrets).unwrap();
        assert!(left_out.is_empty());
        let mut child = Command::new("sh")
            .args(["-c", "set -a; eval \"$(cat; echo x=)\"; exec env -0"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(body.as_slice()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found: BTreeMap<&str, &str> = text.split('\0').filter_map(|v| v.split_once('=')).collect();
        for (name, secret) in &secrets {
            assert_eq!(found.get(name.as_str()).copied(), secret.value(), "{name}");
        }
    }

    #[test]
    fn each_form_reads_back_and_leaves_out_what_it_has_no_place_for() {
        let mut secrets = secrets(AWKWARD);
        secrets.insert("NO".to_owned(), Secret::of_value("1".to_owned().into()));
        secrets.insert("a b".to_owned(), Secret::of_value("1".to_owned().into()));
        secrets.insert("a-b".to_owned(), Secret::of_value("1".to_owned().into()));
        secrets.insert("R".to_owned(), Secret::default());
        for (form, missing) in forms().into_iter().zip([&["R", "a b", "a-b"][..], &["R"], &["R", "a b"]]) {
            let (body, left_out) = form.write(&secrets).unwrap();
            assert_eq!(left_out.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), missing, "{form}");
            let back = form.read(body.as_slice()).unwrap();
            assert_eq!(back.len(), secrets.len() - missing.len());
            for (name, value) in &back {
                assert_eq!(Some(value.expose()), secrets[name].value(), "{form} {name}");
            }
        }
    }

    #[test]
    fn a_manifest_is_what_kubernetes_takes() {
        let (body, _) = forms()[2].write(&secrets(["a"])).unwrap();
        assert_eq!(
            std::str::from_utf8(body.as_slice()).unwrap(),
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"app.x\"\n  namespace: \"prod\"\ntype: Opaque\ndata:\n  \"SECRET_0\": \"YQ==\"\n"
        );
        assert_eq!(KubernetesName::of_dataset("My_App.prd").name, "my-app-prd");
        for (name, namespace) in
            [("A", None), ("-a", None), ("a..b", None), ("", None), ("a", Some("x.y")), ("a", Some(""))]
        {
            assert_eq!(
                KubernetesName::new(name, namespace).unwrap_err().kind(),
                ErrorKind::Config,
                "{name} {namespace:?}"
            );
        }
        for (key, good) in [("A.b-c_1", true), (".", false), ("..a", false), (".a", true), ("a/b", false), ("", false)]
        {
            assert_eq!(is_key(key), good, "{key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn any_value_reads_back(values in prop::collection::vec("[^\\x00]{0,40}", 0..6)) {
            let secrets = secrets(values);
            for form in forms() {
                let (body, left_out) = form.write(&secrets).unwrap();
                prop_assert!(left_out.is_empty());
                let back = form.read(body.as_slice()).unwrap();
                prop_assert_eq!(back.len(), secrets.len());
                for (name, value) in &back {
                    prop_assert_eq!(Some(value.expose()), secrets[name].value());
                }
            }
        }

        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,200}") {
            for form in forms() {
                let _ = form.read(text.as_bytes());
                let _ = form.read(format!("type: Opaque\ndata:\n{text}").as_bytes());
            }
        }
    }
}

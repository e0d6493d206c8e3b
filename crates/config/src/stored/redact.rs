//! A config without its secrets: what is written out in it and is, or may be, a secret becomes a variable.
//!
//! | what is written out | what becomes of it |
//! |---|---|
//! | a [`Setting`](lifeboat_core::Setting) of a system, an access key, a passphrase | `"${JOB_KEY}"`, unless its system [says](lifeboat_core::System::plain_settings) that it is plain, or it is a URL without a password |
//! | a URL with a password | the same |
//! | a comment in which something looks like a secret | another comment |
//! | anything else that looks like a secret, as in an argument of a program | nothing: the config is not stored |
//!
//! Everything else stays as it is, to the byte.

use std::collections::BTreeSet;
use std::ops::Range;

use lifeboat_core::{Error, ErrorKind, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::position;
use crate::node::Source;
use crate::systems::Systems;

/// What a comment becomes in which something looks like a secret.
const COMMENT: &str = "# left out: it looked like a secret";

/// Keys of sinks, jobs and `[defaults]` that name a secret.
const SECRET_KEYS: [&str; 4] = ["access_key", "secret_key", "session_token", "passphrase"];

/// Words before a value that is a secret.
const WORDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "credential",
    "authorization",
];

/// What people write where a secret would be.
const STAND_INS: [&str; 6] = ["password", "…", "...", "pass", "secret", "xxx"];

/// A config that can be stored where others read it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Redacted {
    /// Its text.
    pub text: String,
    /// The variables that stand for what was written out, each with the key that it is the value of.
    pub variables: Vec<(String, String)>,
    /// How many comments were left out.
    pub comments: usize,
}

/// A string of the file.
struct Text {
    /// The keys that lead to it.
    path: Vec<String>,
    span: Range<usize>,
    value: String,
}

/// Takes the secrets out of a config that was read without a mistake.
///
/// # Errors
/// [`ErrorKind::Refused`] when something may be a secret and cannot be replaced.
pub(crate) fn redact(source: &Source<'_>, systems: &Systems) -> Result<Redacted> {
    let root = DeTable::parse(source.text).map_err(|error| unsure(source, 0, error.message()))?;
    let mut texts = Vec::new();
    for (key, value) in root.into_inner() {
        gather(vec![key.into_inner().into_owned()], value, &mut texts);
    }
    texts.sort_by_key(|text| text.span.start);
    let settings = source.settings();
    let mut taken: BTreeSet<String> = variables(source.text).into_iter().collect();
    let mut redacted = Redacted { text: String::new(), variables: Vec::new(), comments: 0 };
    let mut secrets = Vec::new();
    let mut done = 0;
    for text in &texts {
        let between = without_comments(&source.text[done..text.span.start], &mut redacted.comments);
        redacted.text += &between;
        done = text.span.end;
        let is_setting = settings.contains(&text.span.start);
        if is_secret(text, is_setting, systems) {
            let name = name_of(&text.path, &mut taken);
            redacted.text += &format!("\"${{{name}}}\"");
            redacted.variables.push((name, text.path.join(".")));
            secrets.push(text.value.as_str());
            secrets.extend(passwords(&text.value));
        } else if may_be_secret(text, systems) {
            let what = format!("{} may hold a secret, and no variable can stand for it", text.path.join("."));
            return Err(unsure(source, text.span.start, &what));
        } else {
            redacted.text += &source.text[text.span.clone()];
        }
    }
    redacted.text += &without_comments(&source.text[done..], &mut redacted.comments);
    // What was taken out in one place must not stand in another.
    if let Some(at) = secrets.iter().filter(|s| s.len() > 3).find_map(|secret| redacted.text.find(secret)) {
        let (line, _) = position(&redacted.text, at);
        return Err(unsure(source, 0, &format!("a secret of it is also written near line {line}")));
    }
    Ok(redacted)
}

fn unsure(source: &Source<'_>, at: usize, why: &str) -> Error {
    let (line, _) = position(source.text, at);
    Error::new(ErrorKind::Refused, "store", format!("{} (line {line})", source.path.display()), why)
        .hint("write secrets as \"${NAME}\" or \"file:PATH\"; a program can read a variable itself")
}

fn gather(path: Vec<String>, value: Spanned<DeValue<'_>>, texts: &mut Vec<Text>) {
    let span = value.span();
    match value.into_inner() {
        DeValue::String(value) => texts.push(Text { path, span, value: value.into_owned() }),
        DeValue::Array(values) => {
            for value in values {
                gather(path.clone(), value, texts);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table {
                let mut path = path.clone();
                path.push(key.into_inner().into_owned());
                gather(path, value, texts);
            }
        }
        _ => {}
    }
}

/// Whether a value is a secret that a variable can stand for.
fn is_secret(text: &Text, is_setting: bool, systems: &Systems) -> bool {
    let keys: Vec<&str> = text.path.iter().map(String::as_str).collect();
    let leaf = keys.last().copied().unwrap_or_default();
    let by_url = has_password(&text.value);
    match keys[..] {
        ["sinks", _, ..] | ["defaults", ..] if SECRET_KEYS.contains(&leaf) => !is_reference(&text.value),
        ["sinks", _, ..] => by_url,
        ["jobs", _, system, .., _] if systems.names().any(|name| name == system) => {
            let is_plain = is_url(&text.value) || systems.plain(system).contains(&leaf);
            is_setting && (by_url || (!is_plain && !is_reference(&text.value)))
        }
        ["jobs", ..] => SECRET_KEYS.contains(&leaf) && !is_reference(&text.value),
        _ => false,
    }
}

/// Whether it names a variable or a file, and nothing else.
fn is_reference(value: &str) -> bool {
    let of_variable = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    value.starts_with("file:") || of_variable.is_some_and(|name| !name.contains(['$', '{', '}']))
}

fn is_url(value: &str) -> bool {
    value.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    })
}

/// Whether a password stands in a URL, or in several in a text.
fn has_password(text: &str) -> bool {
    !passwords(text).is_empty()
}

/// The passwords that are written out in the URLs of a text.
fn passwords(text: &str) -> Vec<&str> {
    let of_url = |(at, mark): (usize, &str)| {
        let rest = &text[at + mark.len()..];
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')).unwrap_or(rest.len());
        let (place, query) = rest[..end].split_once('?').unwrap_or((&rest[..end], ""));
        let user = place.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
        let in_query = query.split('&').filter_map(|pair| pair.split_once('='));
        let named = in_query.filter(|(name, _)| WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word)));
        user.into_iter().chain(named).map(|(_, password)| password).filter(|password| is_literal(password))
    };
    text.match_indices("://").flat_map(of_url).collect()
}

/// Whether this is written out: it is neither a variable nor what an example has in its place.
fn is_literal(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'', ',', ')', '(', '`', '.']);
    let is_named = ["$", "env:", "file:"].iter().any(|mark| value.starts_with(mark));
    !value.is_empty() && !is_named && !STAND_INS.contains(&value.to_ascii_lowercase().as_str())
}

/// Whether a value that is no secret by its key may hold one. In the table of a system, and in a hook, anything can stand.
fn may_be_secret(text: &Text, systems: &Systems) -> bool {
    let is_free = is_of_system(text, systems) || is_of_hook(text);
    if is_free { looks_secret(&text.value) } else { is_key_of_something(&text.value) }
}

fn is_key_of_something(text: &str) -> bool {
    has_password(text) || text.contains("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY")
}

/// Whether something in a text looks like a secret: it cannot be told for sure.
fn looks_secret(text: &str) -> bool {
    if is_key_of_something(text) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let after_word = WORDS.iter().any(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let Some(rest) = lower.get(at + word.len()..) else { return false };
            let value = rest.trim_start().strip_prefix(['=', ':']).map(str::trim_start);
            value.and_then(|value| value.split_whitespace().next()).is_some_and(is_literal)
        })
    });
    after_word || text.split(|c: char| !(c.is_ascii_alphanumeric() || "+_-".contains(c))).any(is_random)
}

/// Whether a word is like a key or a token: long, with both kinds of letters and digits.
fn is_random(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.bytes().any(|b| kind(&b));
    word.len() >= 20 && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
}

/// What stands between two strings, without the comments in which something looks like a secret.
fn without_comments(text: &str, left_out: &mut usize) -> String {
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        match line.split_once('#') {
            Some((before, comment)) if looks_secret(comment) => {
                *left_out += 1;
                kept += before;
                kept += COMMENT;
                kept += end;
            }
            _ => kept += line,
        }
    }
    kept
}

/// A name for the variable of this value, which no other has.
fn name_of(path: &[String], taken: &mut BTreeSet<String>) -> String {
    // `jobs.shop.postgres.url` is SHOP_URL, `defaults.encrypt.age.passphrase` is DEFAULTS_PASSPHRASE.
    let whose = if path[0] == "defaults" { &path[0] } else { &path[1] };
    let name = format!("{whose}_{}", path[path.len() - 1]);
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let mut name: String = name.chars().map(upper).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    let base = name.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}_{number}");
        number += 1;
    }
    name
}

/// The variables that a text names: `${NAME}`, and `env:NAME`.
fn variables(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found: Vec<(usize, String)> = Vec::new();
    for mark in ["${", "env:"] {
        for (at, _) in text.match_indices(mark) {
            let rest = &text[at + mark.len()..];
            let name: String = rest.chars().take_while(|c| is_part(*c)).collect();
            let is_escaped = mark == "${" && text[..at].ends_with('$');
            let is_whole = mark == "env:" || rest[name.len()..].starts_with('}');
            if !name.is_empty() && is_whole && !is_escaped {
                found.push((at, name));
            }
        }
    }
    found.sort();
    let mut seen = BTreeSet::new();
    found.into_iter().map(|(_, name)| name).filter(|name| seen.insert(name.clone())).collect()
}

/// The variables and files that the settings of a config name. What a program gets as its arguments is the program's.
pub(super) fn needs(source: &Source<'_>, systems: &Systems) -> (Vec<String>, Vec<String>) {
    let mut texts = Vec::new();
    for (key, value) in DeTable::parse(source.text).map(Spanned::into_inner).into_iter().flatten() {
        gather(vec![key.into_inner().into_owned()], value, &mut texts);
    }
    texts.sort_by_key(|text| text.span.start);
    let settings = source.settings();
    let is_setting = |text: &Text| settings.contains(&text.span.start) || !is_of_system(text, systems);
    let (mut names, mut files) = (Vec::new(), Vec::new());
    for text in texts.iter().filter(|text| is_setting(text)) {
        names.extend(variables(&text.value));
        let file = text.value.split_once("file:").filter(|(before, _)| matches!(*before, "" | "openssl:" | "age-"));
        // A sink in a folder is no file.
        files.extend(
            file.filter(|(_, path)| !path.is_empty() && !path.starts_with("//")).map(|(_, path)| path.to_owned()),
        );
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    (names, files)
}

/// Whether it stands in the table of a system, in which anything can stand.
fn is_of_system(text: &Text, systems: &Systems) -> bool {
    text.path[0] == "jobs" && text.path.get(2).is_some_and(|key| systems.names().any(|name| name == key))
}

/// Whether it is a part of a hook: a program, or one of its arguments.
fn is_of_hook(text: &Text) -> bool {
    match &text.path[..] {
        [defaults, key, ..] if defaults == "defaults" => key == "hooks",
        [jobs, _, key, ..] if jobs == "jobs" => key == "hooks",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;
    use crate::tests::systems;

    fn redacted(text: &str) -> Result<Redacted> {
        Config::parse(text, Path::new("lifeboat.toml"), &systems()).unwrap().without_secrets(&systems())
    }

    const SINK: &str = "[sinks.s]\nurl = \"file:///b\"\n[defaults]\nencrypt = \"none\"\n";

    #[test]
    fn what_is_written_out_becomes_a_variable_and_the_rest_stays_to_the_byte() {
        let text = "\
# ours
[sinks.off-site]   # far away
url = \"minio://minio.internal:9000/b\"
access_key = \"ops\"
secret_key = 'hunter2hunter2'

[defaults]
encrypt = { age = { passphrase = \"correct horse\" } }
keep = \"30d\"

[jobs.shop]
postgres = { url = \"postgres://u:hunter2@db.internal/shop\" } # was postgres://u:old@db/shop
# for example postgres://user:password@host/shop
[jobs.blog]
postgres = { url = \"${BLOG_URL}\" }
[jobs.plain]
postgres = { url = \"postgres://db.internal/plain\" }
[jobs.zone]
cloudflare-dns = { token = \"t0ken\", zone = \"example.org\" }
";
        let redacted = redacted(text).unwrap();
        let expected = text
            .replace("\"ops\"", "\"${OFF_SITE_ACCESS_KEY}\"")
            .replace("'hunter2hunter2'", "\"${OFF_SITE_SECRET_KEY}\"")
            .replace("\"correct horse\"", "\"${DEFAULTS_PASSPHRASE}\"")
            .replace("\"postgres://u:hunter2@db.internal/shop\"", "\"${SHOP_URL}\"")
            .replace("# was postgres://u:old@db/shop", COMMENT)
            .replace("\"t0ken\"", "\"${ZONE_TOKEN}\"");
        assert_eq!(redacted.text, expected);
        assert_eq!((redacted.variables.len(), redacted.comments), (5, 1));
        assert_eq!(redacted.variables[4], ("ZONE_TOKEN".to_owned(), "jobs.zone.cloudflare-dns.token".to_owned()));
    }

    #[test]
    fn a_password_beside_a_variable_is_a_secret_and_a_name_is_given_once() {
        let text = format!(
            "{SINK}[jobs.a]\npostgres = {{ url = \"postgres://u:hunter2@${{A_URL}}/d\" }}\n\
             [jobs.b]\nmongodb = {{ url = \"mongodb://u:${{PW}}@h/d\" }}\n"
        );
        let redacted = redacted(&text).unwrap();
        assert!(redacted.text.contains("url = \"${A_URL_2}\""), "{}", redacted.text);
        assert!(redacted.text.contains("mongodb://u:${PW}@h/d"), "{}", redacted.text);
    }

    #[test]
    fn what_may_be_a_secret_in_an_argument_keeps_the_config_from_being_stored() {
        for run in [
            "mysqldump --password=hunter2 x",
            "x postgres://u:hunter2@h/d",
            "curl -H 'Authorization: token: abc'",
            "curl -H 'Authorization: Bearer abc'",
            "x sk9Live0123456789Abcd",
        ] {
            let text = format!("{SINK}[jobs.a]\ncommand = {{ shell = true, run = [\"{run}\"] }}\n");
            let error = redacted(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{run}");
            assert!(error.subject().contains("line 6") && !error.to_string().contains("hunter2"), "{error}");
            let hook = format!(
                "{SINK}hooks = {{ shell = true, before = \"{run}\" }}\n[jobs.a]\ncommand = {{ run = [\"x\"] }}\n"
            );
            assert_eq!(redacted(&hook).unwrap_err().kind(), ErrorKind::Refused, "{run}");
            let hook = format!(
                "{SINK}[jobs.a]\ncommand = {{ run = [\"x\"] }}\nhooks = {{ shell = true, after = \"{run}\" }}\n"
            );
            assert_eq!(redacted(&hook).unwrap_err().kind(), ErrorKind::Refused, "{run}");
        }
        let fine = format!("{SINK}[jobs.a]\ncommand = {{ shell = true, run = [\"mysqldump --password=$PW x\"] }}\n");
        assert_eq!(redacted(&fine).unwrap().text, fine);
    }

    #[test]
    fn what_was_taken_out_in_one_place_stands_in_no_other() {
        let url = "postgres = { url = \"postgres://u:hunter2@h/d\" }";
        let text =
            format!("{SINK}[jobs.a]\n{url}\n[jobs.b]\ndataset = \"hunter2\"\npostgres = {{ url = \"${{B}}\" }}\n");
        assert!(redacted(&text).unwrap_err().message().contains("also written near line 8"));
    }

    #[test]
    fn variables_of_a_program_that_are_written_out_are_secrets() {
        let text =
            format!("{SINK}[jobs.a]\ncommand = {{ run = [\"x\"], env = {{ PW = \"hunter2\", IT = \"file:it\" }} }}\n");
        let redacted = redacted(&text).unwrap();
        assert!(redacted.text.contains("PW = \"${A_PW}\", IT = \"file:it\""), "{}", redacted.text);
    }

    #[test]
    fn variables_are_found_wherever_they_stand() {
        assert_eq!(variables("a ${B} $${C} openssl:env:D ${B} ${no end"), ["B", "D"]);
    }
}

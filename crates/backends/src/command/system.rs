//! A command as a system: what it prints is the dataset.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_core::Field;
use lifeboat_core::duration::Length;
use lifeboat_core::process::{line_of, quoted};
use lifeboat_core::system::{NamedTarget, Opening, System};
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Dataset, Error, ErrorKind, Level, Manifest, Result, Setting, Source, Verifier,
};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::process::{Role, prepare, program_of};
use super::target::INTO;
use super::{CommandSource, CommandTarget, CommandVerifier, FORMAT};

#[cfg(feature = "cli")]
use lifeboat_core::cli::{CONNECTION, CONTENTS};

lifeboat_core::described! {
/// The command, its environment, and the commands that verify and restore its output.
///
/// `run`, `verify` and `restore` are a program and its arguments, one string each. Nothing is substituted in them: pass
/// secrets through `env`.
#[derive(Clone, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CommandSettings {
    /// The program whose output is backed up, then each of its arguments, every one after a --run of its own
    #[cfg_attr(
        feature = "cli",
        arg(long = "run", value_name = "ARG", allow_hyphen_values = true, help_heading = CONTENTS)
    )]
    pub run: Vec<String>,
    /// What the output is, as the extension of the backup: json, sql, tar, db; without it, bin
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "EXTENSION", help_heading = CONTENTS))]
    pub format: Option<String>,
    /// The program that gets a backup on standard input and ends with 0 when it is good, then its arguments, as with --run
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "verify-command", value_name = "ARG", allow_hyphen_values = true))]
    pub verify: Vec<String>,
    /// The program that gets a backup on standard input to restore it, then its arguments, as with --run
    #[serde(default)]
    #[cfg_attr(
        feature = "cli",
        arg(long = "restore-command", value_name = "ARG", allow_hyphen_values = true, help_heading = CONNECTION)
    )]
    pub restore: Vec<String>,
    /// The commands are one line each for /bin/sh -c
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, help_heading = CONNECTION))]
    pub shell: bool,
    /// A variable for the commands: NAME=env:VARIABLE (what another variable holds) or NAME=file:PATH; may be given several times
    #[serde(default, deserialize_with = "variables")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME=PLACE", help_heading = CONNECTION))]
    pub env: Vec<Variable>,
    /// A variable that the commands inherit; may be given several times. Without it: PATH, HOME, LANG, LC_*, TZ, TMPDIR, USER,
    /// LOGNAME and SHELL alone
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = CONNECTION))]
    pub pass_env: Vec<String>,
    /// The working folder of the commands; a verify command has an empty one of its own
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FOLDER", help_heading = CONNECTION))]
    pub folder: Option<Setting>,
    /// How long a command may take, as in 90s, 30min or 2h; without it, any time
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", help_heading = CONNECTION))]
    pub timeout: Option<Length>,
}
}

lifeboat_core::setters!(CommandSettings {
    run: Vec<String>,
    format: Option<String>,
    verify: Vec<String>,
    restore: Vec<String>,
    shell: bool,
    env: Vec<Variable>,
    pass_env: Vec<String>,
    folder: Option<Setting>,
    timeout: Option<Length>,
});

/// A variable of a command's environment, and where its value is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value, looked up when the command is run.
    pub value: Setting,
}

impl FromStr for Variable {
    type Err = Infallible;

    /// Parses `NAME=PLACE`. Mistakes are reported later, where the text is not printed: it may be a secret.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, place) = text.split_once('=').unwrap_or(("", text));
        let name = name.to_owned();
        let value = Setting::given(place, &if is_name(&name) { format!("--env {name}") } else { "--env".to_owned() });
        Ok(Self { name, value })
    }
}

fn variables<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Variable>, D::Error> {
    struct Table;
    impl<'de> Visitor<'de> for Table {
        type Value = Vec<Variable>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of variables, as in { TOKEN = \"${API_TOKEN}\" }")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Variable>, A::Error> {
            let mut variables = Vec::new();
            while let Some((name, value)) = map.next_entry()? {
                variables.push(Variable { name, value });
            }
            Ok(variables)
        }
    }
    d.deserialize_map(Table)
}

/// Shows only the programs of the commands: arguments may be secret.
impl fmt::Debug for CommandSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = |role: Role| (!role.arguments(self).is_empty()).then(|| program_of(self, role));
        f.debug_struct("CommandSettings")
            .field("run", &program(Role::Run))
            .field("format", &self.format)
            .field("verify", &program(Role::Verify))
            .field("restore", &program(Role::Restore))
            .field("shell", &self.shell)
            .field("env", &self.env)
            .field("pass_env", &self.pass_env)
            .field("folder", &self.folder)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl CommandSettings {
    /// Reports mistakes that can be found without looking anything up.
    pub(super) fn check(&self) -> Result<()> {
        for role in Role::ALL {
            self.check_command(role)?;
        }
        if let Some(format) = &self.format {
            check_format(format)?;
        }
        if let Some(unnamed) = self.env.iter().find(|variable| !is_name(&variable.name)) {
            // Not printed: an invalid name may be a value.
            return Err(unnamed
                .value
                .wrong("it does not name a variable")
                .hint("write NAME=env:VARIABLE or NAME=file:PATH"));
        }
        if let Some(name) = self.pass_env.iter().find(|name| !is_name(name)) {
            let why = "it is not the name of a variable";
            return Err(wrong(format!("pass_env \"{}\"", name.escape_debug()), why)
                .hint("values are not allowed here: put NAME = \"${VARIABLE}\" into env"));
        }
        if self.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            return Err(wrong("timeout", "no command ends in zero time").hint("leave it out for no limit"));
        }
        Ok(())
    }

    fn check_command(&self, role: Role) -> Result<()> {
        let arguments = role.arguments(self);
        let Some(program) = arguments.first() else { return Ok(()) };
        let subject = || format!("{} ({})", role.key(), role.flag());
        if program.trim().is_empty() {
            return Err(wrong(subject(), "the program is an empty string"));
        }
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(wrong(subject(), "it holds a zero byte, which an argument cannot"));
        }
        if self.shell && arguments.len() > 1 {
            let why =
                format!("with shell = true it is one line for {}, but it has {} elements", "/bin/sh", arguments.len());
            return Err(wrong(subject(), why)
                .hint("write the line as one string, or leave out shell: then the first element is the program and the others are its arguments"));
        }
        Ok(())
    }
}

fn wrong(subject: impl Into<String>, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "use", subject, why)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Whether a backup with this extension would be found again.
fn check_format(format: &str) -> Result<()> {
    let name = ArtifactName::new(Dataset::new("x")?, Timestamp::UNIX_EPOCH, format);
    if ArtifactName::parse(&name.to_string()).as_ref() == Some(&name) {
        return Ok(());
    }
    let subject = format!("format \"{}\"", format.escape_debug());
    let last = format.rsplit('.').next().unwrap_or_default();
    if ["zst", "gz", "age", "enc"].contains(&last) {
        let why = format!(".{last} is a suffix that Lifeboat itself appends and strips");
        return Err(wrong(subject, why)
            .hint("let the command print the plain content, and Lifeboat compress and encrypt; or choose another word, as in tgz"));
    }
    Err(wrong(subject, "it cannot be the extension of a backup")
        .hint("a format is one or two words of letters, digits, '_' and '-', joined by a dot: json, sql, tar"))
}

/// Options for restoring a backup.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// With --into file:PATH: overwrite an existing file
    #[cfg_attr(feature = "cli", arg(long))]
    pub replace: bool,
}

lifeboat_core::setters!(RestoreOptions { replace: bool });

/// Options for verifying a backup.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Where the scratch folder of a verify command is made
    #[cfg_attr(feature = "cli", arg(long, value_name = "FOLDER"))]
    pub scratch_folder: Option<PathBuf>,
}

lifeboat_core::setters!(VerifyOptions { scratch_folder: Option<PathBuf> });

/// A command, whose output is the dataset.
#[derive(Clone, Debug)]
pub struct CommandSystem {
    settings: CommandSettings,
}

#[async_trait]
impl System for CommandSystem {
    const NAME: &'static str = super::SYSTEM;
    const TITLE: &'static str = "Command";
    const ABOUT: &'static str = "Backs up the output of a command, and proves that each backup is good";
    const EXAMPLE: &'static str = "command = { run = [\"sqlite3\", \"/srv/app.db\", \".dump\"], format = \"sql\" }";

    type Settings = CommandSettings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn tables() -> Vec<(&'static str, &'static [Field])> {
        vec![("", CommandSettings::FIELDS)]
    }

    fn unit(kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn open(settings: CommandSettings, opening: &Opening<'_>) -> Result<Self> {
        settings.check()?;
        if opening.is_of_flags() {
            if let Some(literal) = settings.env.iter().find(|variable| is_no_place(&variable.value)) {
                return Err(literal
                    .value
                    .wrong("it does not take a value itself, which everyone on this machine could read")
                    .hint(
                        "put it into a variable or a file of mode 0600, and write NAME=env:VARIABLE or NAME=file:PATH",
                    ));
            }
        } else if settings.run.is_empty() {
            return Err(
                wrong("run", "it is empty").hint("write the program and its arguments, as in run = [\"date\", \"-u\"]")
            );
        }
        Ok(Self { settings })
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        Ok(None)
    }

    fn plain_settings() -> &'static [&'static str] {
        &["folder"]
    }

    fn programs(&self) -> Vec<String> {
        let Self { settings } = self;
        let all = [("run", &settings.run), ("verify", &settings.verify), ("restore", &settings.restore)];
        let named = all.into_iter().filter(|(_, words)| !words.is_empty());
        named.map(|(what, words)| format!("{what}: {}", line_of(words))).collect()
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(CommandSource::new(self.settings.clone())?))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, _: &Dataset) -> Result<NamedTarget> {
        let RestoreOptions { replace } = choices;
        let place = into.text()?;
        let file = place.strip_prefix("file:").map(|path| path.strip_prefix("//").unwrap_or(path));
        let command = match place.as_str() {
            "command" => Some(""),
            other => other.strip_prefix("command:"),
        };
        let target = match (file, command) {
            (Some(path), _) if !path.is_empty() => {
                CommandTarget::file(into.with(path.replace("${", "$${")).path()?, replace)
            }
            _ if replace => return Err(wrong("--replace", "it applies only to --into file:PATH")),
            (_, Some(into)) => CommandTarget::command(self.settings.clone(), into)?,
            _ if place == "-" => CommandTarget::stdout(),
            _ => {
                return Err(into.wrong("a command's output cannot be restored there").hint(
                    "write file:PATH, - for standard output, or command or command:PLACE for the restore command",
                ));
            }
        };
        let name = target.name();
        Ok(NamedTarget::new(target, name).to_stdout(place == "-").replaces(replace))
    }

    async fn verifier(&self, _: Level, choices: VerifyOptions) -> Result<Box<dyn Verifier>> {
        Ok(Box::new(CommandVerifier::new(self.settings.clone(), choices)?))
    }

    async fn check(&self) -> Vec<Check> {
        let found = |role: Role| match prepare(&self.settings, role) {
            Ok(prepared) => Check::pass(title(role), prepared.name(), prepared.path().display().to_string()),
            Err(error) => Check::from_error(title(role), &error),
        };
        let mut checks = vec![found(Role::Run)];
        checks.push(match self.settings.verify.is_empty() {
            true => Check::warn(
                title(Role::Verify),
                "none",
                "the level restore compares the content hash and restores nothing",
            ),
            false => found(Role::Verify),
        });
        if !self.settings.restore.is_empty() {
            checks.push(found(Role::Restore));
        }
        for name in self.settings.pass_env.iter().filter(|name| std::env::var_os(name).is_none()) {
            checks.push(Check::warn(format!("variable {name}"), "not set", "pass_env names it, but it is not set"));
        }
        checks
    }

    fn stock_restore(&self, name: &ArtifactName, _: Option<&Manifest>) -> String {
        let Some((first, rest)) = self.settings.restore.split_first() else {
            let format = name.format_or(self.settings.format.as_deref().unwrap_or(FORMAT));
            return format!("(umask 077; cat > {}.{format})", name.dataset);
        };
        let line = if self.settings.shell { format!("/bin/sh -c {}", quoted(first)) } else { quoted(first) };
        let line = rest.iter().fold(line, |line, argument| line + " " + &quoted(argument));
        format!("{INTO}=PLACE {line}")
    }
}

/// Whether the value of a flag names neither a variable nor a file.
fn is_no_place(value: &Setting) -> bool {
    value.is_literal() || matches!(value.raw(), "${}" | "file:")
}

fn title(role: Role) -> &'static str {
    match role {
        Role::Run => "command",
        Role::Verify => "verify command",
        Role::Restore => "restore command",
    }
}

#[cfg(feature = "cli")]
mod cli {
    use clap::Command;
    use lifeboat_core::cli::{Commands, NoVerbs};

    use super::CommandSystem;

    impl Commands for CommandSystem {
        type Verbs = NoVerbs;

        fn shape(command: Command) -> Command {
            match command.get_name() {
                "" => command.after_help(
                    "\
Examples:
  lifeboat-command backup --run sqlite3 --run /srv/app.db --run .dump --format sql --dataset app --sink file:///backups --encrypt age:age1…
  lifeboat-command verify --dataset app --sink file:///backups --identity key.txt --verify-command sqlite3 --verify-command new.db
  lifeboat-command restore --dataset app --sink file:///backups --identity key.txt --into file:app.sql",
                ),
                "backup" => command.about("Back up the output of a command").after_help(
                    "\
Examples:
  lifeboat-command backup --run sqlite3 --run /srv/app.db --run .dump --format sql --dataset app --sink file:///backups --encrypt age:age1…
  lifeboat-command backup --shell --run 'curl -fsS -H \"Authorization: Bearer $TOKEN\" https://api.example/export' --env TOKEN=env:API_TOKEN --format json --dataset api --sink s3://backups --encrypt age:age1…",
                ),
                "verify" => command.after_help(
                    "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, and has the content hash of what the command printed
  restore     the verify command gets it, in an empty scratch folder, and ends with 0 (the default)

Examples:
  lifeboat-command verify --dataset app --sink file:///backups --identity key.txt --verify-command sqlite3 --verify-command new.db
  lifeboat-command verify --dataset api --sink s3://backups --identity key.txt --shell --verify-command 'jq -e \".items | length > 0\"'",
                ),
                "restore" => command
                    .about("Restore a backup: with the restore command, into a file or to standard output")
                    .mut_arg("into", |arg| {
                        arg.value_name("command|file:PATH|-").help(
                            "Where to: command (the restore command; command:PLACE sets LIFEBOAT_INTO for it), file:PATH, or - \
                             for standard output",
                        )
                    })
                    .after_help(
                        "\
Examples:
  lifeboat-command restore --dataset app --sink file:///backups --identity key.txt --into file:app.sql
  lifeboat-command restore --dataset app --sink file:///backups --identity key.txt --into - | sqlite3 new.db
  lifeboat-command restore --dataset app --sink file:///backups --identity key.txt --into command:/srv/new.db --shell --restore-command 'sqlite3 -bail \"$LIFEBOAT_INTO\"'",
                    ),
                "check" => command.about("Check the sink, the commands, the variables and the keys").after_help(
                    "\
Examples:
  lifeboat-command check --run sqlite3 --run /srv/app.db --run .dump --sink file:///backups --encrypt age:age1…",
                ),
                _ => command,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_core::system::NoSinks;
    use serde_json::{Value, from_value, json};

    use super::*;

    fn open(table: Value) -> Result<CommandSystem> {
        CommandSystem::open(from_value(table).unwrap(), &Opening::of_table(&NoSinks))
    }

    fn of_env(text: &str) -> Result<CommandSystem> {
        let settings = CommandSettings { env: vec![text.parse().unwrap()], ..CommandSettings::default() };
        CommandSystem::open(settings, &Opening::of_flags(&NoSinks))
    }

    #[test]
    fn a_table_is_read() {
        let system = open(json!({
            "run": ["curl", "-fsS", "https://api.example/export"], "format": "json", "verify": ["jq", "-e", "."],
            "restore": ["./import.sh"], "env": { "TOKEN": "${API_TOKEN}", "KEY": "file:key" }, "pass_env": ["KUBECONFIG"],
            "folder": "/srv", "timeout": "30min",
        }))
        .unwrap();
        let CommandSettings { run, format, env, timeout, .. } = &system.settings;
        assert_eq!((run.len(), format.as_deref()), (3, Some("json")));
        let mut env: Vec<_> = env.iter().map(|v| (v.name.as_str(), v.value.raw())).collect();
        env.sort_unstable();
        assert_eq!(env, [("KEY", "file:key"), ("TOKEN", "${API_TOKEN}")]);
        assert_eq!(timeout.unwrap().0.as_secs(), 1800);
        open(from_value(json!({ "run": ["date"] })).unwrap()).unwrap();
    }

    #[test]
    fn tables_with_mistakes_are_refused() {
        for (table, why) in [
            (json!({ "rum": ["date"] }), "unknown field `rum`"),
            (json!({ "format": "json" }), "missing field `run`"),
            (json!({ "run": "date" }), "expected a sequence"),
            (json!({ "run": ["date"], "env": ["TOKEN"] }), "a table of variables"),
            (json!({ "run": ["date"], "timeout": "2m" }), "minutes or months"),
        ] {
            let error = from_value::<CommandSettings>(table.clone()).unwrap_err().to_string();
            assert!(error.contains(why), "{table}: {error}");
        }
        for (table, subject, why) in [
            (json!({ "run": [] }), "run", "empty"),
            (json!({ "run": [""] }), "run (--run)", "empty string"),
            (json!({ "run": ["a\0b"] }), "run (--run)", "zero byte"),
            (json!({ "run": ["date", "-u"], "shell": true }), "run (--run)", "2 elements"),
            (
                json!({ "run": ["date"], "shell": true, "verify": ["a", "b", "c"] }),
                "verify (--verify-command)",
                "3 elements",
            ),
            (json!({ "run": ["date"], "format": "tar.gz" }), "format \"tar.gz\"", "appends and strips"),
            (json!({ "run": ["date"], "format": "a/b" }), "format \"a/b\"", "extension"),
            (json!({ "run": ["date"], "format": "" }), "format \"\"", "extension"),
            (json!({ "run": ["date"], "env": { "A=B": "x" } }), "the settings", "does not name a variable"),
            (json!({ "run": ["date"], "pass_env": ["A=B"] }), "pass_env \"A=B\"", "not the name"),
            (json!({ "run": ["date"], "timeout": "0s" }), "timeout", "zero time"),
        ] {
            let error = open(table.clone()).unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Config, subject), "{table}");
            assert!(error.message().contains(why), "{table}: {error}");
        }
    }

    #[test]
    fn after_a_flag_a_variable_is_named_and_never_given() {
        of_env("TOKEN=env:API_TOKEN").unwrap();
        of_env("TOKEN=file:token.txt").unwrap();
        for literal in ["TOKEN=hunter2", "TOKEN=${hunter2}", "TOKEN=env:", "TOKEN=file:", "TOKEN="] {
            let error = of_env(literal).unwrap_err();
            assert_eq!(error.subject(), "--env TOKEN", "{literal}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for unnamed in ["hunter2", "=hunter2"] {
            let error = of_env(unnamed).unwrap_err();
            assert_eq!((error.subject(), error.message()), ("--env", "it does not name a variable"));
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn nothing_that_may_be_secret_is_in_debug() {
        let table =
            json!({ "run": ["/opt/a/export", "hunter2"], "env": { "TOKEN": "hunter2" }, "restore": ["x", "hunter2"] });
        let shown = format!("{:?}", open(table).unwrap());
        assert!(shown.contains("\"export\"") && shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
        let shown = format!("{:?}", open(json!({ "run": ["echo hunter2"], "shell": true })).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        let target = CommandTarget::command(from_value(json!({ "run": ["x"], "restore": ["y"] })).unwrap(), "hunter2");
        assert!(!format!("{:?}", target.unwrap()).contains("hunter2"));
    }

    #[tokio::test]
    async fn places_are_told_apart() {
        let dataset = Dataset::new("x").unwrap();
        let system = open(json!({ "run": ["x"], "restore": ["/opt/import.sh"] })).unwrap();
        let into = async |place: &str, replace: bool| {
            let target = system.target(&Setting::given(place, "--into"), RestoreOptions { replace }, &dataset).await?;
            Ok::<_, Error>((target.name, target.to_stdout, target.replaces))
        };
        let named = |name: &str, stdout, replaces| (name.to_owned(), stdout, replaces);
        assert_eq!(into("-", false).await.unwrap(), named("standard output", true, false));
        assert_eq!(into("file:a/b", false).await.unwrap(), named("a/b", false, false));
        assert_eq!(into("file:///a/${b}", true).await.unwrap(), named("/a/${b}", false, true));
        for place in ["command", "command:postgres://u:hunter2@h/d"] {
            assert_eq!(into(place, false).await.unwrap(), named("the restore command (import.sh)", false, false));
        }
        for (place, replace) in [("commands", false), ("file:", false), ("/a/b", false), ("-", true), ("command", true)]
        {
            assert_eq!(into(place, replace).await.unwrap_err().kind(), ErrorKind::Config, "{place}");
        }
        let without = open(json!({ "run": ["x"] })).unwrap();
        let place = Setting::given("command", "--into");
        let error = without.target(&place, RestoreOptions::default(), &dataset).await.unwrap_err();
        assert!(error.message().contains("none is configured"), "{error}");
    }

    #[test]
    fn the_stock_line_is_one_for_a_shell() {
        let name = ArtifactName::parse("api-20261121-033000.json.zst.age").unwrap();
        let line = |table| open(table).unwrap().stock_restore(&name, None);
        assert_eq!(line(json!({ "run": ["x"] })), "(umask 077; cat > api.json)");
        let table = json!({ "run": ["x"], "restore": ["psql", "-c", "it's"] });
        assert_eq!(line(table), r"LIFEBOAT_INTO=PLACE psql -c 'it'\''s'");
        let table = json!({ "run": ["x"], "restore": ["a | b"], "shell": true });
        assert_eq!(line(table), "LIFEBOAT_INTO=PLACE /bin/sh -c 'a | b'");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn flags_are_read() {
        use clap::{Args, FromArgMatches};
        let command = CommandSettings::augment_args(clap::Command::new("x"));
        command.clone().debug_assert();
        let matches = command.get_matches_from([
            "x",
            "--run",
            "curl",
            "--run",
            "-fsS",
            "--run=--json",
            "--format",
            "json",
            "--env",
            "A=env:B",
            "--pass-env",
            "C",
            "--folder",
            "/srv",
            "--timeout",
            "5min",
            "--verify-command",
            "jq",
            "--verify-command",
            "-e",
            "--restore-command",
            "cat",
        ]);
        let settings = CommandSettings::from_arg_matches(&matches).unwrap();
        assert_eq!(settings.run, ["curl", "-fsS", "--json"]);
        assert_eq!(settings.verify, ["jq", "-e"]);
        assert_eq!(settings.env[0].value.raw(), "${B}");
        assert_eq!(settings.timeout.unwrap().0.as_secs(), 300);
        CommandSystem::open(settings, &Opening::of_flags(&NoSinks)).unwrap();
    }
}

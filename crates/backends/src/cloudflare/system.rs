//! Cloudflare DNS as a system: one zone, or every zone that a token sees.
// Help texts show addresses as typed.
#![allow(rustdoc::bare_urls)]

use std::time::Duration;

use async_trait::async_trait;
use lifeboat_core::Field;
#[cfg(feature = "cli")]
use lifeboat_core::cli::CONNECTION;
use lifeboat_core::system::{Defaults, NamedTarget, Opening, System};
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Compression, Dataset, Error, ErrorKind, Level, Manifest, Result, Setting, Source, Verifier,
    setting,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::record::Extra;
use super::zone;
use super::{Api, CloudflareTarget, CloudflareVerifier, CloudflareZone, VerifierOptions, ZoneFileTarget, ZoneRef};
use crate::http::token;
use crate::outfile::Destination;

/// The default variable for the token.
const TOKEN: &str = "CLOUDFLARE_API_TOKEN";

lifeboat_core::described! {
/// Which zone, and how to reach Cloudflare.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ZoneSettings {
    /// The zone: cloudflare://example.org, its domain alone or its id; * for every zone that the token sees
    #[serde(deserialize_with = "setting::required")]
    #[cfg_attr(
        feature = "cli",
        arg(long = "from", visible_alias = "zone", value_name = "ZONE", env = "LIFEBOAT_FROM")
    )]
    pub zone: Option<Setting>,
    /// Where the token is: env:NAME or file:PATH; without it, in CLOUDFLARE_API_TOKEN
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLACE"))]
    pub token: Option<Setting>,
    /// The address of the API, if not https://api.cloudflare.com/client/v4
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "URL", env = "CLOUDFLARE_API_URL", help_heading = CONNECTION))]
    pub api_url: Option<Setting>,
}
}

lifeboat_core::setters!(ZoneSettings { zone: Option<Setting>, token: Option<Setting>, api_url: Option<Setting> });

/// Options for restoring a zone.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// With --into file:PATH: overwrite an existing file
    #[cfg_attr(feature = "cli", arg(long))]
    pub replace: bool,
    /// Carry the plan out; without it the plan is shown and nothing is changed
    #[cfg_attr(feature = "cli", arg(long))]
    pub apply: bool,
    /// Also delete what is there and not in the backup
    #[cfg_attr(feature = "cli", arg(long))]
    pub delete_extra: bool,
    /// Also restore the settings beside the data, such as those of a zone
    #[cfg_attr(feature = "cli", arg(long))]
    pub settings: bool,
    /// Restore records without these, which a smaller plan may refuse: tags, comments, settings
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHAT", value_delimiter = ',', hide_possible_values = true))]
    pub without: Vec<Extra>,
    /// Where a token with write access is: env:NAME or file:PATH; without it, the backup's own
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLACE"))]
    pub token: Option<Setting>,
}

lifeboat_core::setters!(RestoreOptions {
    replace: bool,
    apply: bool,
    delete_extra: bool,
    settings: bool,
    without: Vec<Extra>,
    token: Option<Setting>,
});

/// Options for verifying an artifact.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Level live, of zones and secrets: warn when the count differs by more
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub max_drift: Option<u64>,
}

lifeboat_core::setters!(VerifyOptions { max_drift: Option<u64> });

/// Cloudflare DNS: one zone, or every zone that a token sees.
#[derive(Clone, Debug)]
pub struct CloudflareSystem {
    token: Setting,
    api_url: Option<Setting>,
    zone: Option<Setting>,
}

impl CloudflareSystem {
    fn api(&self, token: Option<&Setting>) -> Result<Api> {
        let api_url = self.api_url.as_ref().map(Setting::text).transpose()?;
        let token = token.unwrap_or(&self.token);
        Api::new(token.secret()?, token.place(), api_url.as_deref())
    }

    fn zone(&self) -> Result<ZoneRef> {
        match &self.zone {
            Some(zone) => parse(zone, &zone.text()?),
            None => Err(Error::new(ErrorKind::Config, "find", "the zone", "no zone was given")
                .hint("give --from cloudflare://example.org, or set LIFEBOAT_FROM")),
        }
    }

    /// The zone, if it can be determined without looking anything up.
    fn written(&self) -> Option<ZoneRef> {
        self.zone.as_ref().and_then(|zone| ZoneRef::parse(zone.raw()).ok())
    }
}

#[async_trait]
impl System for CloudflareSystem {
    const NAME: &'static str = super::SYSTEM;
    const TITLE: &'static str = "Cloudflare DNS";
    const ABOUT: &'static str = "Backs up DNS zones at Cloudflare, and proves that each backup restores";
    const EXAMPLE: &'static str = "cloudflare-dns = { zone = \"example.org\" }";

    type Settings = ZoneSettings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn tables() -> Vec<(&'static str, &'static [Field])> {
        vec![("", ZoneSettings::FIELDS)]
    }

    fn unit(kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn open(settings: ZoneSettings, opening: &Opening<'_>) -> Result<Self> {
        let ZoneSettings { zone, token, api_url } = settings;
        let token = match token {
            Some(token) if opening.is_of_flags() => token::of_flag(token)?,
            Some(token) => token,
            None => Setting::variable_named(TOKEN),
        };
        // A variable set to an empty string counts as an absent flag.
        let given = |setting: &Setting| !(opening.is_of_flags() && setting.raw().is_empty());
        let zone = zone.filter(given);
        if let Some(zone) = zone.as_ref().filter(|zone| !zone.raw().contains("${")) {
            parse(zone, zone.raw())?;
        }
        Ok(Self { token, api_url: api_url.filter(given), zone })
    }

    fn defaults() -> Defaults {
        // Like the scripts that it replaces: .tar.gz, a week and a day.
        Defaults::compressed(Compression::gzip(6)).max_age(Duration::from_secs(8 * 86_400))
    }

    fn formats() -> &'static [&'static str] {
        &[super::FORMAT]
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        match &self.zone {
            Some(_) => self.zone()?.name().map(Dataset::new).transpose(),
            None => Ok(None),
        }
    }

    fn dataset_of_job(&self) -> Option<String> {
        self.written()?.name().map(ToOwned::to_owned)
    }

    fn plain_settings() -> &'static [&'static str] {
        &["zone"]
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(CloudflareZone::new(self.api(None)?, self.zone()?)))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, _: &Dataset) -> Result<NamedTarget> {
        let RestoreOptions { replace, apply, delete_extra, settings, without, token } = choices;
        let wrong = |flag: &str, why: &str| Error::new(ErrorKind::Config, "use", flag, why);
        let token = token.map(token::of_flag).transpose()?;
        let place = into.text()?;
        if let Some(destination) = Destination::parse(&place, replace) {
            for (flag, given) in
                [("--delete-extra", delete_extra), ("--settings", settings), ("--without", !without.is_empty())]
            {
                if given {
                    return Err(wrong(flag, "a zone file holds exactly the records of the backup"));
                }
            }
            let name = format!("{} (BIND zone file)", destination.name());
            let to_stdout = destination == Destination::Stdout;
            let target = NamedTarget::new(ZoneFileTarget::new(destination), name);
            return Ok(target.to_stdout(to_stdout).replaces(replace).apply(apply));
        }
        if replace {
            return Err(wrong("--replace", "a zone is changed record by record")
                .hint("check the plan, then give --apply; --delete-extra also deletes what is not in the backup"));
        }
        let zone = ZoneRef::parse(&place).map_err(|error| {
            into.wrong(error.message())
                .hint("write --into cloudflare://example.org, or --into file:zone.txt for a BIND zone file")
        })?;
        let name = zone.to_string();
        let target = CloudflareTarget::new(self.api(token.as_ref())?, zone)
            .delete_extra(delete_extra)
            .settings(settings)
            .without(without);
        Ok(NamedTarget::new(target, name).apply(apply))
    }

    async fn verifier(&self, level: Level, choices: VerifyOptions) -> Result<Box<dyn Verifier>> {
        let live = match (level, &self.zone) {
            (Level::Live, Some(_)) => Some((self.api(None)?, self.zone()?)),
            (Level::Live, None) => Some((self.api(None)?, ZoneRef::Any)),
            _ => None,
        };
        Ok(Box::new(CloudflareVerifier::new(VerifierOptions { live, max_drift: choices.max_drift })))
    }

    async fn check(&self) -> Vec<Check> {
        match self.api(None).and_then(|api| Ok((api, self.zone()?))) {
            Ok((api, zone)) => super::check(&api, &zone).await,
            Err(error) => vec![Check::from_error("zone", &error)],
        }
    }

    fn has_many(&self) -> bool {
        self.written() == Some(ZoneRef::Any)
    }

    async fn datasets(&self) -> Result<Vec<Dataset>> {
        let zones = self.api(None)?.zones(&CancellationToken::new()).await?;
        // Zones with the same name are one dataset; which of them to read is decided, or refused, when reading.
        zone::by_name(zones).into_keys().map(Dataset::new).collect()
    }

    fn narrow(&self, dataset: &Dataset) -> Self {
        Self { zone: Some(Setting::argument(dataset.as_str(), "zone")), ..self.clone() }
    }

    fn claims(&self, name: &ArtifactName) -> bool {
        name.format == super::FORMAT
    }

    fn stock_restore(&self, name: &ArtifactName, _: Option<&Manifest>) -> String {
        super::stock_restore(name).to_owned()
    }
}

/// Parses the text of a setting that names a zone.
fn parse(setting: &Setting, text: &str) -> Result<ZoneRef> {
    if text.is_empty() {
        return Err(setting.wrong("it is empty").hint("write a domain, as in example.org, or * for all zones"));
    }
    ZoneRef::parse(text).map_err(|error| {
        let wrong = setting.wrong(format!("{}: {}", error.subject(), error.message()));
        error.advice().map(ToOwned::to_owned).into_iter().fold(wrong, Error::hint)
    })
}

#[cfg(feature = "cli")]
mod cli {
    use clap::Command;
    use lifeboat_core::cli::{Commands, NoVerbs};

    use super::CloudflareSystem;

    impl Commands for CloudflareSystem {
        type Verbs = NoVerbs;

        fn shape(command: Command) -> Command {
            match command.get_name() {
                "" => command.after_help(
                    "\
Examples:
  export CLOUDFLARE_API_TOKEN=…
  lifeboat-cloudflare-dns backup --zone example.org --sink file:///backups --encrypt age:age1…
  lifeboat-cloudflare-dns verify --dataset example.org --sink file:///backups --identity key.txt
  lifeboat-cloudflare-dns restore --dataset example.org --sink file:///backups --identity key.txt --into file:zone.txt",
                ),
                "backup" => command.after_help(
                    "\
Examples:
  lifeboat-cloudflare-dns backup --zone example.org --sink file:///backups --encrypt age:age1…
  lifeboat-cloudflare-dns backup --zone example.org --dataset dns-zone --sink s3://backups --encrypt none
  lifeboat-cloudflare-dns backup --zone '*' --token file:token.txt --sink b2://backups --encrypt age-file:keys.txt",
                ),
                "show" => command
                    .mut_arg("items", |arg| {
                        arg.help("Also list the contents (types with their records); needs the key if it is encrypted")
                    })
                    .mut_arg("item", |arg| {
                        arg.help("Write the records of one type (A), or one file, to standard output, compared with its proof")
                    }),
                "verify" => command.after_help(
                    "\
Levels:
  stored      it is there, young enough (8 days), and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     the zone is built again, read back with a DNS library, and compared with the proof and with Cloudflare's
              own zone file (the default)
  live        how far the live zone has drifted from it, record by record

Examples:
  lifeboat-cloudflare-dns verify --dataset example.org --sink file:///backups --identity key.txt
  lifeboat-cloudflare-dns verify --zone '*' --sink file:///backups --identity key.txt --level live --max-drift 10",
                ),
                "restore" => command
                    .about("Restore a backup: into the live zone, into a zone file or to standard output")
                    .mut_arg("into", |arg| {
                        arg.value_name("ZONE|file:PATH|-").help(
                            "Where to: cloudflare://example.org (cloudflare:// for the backup's own zone), file:PATH or - for a \
                             BIND zone file",
                        )
                    })
                    .mut_arg("token", |arg| {
                        arg.help("Where the token is: env:NAME or file:PATH; without it, in CLOUDFLARE_API_TOKEN")
                    })
                    .after_help(
                        "\
Examples:
  lifeboat-cloudflare-dns restore --dataset example.org --sink file:///backups --into cloudflare://example.org
  lifeboat-cloudflare-dns restore --dataset example.org --sink file:///backups --into cloudflare://example.org --apply
  lifeboat-cloudflare-dns restore --dataset example.org --sink file:///backups --identity key.txt --into file:zone.txt",
                    ),
                "check" => command.about("Check the sink, the token and its rights, the zone and the keys").after_help(
                    "\
Examples:
  lifeboat-cloudflare-dns check --zone example.org --sink file:///backups --encrypt age:age1…
  lifeboat-cloudflare-dns check --zone '*' --sink s3://backups --encrypt age-file:keys.txt",
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

    fn open(table: Value) -> Result<CloudflareSystem> {
        CloudflareSystem::open(from_value(table).unwrap(), &Opening::of_table(&NoSinks))
    }

    fn of_flags(zone: Option<&str>, token: Option<&str>) -> Result<CloudflareSystem> {
        let zone = zone.map(|zone| Setting::given(zone, "--from"));
        let token = token.map(|token| Setting::given(token, "--token"));
        CloudflareSystem::open(ZoneSettings { zone, token, api_url: None }, &Opening::of_flags(&NoSinks))
    }

    #[test]
    fn a_table_has_the_keys_of_the_settings() {
        let all = json!({ "zone": "example.org", "token": "${TOKEN}", "api_url": "https://api.example" });
        assert_eq!(from_value::<ZoneSettings>(all).unwrap().token.unwrap().raw(), "${TOKEN}");
        for wrong in [json!({}), json!({ "token": "${TOKEN}" }), json!({ "zone": "example.org", "from": "x" })] {
            assert!(from_value::<ZoneSettings>(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(from_value::<VerifyOptions>(json!({ "max_drift": 3 })).unwrap().max_drift, Some(3));
        assert!(from_value::<VerifyOptions>(json!({ "jobs": 3 })).is_err());
        assert!(from_value::<RestoreOptions>(json!({ "format": "env" })).is_err());
    }

    #[test]
    fn a_zone_names_its_dataset_and_many_do_not() {
        let one = open(json!({ "zone": "cloudflare://Example.org" })).unwrap();
        assert_eq!(one.dataset().unwrap().unwrap().as_str(), "example.org");
        assert_eq!((one.dataset_of_job().as_deref(), one.has_many()), (Some("example.org"), false));
        let many = open(json!({ "zone": "*" })).unwrap();
        assert_eq!((many.dataset().unwrap(), many.dataset_of_job(), many.has_many()), (None, None, true));
        let narrow = many.narrow(&Dataset::new("example.net").unwrap());
        assert_eq!((narrow.zone().unwrap().name(), narrow.has_many()), (Some("example.net"), false));
        let elsewhere = open(json!({ "zone": "${LIFEBOAT_TEST_NOT_SET}" })).unwrap();
        assert_eq!((elsewhere.dataset_of_job(), elsewhere.has_many()), (None, false));
        assert!(elsewhere.dataset().is_err());
        let nothing = of_flags(Some(""), None).unwrap();
        assert_eq!(nothing.dataset().unwrap(), None);
        assert_eq!(nothing.zone().unwrap_err().message(), "no zone was given");
    }

    #[test]
    fn what_is_no_zone_is_refused_where_it_stands() {
        let error = of_flags(Some("postgres://x/y"), None).unwrap_err();
        assert_eq!(
            (error.subject(), error.message()),
            ("--from", "zone \"postgres://x/y\": it is an address of something else")
        );
        assert!(error.advice().is_some());
    }

    #[test]
    fn a_token_is_not_taken_from_a_flag() {
        let error = of_flags(None, Some("hunter2")).unwrap_err();
        assert_eq!(error.to_string(), "cannot use --token: it does not take a token itself");
        assert_eq!(of_flags(None, Some("env:OTHER")).unwrap().token.place(), "OTHER");
        assert_eq!(of_flags(None, None).unwrap().token.place(), TOKEN);
    }

    #[tokio::test]
    async fn a_restore_refuses_what_does_not_go_together() {
        let system = open(json!({ "zone": "example.org", "token": "a-token" })).unwrap();
        let dataset = Dataset::new("example.org").unwrap();
        let given = |text: &str| Setting::given(text, "--into");
        for (into, choices, subject) in [
            ("file:zone.txt", RestoreOptions { settings: true, ..RestoreOptions::default() }, "--settings"),
            ("-", RestoreOptions { delete_extra: true, ..RestoreOptions::default() }, "--delete-extra"),
            ("cloudflare://", RestoreOptions { replace: true, ..RestoreOptions::default() }, "--replace"),
            ("postgres://h/d", RestoreOptions::default(), "--into"),
            (
                "cloudflare://",
                RestoreOptions { token: Some(Setting::given("hunter2", "--token")), ..RestoreOptions::default() },
                "--token",
            ),
        ] {
            let error = system.target(&given(into), choices, &dataset).await.unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Config, subject));
        }
        let choices = RestoreOptions { apply: true, delete_extra: true, ..RestoreOptions::default() };
        let live = system.target(&given("example.org"), choices, &dataset).await.unwrap();
        assert_eq!((live.name.as_str(), live.apply, live.to_stdout), ("cloudflare://example.org", true, false));
        let out = system.target(&given("-"), RestoreOptions::default(), &dataset).await.unwrap();
        assert_eq!((out.name.as_str(), out.to_stdout), ("standard output (BIND zone file)", true));
    }

    #[cfg(feature = "cli")]
    #[test]
    fn the_commands_hold_together() {
        use clap::{Arg, Args, Command};
        use lifeboat_core::cli::Commands;

        VerifyOptions::augment_args(ZoneSettings::augment_args(Command::new("verify"))).debug_assert();
        let settings = ZoneSettings::augment_args(Command::new("restore"));
        let connection = settings.get_arguments().filter(|arg| arg.get_help_heading() == Some(CONNECTION));
        let restore = Command::new("restore").arg(Arg::new("into").long("into")).args(connection.cloned());
        CloudflareSystem::shape(RestoreOptions::augment_args(restore)).debug_assert();
    }
}

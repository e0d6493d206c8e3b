//! Cloudflare DNS: one zone, or every zone that a token sees.

use std::time::Duration;

use lifeboat::cloudflare::{
    Api, CloudflareTarget, CloudflareVerifier, CloudflareZone, FORMAT, TargetOptions, VerifierOptions, ZoneFileTarget,
    ZoneRef,
};
use lifeboat::outfile::Destination;
use lifeboat::{ArtifactName, Check, Compression, Dataset, Error, ErrorKind, Level, Result, Source, Verifier};
use tokio_util::sync::CancellationToken;

use super::{NamedTarget, RestoreChoices, Suggested, Topic, VerifyChoices};
use crate::config::setting::Setting;

/// How Cloudflare is reached, and which zone.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    token: Setting,
    api_url: Option<Setting>,
    zone: Option<Setting>,
}

impl Settings {
    /// Settings of a job. Without a zone nothing can be backed up, but the rest works.
    pub(crate) fn new(token: Setting, api_url: Option<Setting>, zone: Option<Setting>) -> Self {
        Self { token, api_url, zone }
    }

    fn api(&self, token: Option<&Setting>) -> Result<Api> {
        let api_url = self.api_url.as_ref().map(Setting::text).transpose()?;
        let token = token.unwrap_or(&self.token);
        Api::new(token.secret()?, token.place(), api_url.as_deref())
    }

    fn zone(&self) -> Result<ZoneRef> {
        match &self.zone {
            Some(zone) => ZoneRef::parse(&zone.text()?),
            None => Err(Error::new(ErrorKind::Config, "find", "the zone", "which one was not said")
                .hint("give --from cloudflare://example.org, or set LIFEBOAT_FROM")),
        }
    }

    /// The dataset that the settings name by themselves: the zone's domain.
    pub(crate) fn dataset(&self) -> Result<Option<Dataset>> {
        match &self.zone {
            Some(zone) => ZoneRef::parse(&zone.text()?)?.name().map(Dataset::new).transpose(),
            None => Ok(None),
        }
    }

    pub(crate) fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(CloudflareZone::new(self.api(None)?, self.zone()?)))
    }

    pub(crate) fn suggested() -> Suggested {
        // As the scripts that it takes the place of: .tar.gz, a week and a day.
        Suggested { compression: Compression::gzip(6), max_age: Some(Duration::from_secs(8 * 86_400)) }
    }

    pub(crate) fn has_many(&self) -> bool {
        self.zone.as_ref().is_some_and(|zone| matches!(ZoneRef::parse(zone.raw()), Ok(ZoneRef::Any)))
    }

    pub(crate) async fn datasets(&self) -> Result<Vec<Dataset>> {
        let zones = self.api(None)?.zones(&CancellationToken::new()).await?;
        zones.into_iter().map(|zone| Dataset::new(zone.name)).collect()
    }

    pub(crate) fn narrow(&self, dataset: &Dataset) -> Self {
        Self { zone: Some(Setting::argument(dataset.as_str(), "zone")), ..self.clone() }
    }

    pub(crate) fn claims(name: &ArtifactName) -> bool {
        name.format == FORMAT
    }

    pub(crate) fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        let RestoreChoices { replace, delete_extra, settings, secrets, .. } = &choices;
        let wrong = |flag: &str, why: &str| Error::new(ErrorKind::Config, "use", flag, why);
        let hint = "look at the plan, then say --apply; or write a zone file with --into file:PATH";
        choices.refuse_all_but(&[Topic::Plans, Topic::Zones, Topic::Tokens], "a zone", hint)?;
        let place = into.text()?;
        if let Some(destination) = Destination::parse(&place, *replace) {
            for (flag, given) in [("--delete-extra", *delete_extra), ("--settings", *settings)] {
                if given {
                    return Err(wrong(flag, "a zone file holds the records of the backup and nothing else"));
                }
            }
            let name = format!("{} (BIND zone file)", destination.name());
            let to_stdout = destination == Destination::Stdout;
            return Ok(NamedTarget { target: Box::new(ZoneFileTarget::new(destination)), name, to_stdout });
        }
        if *replace {
            return Err(wrong("--replace", "a zone is changed record by record")
                .hint("look at the plan, then say --apply; --delete-extra also deletes what is not in the backup"));
        }
        let zone = ZoneRef::parse(&place).map_err(|error| {
            let hint = "write --into cloudflare://example.org, or --into file:zone.txt for a BIND zone file";
            Error::new(error.kind(), "use", into.place(), error.message()).hint(hint)
        })?;
        let name = zone.to_string();
        let options = TargetOptions { delete_extra: *delete_extra, settings: *settings };
        let target = CloudflareTarget::new(self.api(secrets.token.as_ref())?, zone, options);
        Ok(NamedTarget { target: Box::new(target), name, to_stdout: false })
    }

    pub(crate) fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        let live = match choices.level {
            Level::Live => Some((self.api(None)?, self.zone.as_ref().map_or(Ok(ZoneRef::Any), |_| self.zone())?)),
            _ => None,
        };
        Ok(Box::new(CloudflareVerifier::new(VerifierOptions { live, max_drift: choices.max_drift })))
    }

    pub(crate) async fn check(&self) -> Vec<Check> {
        match self.api(None).and_then(|api| Ok((api, self.zone()?))) {
            Ok((api, zone)) => lifeboat::cloudflare::check(&api, &zone).await,
            Err(error) => vec![Check::from_error("zone", &error)],
        }
    }
}

//! The verifier.

use async_trait::async_trait;
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Context, Error, ErrorKind, Extract, Proof, ProofItem, RestoreInput, Result, Tap, Verifier,
};

use super::api::{Connection, Scope};
use super::content::{RESTRICTED, Salt, SecretValue, SecretsTap, VALUES};
use super::document::Document;
use super::form::{Form, KubernetesName};
use super::source::listed;
use super::target::{is_unauthenticated, stands, told};
use super::{FORMAT, drift};

/// Options of a verification.
#[derive(Debug)]
#[non_exhaustive]
pub struct VerifierOptions {
    /// The live config, for the level `live`. Without a project and a config, the one named in the artifact.
    pub live: Option<(Connection, Scope)>,
    /// By how many secrets the live config may differ without a warning.
    pub max_drift: u64,
}

lifeboat_core::setters!(VerifierOptions { live: Option<(Connection, Scope)>, max_drift: u64 });

impl Default for VerifierOptions {
    fn default() -> Self {
        Self { live: None, max_drift: 3 }
    }
}

/// Judges artifacts with secrets.
///
/// Its restore test needs no server: it writes the secrets in each form in memory, reads them back, and compares with the proof.
#[derive(Debug, Default)]
pub struct DopplerVerifier {
    options: VerifierOptions,
}

impl DopplerVerifier {
    /// Creates a verifier.
    pub fn new(options: VerifierOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl Verifier for DopplerVerifier {
    fn unit(&self, kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        known(name)?;
        Ok(Box::new(SecretsTap::new(is_unauthenticated(name))?))
    }

    fn has_content(&self, _: &ProofItem) -> bool {
        true
    }

    fn extract(&self, name: &ArtifactName, item: &str, _: Option<&Proof>) -> Result<Box<dyn Extract>> {
        known(name)?;
        Ok(Box::new(SecretValue::new(item, is_unauthenticated(name))?))
    }

    fn is_confidential(&self) -> bool {
        true
    }

    async fn restore_test(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        let document = match Document::read(input.stream, is_unauthenticated(&input.name)).await {
            Ok(document) => document,
            // The level before this reports what is wrong with the bytes.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if let Err(error) = stands(&document) {
            return Ok(vec![Check::from_error("secrets", &error)]);
        }
        let mut checks = vec![secrets(&document)];
        let salt = match &document.header.salt {
            Some(salt) => salt.clone(),
            None => Salt::random()?,
        };
        for form in [Form::Env, Form::Json, Form::Kubernetes(KubernetesName::default())] {
            checks.extend(try_form(&form, &document, &salt, input.proof.as_ref())?);
        }
        Ok(checks)
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Err(Error::new(ErrorKind::Internal, "compare", "the secrets", "the artifact was not read"))
    }

    fn live_reads(&self) -> bool {
        true
    }

    async fn live_content(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let Some((connection, scope)) = &self.options.live else {
            return Err(Error::new(ErrorKind::Config, "compare", "the live config", "no place was given")
                .hint("give the token, and --from doppler://PROJECT/CONFIG if the token does not imply them"));
        };
        let document = Document::read(input.stream, is_unauthenticated(&input.name)).await?;
        stands(&document)?;
        let scope = match (scope, document.place()) {
            (Scope { project: None, config: None }, Some((project, config)))
                if connection.kind_by_prefix() != Some("service token") =>
            {
                Scope::of(project, config)
            }
            (scope, _) => scope.clone(),
        };
        let live = connection.secrets(&scope, &cx.cancel).await?;
        let mut checks = vec![secrets(&document)];
        checks.extend(drift::compare(&document.secrets, &live, self.options.max_drift)?);
        Ok(checks)
    }
}

/// Whether it is of a format of secrets.
fn known(name: &ArtifactName) -> Result<()> {
    let format = name.format_or(FORMAT);
    if format == FORMAT || format.ends_with(&format!(".{FORMAT}")) {
        return Ok(());
    }
    let why = format!("format \"{}\" is not a format of secrets", name.format);
    Err(Error::new(ErrorKind::Unsupported, "verify", name.to_string(), why)
        .hint("secrets are stored as .json, or by scripts as <name>-<time>.json.enc or <name>-<time>.enc"))
}

/// The check of the number of secrets, with a sample of names, and a warning about those without a value.
fn secrets(document: &Document) -> Check {
    let names: Vec<&str> = document.secrets.keys().map(String::as_str).collect();
    let without: Vec<&str> =
        document.secrets.iter().filter(|(_, s)| s.value().is_none()).map(|(n, _)| n.as_str()).collect();
    let figure = names.len().to_string();
    if !without.is_empty() {
        let detail = format!("without a value, because they are restricted: {}", listed(&without));
        return Check::warn("secrets", format!("{figure}, {} without a value", without.len()), detail);
    }
    let kind = if document.has_raw_values() { "" } else { "; computed values only, references are lost" };
    Check::pass("secrets", figure, format!("{}{kind}", listed(&names)))
}

/// Writes the secrets in a form, reads them back, and compares them with the proof or, without one, with the document.
fn try_form(form: &Form, document: &Document, salt: &Salt, proof: Option<&Proof>) -> Result<Vec<Check>> {
    let name = format!("restore: {form}");
    let (body, left_out) = form.write(&document.secrets)?;
    let Some(back) = form.read(body.as_slice()) else {
        return Ok(vec![Check::fail(name, "not read", "what was written does not read back")]);
    };
    let expected = |secret: &str| -> Option<String> {
        match proof {
            Some(proof) => proof.details.get(VALUES)?.get(secret)?.as_str().map(str::to_owned),
            None => Some(salt.of_value(secret, document.secrets.get(secret)?.value()).to_string()),
        }
    };
    let differing: Vec<&str> = back
        .iter()
        .filter(|(secret, value)| expected(secret) != Some(salt.of_value(secret, Some(value.expose())).to_string()))
        .map(|(secret, _)| secret.as_str())
        .collect();
    // What the source saw with a value, and is in neither the form nor the list of what that cannot hold.
    let lost: Vec<&str> = proof
        .map(|proof| {
            let restricted = proof.details.get(RESTRICTED).and_then(|r| r.as_array());
            let is_restricted = |n: &str| restricted.is_some_and(|r| r.iter().any(|x| x == n));
            let in_form = |n: &str| back.contains_key(n) || left_out.iter().any(|l| l.name == n);
            proof.items.iter().map(|i| i.name.as_str()).filter(|n| !in_form(n) && !is_restricted(n)).collect()
        })
        .unwrap_or_default();
    if !differing.is_empty() || !lost.is_empty() {
        let names = listed(&[differing, lost].concat());
        return Ok(vec![Check::fail(name, "differs", format!("different from the backup: {names}"))]);
    }
    let with = if proof.is_some() { "the proof" } else { "what was stored" };
    let mut checks =
        vec![Check::pass(name, back.len().to_string(), format!("written, read back, and equal to {with}"))];
    // Restricted secrets are reported once, not for each form.
    let told: Vec<Check> = told(&left_out).into_iter().filter(|c| !c.detail.contains("restricted")).collect();
    checks.extend(told.into_iter().map(|mut check| {
        check.name = format!("left out: {form}");
        check
    }));
    Ok(checks)
}

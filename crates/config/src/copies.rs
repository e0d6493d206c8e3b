//! `[copies.NAME]`: copies of trees that Lifeboat did not write.

use std::ops::Range;

use lifeboat_core::pipeline::{Deletion, TreeCopy};
use lifeboat_core::words::suggest;
use lifeboat_core::{Context, Dataset, Result as Outcome, Setting};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::mistake::Mistake;
use crate::reader::{Config, JobConfig, Reader, of_error};

lifeboat_core::described! {
/// `[copies.NAME]`, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Copy {
    /// The sink in which the tree is. Required.
    /// Example: `from = "minio"`
    from: Spanned<String>,
    /// The sinks that get a copy. Required.
    /// Example: `to = ["offsite"]`
    to: Vec<Spanned<String>>,
    /// The folder in from. Default: everything in that sink.
    /// Example: `prefix = "velero"`
    prefix: Option<Spanned<String>>,
    /// The folder in each of to. Default: as prefix, or the copy's name.
    /// Example: `into = "copies/velero"`
    into: Option<Spanned<String>>,
    /// What happens to what is no longer at the source. false: it stays; true: it is deleted, unless it is more than half of the
    /// copy; "all": it is deleted. Default: false.
    /// Example: `delete_extra = true`
    #[serde(default, deserialize_with = "delete_extra")]
    delete_extra: Deletion,
}
}

/// `delete_extra = true`, `false` or `"all"`.
fn delete_extra<'de, D: Deserializer<'de>>(d: D) -> Result<Deletion, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Flag(bool),
        Text(String),
    }
    let wrong = || serde::de::Error::custom("delete_extra is true, false or \"all\"");
    match Either::deserialize(d).map_err(|_| wrong())? {
        Either::Flag(false) => Ok(Deletion::Never),
        Either::Flag(true) => Ok(Deletion::AtMostHalf),
        Either::Text(text) if text == "all" => Ok(Deletion::All),
        Either::Text(_) => Err(wrong()),
    }
}

/// The table `[copies.NAME]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopyConfig {
    /// The name of the copy.
    pub name: String,
    /// The source: a sink in the config file, like each of `to`.
    pub from: String,
    /// The destinations.
    pub to: Vec<String>,
    /// The folder in the source.
    pub prefix: Option<Setting>,
    /// The folder in the destinations.
    pub into: Option<Setting>,
    /// What to delete from the copies.
    pub deletion: Deletion,
}

impl CopyConfig {
    /// The folder in the source, before variables are replaced.
    fn raw_prefix(&self) -> &str {
        self.prefix.as_ref().map_or("", Setting::raw).trim_matches('/')
    }

    /// The folder in the destination, before variables are replaced.
    fn raw_into(&self) -> &str {
        match (&self.into, self.raw_prefix()) {
            (Some(into), _) => into.raw().trim_matches('/'),
            (None, "") => &self.name,
            (None, prefix) => prefix,
        }
    }

    /// Whether this folder of a sink is in the tree or its copy.
    pub fn covers(&self, sink: &str, folder: &str) -> bool {
        let within = |tree: &str| tree.is_empty() || format!("{folder}/").starts_with(&format!("{tree}/"));
        (sink == self.from && within(self.raw_prefix()))
            || (self.to.iter().any(|to| to == sink) && within(self.raw_into()))
    }

    /// The copies to make: one for each destination, by the name of its sink.
    ///
    /// # Errors
    /// [`Config`](lifeboat_core::ErrorKind::Config) for a sink that cannot be opened or a variable that is not set.
    pub fn open(
        &self,
        config: &Config,
        deletion: Option<Deletion>,
        context: &Context,
    ) -> Outcome<Vec<(String, TreeCopy)>> {
        let text = |setting: &Option<Setting>| setting.as_ref().map(Setting::text).transpose();
        let from = config.sink(&self.from)?;
        let mut copies = Vec::new();
        for name in &self.to {
            let to = config.sink(name)?;
            let mut tree = TreeCopy::new(&self.name, from.sink.clone(), to.sink)?
                .layouts(config.layouts.clone())
                .context(Context::default().limiter(config.limiter.clone()))
                .context(context.clone());
            if let Some(prefix) = text(&self.prefix)? {
                tree = tree.prefix(&prefix);
            }
            if let Some(into) = text(&self.into)? {
                tree = tree.into_folder(&into);
            }
            copies.push((name.clone(), tree.deletion(deletion.unwrap_or(self.deletion))));
        }
        Ok(copies)
    }
}

impl Reader<'_> {
    pub(crate) fn copy(
        &mut self,
        name: &str,
        span: &Range<usize>,
        copy: Copy,
        jobs: &[JobConfig],
    ) -> Option<CopyConfig> {
        let table = format!("[copies.{name}]");
        if let Err(error) = Dataset::new(name) {
            self.mistakes.push(of_error(&error, span.start, "the name", &table));
        }
        if jobs.iter().any(|job| job.name == name) {
            let message = format!("{table} has the same name as [jobs.{name}]");
            self.mistakes.push(
                Mistake::new(span.start, message)
                    .hint("rename one of them: `lifeboat replicate NAME` must name only one"),
            );
        }
        let known: Vec<String> = self.named.sinks.keys().cloned().collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for sink in copy.to.iter().chain([&copy.from]) {
            if !known.contains(&sink.get_ref().as_str()) && !self.named.partial {
                let message = format!("there is no sink \"{}\"", sink.get_ref());
                self.mistakes.push(Mistake::new(sink.span().start, message).hint(suggest(sink.get_ref(), &known)));
            }
        }
        if copy.to.is_empty() {
            let message = format!("{table} names no sink to copy to");
            self.mistakes.push(Mistake::new(span.start, message).hint("write to = [\"NAME\"]"));
        }
        let read = |value: Option<Spanned<String>>, key: &str| value.map(|v| self.spanned(v, key, &table));
        let config = CopyConfig {
            name: name.to_owned(),
            from: copy.from.get_ref().clone(),
            to: copy.to.iter().map(|to| to.get_ref().clone()).collect(),
            prefix: read(copy.prefix, "prefix"),
            into: read(copy.into, "into"),
            deletion: copy.delete_extra,
        };
        if config.raw_into().is_empty() {
            let message =
                format!("into of {table}: the copy's record would be stored in it, among another tool's objects");
            self.mistakes.push(Mistake::new(span.start, message).hint("give the copy its own folder"));
        }
        for to in &copy.to {
            if to.get_ref() == copy.from.get_ref() {
                let message = format!("{table} copies from sink \"{}\" into itself", to.get_ref());
                let hint = "copy to a sink that fails independently";
                self.mistakes.push(Mistake::new(to.span().start, message).hint(hint));
            }
        }
        Some(config)
    }
}

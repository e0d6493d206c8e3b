//! Velero as a system: its backups of a Kubernetes cluster, copied out of the storage location.

use std::sync::Arc;

use async_trait::async_trait;
use lifeboat_core::Field;
use lifeboat_core::system::{Defaults, NamedTarget, Opening, System};
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Compression, Context, Dataset, Error, ErrorKind, Level, Manifest, Place, Result, Setting,
    Sink, Source, Verifier,
};

use super::settings::{VeleroSettings, is_claim};
use super::{
    Cluster, ConnectOptions, MAX_AGE, RestoreOptions, RestoreTestOptions, ScheduleSettings, Use, Velero, VeleroTarget,
    VeleroVerifier, VerifierOptions,
};

/// The destination of a restore: the cluster itself.
pub(crate) const INTO: &str = "velero://";

/// Velero: its backups of a cluster.
#[derive(Clone, Debug)]
pub struct VeleroSystem {
    settings: VeleroSettings,
    /// The bucket and prefix of Velero's storage location.
    location: Option<Place>,
}

impl VeleroSystem {
    /// Creates a client for the cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a usable kubeconfig.
    pub async fn cluster(&self) -> Result<Cluster> {
        let VeleroSettings { kubeconfig, context, velero_namespace, .. } = &self.settings;
        let namespace = velero_namespace.clone().filter(|name| !name.is_empty());
        Cluster::connect(&ConnectOptions {
            kubeconfig: kubeconfig.as_ref().map(Setting::path).transpose()?,
            context: context.clone(),
            namespace: namespace.unwrap_or_else(|| ConnectOptions::default().namespace),
            ..ConnectOptions::default()
        })
        .await
    }

    /// Opens the bucket and prefix of the storage location.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it was not given, or cannot be opened.
    pub fn location(&self) -> Result<Arc<dyn Sink>> {
        match &self.location {
            Some(location) => location.open(),
            None => Err(Error::new(ErrorKind::Config, "find", "Velero's bucket", "no location was given").hint(
                "give the bucket and prefix of the storage location with --location s3://bucket/prefix, or set LIFEBOAT_LOCATION",
            )),
        }
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &VeleroSettings {
        &self.settings
    }

    /// The schedules that the cluster should have.
    pub fn schedules(&self) -> Vec<ScheduleSettings> {
        self.settings.schedules.values().cloned().collect()
    }
}

#[async_trait]
impl System for VeleroSystem {
    const NAME: &'static str = super::SYSTEM;
    const TITLE: &'static str = "Velero";
    const ABOUT: &'static str =
        "Restore-tests Velero's backups of a cluster, and keeps copies of them in a place that fails independently";
    const EXAMPLE: &'static str = "velero = { location = \"s3://velero/production\" }";

    type Settings = VeleroSettings;
    type Restore = RestoreOptions;
    type Verify = RestoreTestOptions;

    fn tables() -> Vec<(&'static str, &'static [Field])> {
        vec![
            ("", VeleroSettings::FIELDS),
            ("test", RestoreTestOptions::FIELDS),
            ("schedules.NAME", ScheduleSettings::FIELDS),
        ]
    }

    fn unit(kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn open(mut settings: VeleroSettings, opening: &Opening<'_>) -> Result<Self> {
        // A variable set to an empty string counts as an absent flag.
        let named = |setting: &&Setting| !(opening.is_of_flags() && setting.raw().is_empty());
        let location = settings.location.as_ref().filter(named).map(|named| place(named, opening)).transpose()?;
        settings.kubeconfig = settings.kubeconfig.filter(|path| named(&path));
        for claim in &settings.must_cover {
            if !is_claim(claim.raw()) {
                return Err(claim
                    .wrong(format!("\"{}\" is not a claim", claim.raw()))
                    .hint("write namespace/name, as in must_cover = [\"shop/data\"]"));
            }
        }
        if settings.test.as_ref().is_some_and(|test| test.namespace.is_none()) {
            return Err(Error::new(ErrorKind::Config, "use", "the restore test", "no namespace was named")
                .hint("name the one to restore: test = { namespace = \"shop\" }"));
        }
        for (name, schedule) in &mut settings.schedules {
            schedule.name.clone_from(name);
            schedule.check_cron()?;
            schedule.validate()?;
        }
        Ok(Self { settings, location })
    }

    fn defaults() -> Defaults {
        // The contents are already compressed.
        Defaults::compressed(Compression::None).max_age(MAX_AGE)
    }

    fn formats() -> &'static [&'static str] {
        &[super::FORMAT]
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        Dataset::new(self.settings.dataset()).map(Some)
    }

    fn plain_settings() -> &'static [&'static str] {
        &["location", "kubeconfig", "must_cover", "cron"]
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        let location = self.location()?;
        Ok(Box::new(Velero::new(self.cluster().await?, location, self.settings.clone())))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, _: &Dataset) -> Result<NamedTarget> {
        choices.validate()?;
        if into.text()? != INTO {
            return Err(into.wrong("it is not the job's cluster").hint(format!(
                "write --into {INTO}; the cluster and the storage location that the copy goes back to are the job's"
            )));
        }
        let (cluster, location) = (self.cluster().await?, self.location()?);
        let name = format!("the cluster {}, through {}", cluster.server(), location.url());
        Ok(NamedTarget::new(VeleroTarget::new(cluster, location, choices), name))
    }

    async fn verifier(&self, level: Level, choices: RestoreTestOptions) -> Result<Box<dyn Verifier>> {
        if choices.backup.is_some() {
            let why = "with --sink, a copy is tested";
            return Err(Error::new(ErrorKind::Config, "use", "--backup", why).hint("choose it by --dataset and --at"));
        }
        let test = choices.over(self.settings.test.clone().unwrap_or_default());
        if level == Level::Restore && test.namespace.is_none() {
            return Err(Error::new(ErrorKind::Config, "test", "the restore", "no namespace to restore was named").hint(
                "name one with --namespace, or test = { namespace = \"shop\" } in the job; --level structure needs none",
            ));
        }
        let live = match level {
            Level::Restore | Level::Live => Some((self.cluster().await?, self.location()?)),
            _ => None,
        };
        let claims = self.settings.must_cover.iter().map(|claim| claim.raw().to_owned());
        Ok(Box::new(VeleroVerifier::new(VerifierOptions {
            live,
            schedule: self.settings.from_schedule.clone(),
            max_age: MAX_AGE,
            must_cover: claims.chain(test.must_cover.iter().cloned()).collect(),
            test: test.namespace.is_some().then(|| RestoreTestOptions { must_cover: Vec::new(), ..test }),
        })))
    }

    async fn check(&self) -> Vec<Check> {
        let cluster = match self.cluster().await {
            Ok(cluster) => cluster,
            Err(error) => return vec![Check::from_error("cluster", &error)],
        };
        let location = match self.location.as_ref().map(Place::open).transpose() {
            Ok(location) => location,
            Err(error) => return vec![Check::from_error("location", &error)],
        };
        let storage_location = self.settings.storage_location.as_deref();
        super::check(&cluster, location.as_ref(), storage_location, &self.uses(), &Context::default()).await
    }

    fn foreign_place(&self) -> Option<&Place> {
        self.location.as_ref()
    }

    fn layouts() -> Vec<lifeboat_core::pipeline::TreeLayout> {
        super::layouts()
    }

    fn stock_restore(&self, name: &ArtifactName, _: Option<&Manifest>) -> String {
        super::stock_restore(name).to_owned()
    }
}

impl VeleroSystem {
    /// The uses that need rights.
    fn uses(&self) -> Vec<Use> {
        let alone = self.settings.check_test_of.as_deref().map(RestoreTestOptions::new);
        let mut uses = if alone.is_some() { Vec::new() } else { vec![Use::List, Use::Backup] };
        if let Some(test) = alone.as_ref().or(self.settings.test.as_ref()) {
            let scratch_namespace = test.scratch().to_owned();
            uses.push(Use::RestoreTest {
                namespace: test.namespace.clone().unwrap_or_default(),
                scratch_namespace: scratch_namespace.clone(),
            });
            if test.pods_ready.is_some() {
                uses.push(Use::PodsReady { scratch_namespace });
            }
        }
        if !self.settings.schedules.is_empty() {
            uses.push(Use::Schedules);
        }
        uses
    }
}

/// The sink that is named as Velero's location.
fn place(named: &Setting, opening: &Opening<'_>) -> Result<Place> {
    opening.place(named).map_err(|error| {
        let what = "it is the sink, or the URL, of the bucket and prefix in which Velero stores";
        let hint = error.advice().map_or_else(|| what.to_owned(), |advice| format!("{advice}; {what}"));
        error.hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use lifeboat_core::system::Sinks;
    use lifeboat_core::words::suggest;
    use serde_json::{Value, json};

    use super::*;

    /// One sink, called velero, and URLs.
    struct Named;

    impl Sinks for Named {
        fn place(&self, named: &Setting) -> Result<Place> {
            let name = named.raw().to_owned();
            if name != "velero" && !name.contains("://") {
                return Err(named.wrong(format!("there is no sink \"{name}\"")).hint(suggest(&name, &["velero"])));
            }
            Ok(Place::new(name, || Err(Error::new(ErrorKind::Internal, "open", "the sink", "this is a test"))))
        }
    }

    fn read(value: Value) -> VeleroSettings {
        serde_json::from_value(value).unwrap()
    }

    fn open(value: Value) -> Result<VeleroSystem> {
        VeleroSystem::open(read(value), &Opening::of_table(&Named))
    }

    fn whole() -> Value {
        json!({
            "location": "velero", "kubeconfig": "~/.kube/prod", "context": "prod", "velero_namespace": "backups",
            "from_schedule": "daily", "namespaces": ["shop"], "exclude_namespaces": ["tmp"], "labels": {"app": "web"},
            "ttl": "30d", "storage_location": "default", "snapshot_volumes": false,
            "default_volumes_to_fs_backup": true, "limit": "6h", "must_cover": ["shop/data"],
            "test": {"namespace": "shop", "scratch_namespace": "scratch", "pods_ready": "5min", "limit": "20min"},
            "schedules": {"daily": {"cron": "0 2 * * *", "ttl": "7d", "labels": {"app": "web"}, "paused": true}},
        })
    }

    #[test]
    fn a_table_is_read_as_it_is_documented() {
        let system = open(whole()).unwrap();
        assert_eq!(system.foreign_place().unwrap().name(), "velero");
        assert_eq!(System::dataset(&system).unwrap().unwrap().as_str(), "daily");
        let [daily] = &system.schedules()[..] else { panic!() };
        assert_eq!((&*daily.name, daily.cron.raw(), daily.paused), ("daily", "0 2 * * *", Some(true)));
        assert_eq!(system.settings.limit.unwrap().0.as_secs(), 6 * 3600);
        let test = system.settings.test.as_ref().unwrap();
        assert_eq!((test.scratch(), test.pods_ready.unwrap().0.as_secs()), ("scratch", 300));
        assert!(system.uses().contains(&Use::Schedules) && system.uses().contains(&Use::Backup));

        let least = open(json!({"location": "s3://velero"})).unwrap();
        assert_eq!(System::dataset(&least).unwrap().unwrap().as_str(), "cluster");
        assert_eq!(least.uses(), [Use::List, Use::Backup]);
        let one = open(json!({"location": "s3://velero", "namespaces": ["shop"]})).unwrap();
        assert_eq!(System::dataset(&one).unwrap().unwrap().as_str(), "shop");
    }

    #[test]
    fn what_the_tables_do_not_have_is_refused() {
        let refused = |value: Value| serde_json::from_value::<VeleroSettings>(value).unwrap_err().to_string();
        assert!(refused(json!({})).contains("missing field `location`"));
        for (place, key) in [
            ("", "namespace"),
            ("", "check_test_of"),
            ("/test", "backup"),
            ("/test", "must_cover"),
            ("/schedules/daily", "name"),
        ] {
            let mut value = whole();
            value.pointer_mut(place).unwrap()[key] = json!("x");
            let error = refused(value);
            assert!(error.contains(&format!("unknown field `{key}`")), "{place}: {error}");
        }
        assert!(serde_json::from_value::<RestoreOptions>(json!({"map": {}})).is_err());
        let chosen = json!({"namespace_mapping": {"shop": "again"}, "existing": "update"});
        let chosen: RestoreOptions = serde_json::from_value(chosen).unwrap();
        assert_eq!(chosen.namespace_mapping, [super::super::Pair::new("shop", "again")]);
    }

    #[test]
    fn a_mistake_is_told_at_its_setting() {
        let mut with = whole();
        with["location"] = json!("valero");
        let error = open(with).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Config, "there is no sink \"valero\""));
        let hint = error.advice().unwrap();
        assert!(hint.contains("did you mean \"velero\"?; it is the sink, or the URL, of the bucket"), "{hint}");
        for claim in ["shop", "shop/", "/data", "a/b/c"] {
            let mut with = whole();
            with["must_cover"] = json!([claim]);
            assert_eq!(open(with).unwrap_err().message(), format!("\"{claim}\" is not a claim"));
        }
        for (cron, why) in
            [("0 25 * * *", "its hour \"25\""), ("0 3 * * 0#1", "knows no #"), ("0 3 * *", "five fields")]
        {
            let mut with = whole();
            with["schedules"]["daily"]["cron"] = json!(cron);
            let error = open(with).unwrap_err();
            assert!(error.message().contains(why), "{cron}: {error}");
            assert_eq!(error.subject(), "the settings", "the place of the setting");
        }
        let mut with = whole();
        with["test"] = json!({"pods_ready": "5min"});
        assert_eq!(open(with).unwrap_err().message(), "no namespace was named");
    }

    #[tokio::test]
    async fn what_was_chosen_goes_before_what_the_job_says() {
        let chosen = RestoreTestOptions { namespace: Some("blog".to_owned()), ..RestoreTestOptions::default() };
        let job = open(whole()).unwrap().settings.test.unwrap();
        let both = chosen.over(job);
        assert_eq!((both.namespace.as_deref(), both.scratch()), (Some("blog"), "scratch"));

        let system = open(json!({"location": "velero"})).unwrap();
        let options = RestoreTestOptions::default();
        let error = System::verifier(&system, Level::Restore, options.clone()).await.err().unwrap();
        assert_eq!(error.message(), "no namespace to restore was named");
        assert!(System::verifier(&system, Level::Structure, options.clone()).await.is_ok());
        let named = RestoreTestOptions { backup: Some("daily-1".to_owned()), ..options };
        let error = System::verifier(&system, Level::Structure, named).await.err().unwrap();
        assert_eq!((error.subject(), error.advice()), ("--backup", Some("choose it by --dataset and --at")));
    }

    #[tokio::test]
    async fn a_restore_goes_into_the_cluster_of_the_job() {
        let system = open(whole()).unwrap();
        let dataset = Dataset::new("daily").unwrap();
        let into = Setting::argument("s3://elsewhere", "--into");
        let error = System::target(&system, &into, RestoreOptions::default(), &dataset).await.err().unwrap();
        assert!(error.advice().unwrap().contains("write --into velero://"), "{error:?}");
        let replacing = RestoreOptions { replace: true, ..RestoreOptions::default() };
        let error = System::target(&system, &into.with(INTO), replacing, &dataset).await.err().unwrap();
        assert_eq!(error.subject(), "--replace");
        assert!(error.advice().unwrap().contains("--existing update"));
    }

    #[test]
    fn without_flags_there_is_no_location_and_no_error() {
        let nothing = VeleroSettings { location: Some(Setting::given("", "--location")), ..VeleroSettings::default() };
        let system = VeleroSystem::open(nothing, &Opening::of_flags(&Named)).unwrap();
        assert!(system.foreign_place().is_none());
        assert!(system.location().unwrap_err().advice().unwrap().contains("--location s3://bucket/prefix"));
    }
}

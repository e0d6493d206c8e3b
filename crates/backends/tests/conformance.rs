//! Systems, targets and verifiers keep what their traits promise: those that need nothing but files, and PostgreSQL's on a server of
//! its own.
#![cfg(all(
    feature = "cloudflare-dns",
    feature = "command",
    feature = "doppler",
    feature = "mongodb",
    feature = "postgres",
    feature = "velero"
))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use lifeboat_backends::cloudflare::{
    self, Api, CloudflareSystem, CloudflareVerifier, CloudflareZone, ZoneFileTarget, ZoneRef,
};
use lifeboat_backends::command::CommandSystem;
use lifeboat_backends::doppler::{self, Doppler, DopplerSystem, DopplerVerifier, Form, Scope, SecretsFile};
use lifeboat_backends::mongodb::MongoSystem;
use lifeboat_backends::outfile::Destination;
use lifeboat_backends::postgres::{
    self, Connection, Postgres, PostgresSystem, PostgresTarget, PostgresVerifier, RestoreOptions,
};
use lifeboat_backends::velero::VeleroSystem;
use lifeboat_core::{ArtifactName, Context, Source, Target, Verifier, async_trait, stream};
use lifeboat_testkit::cloudflare::{ALL, Cloudflare};
use lifeboat_testkit::conformance::{system, target, verifier};
use lifeboat_testkit::doppler::{Access, FakeDoppler};
use lifeboat_testkit::postgres::{Database, Server};
use serde_json::json;

/// The plaintext of a backup.
async fn plaintext(source: impl Source) -> Bytes {
    let reading = source.open(&Context::default()).await.unwrap();
    stream::collect(reading.stream, 64 << 20, "the backup").await.unwrap()
}

// ---- targets that write a file ----

struct ToFile {
    name: &'static str,
    plaintext: Bytes,
    target: fn(Destination) -> Box<dyn Target>,
}

struct Folder {
    folder: tempfile::TempDir,
    target: fn(Destination) -> Box<dyn Target>,
}

#[async_trait]
impl target::Fixture for ToFile {
    fn name(&self) -> ArtifactName {
        self.name.parse().unwrap()
    }
    fn plaintext(&self) -> Bytes {
        self.plaintext.clone()
    }
    async fn place(&self) -> Box<dyn target::Place> {
        Box::new(Folder { folder: tempfile::tempdir().unwrap(), target: self.target })
    }
}

impl Folder {
    fn file(&self) -> PathBuf {
        self.folder.path().join("file")
    }
}

#[async_trait]
impl target::Place for Folder {
    fn target(&self, replace: bool) -> Box<dyn Target> {
        (self.target)(Destination::File { path: self.file(), replace })
    }
    async fn state(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> =
            files.map(|f| (f.file_name(), String::from_utf8(std::fs::read(f.path()).unwrap()).unwrap())).collect();
        files.sort();
        format!("{files:?}")
    }
    async fn fill(&self) {
        std::fs::write(self.file(), "somebody else's").unwrap();
    }
}

// ---- artifacts for verifiers ----

struct Judged<V> {
    verifier: V,
    name: &'static str,
    plaintext: Bytes,
    altered: Bytes,
    /// Whether it takes artifacts of any name.
    takes_any_name: bool,
    scratch: tempfile::TempDir,
}

#[async_trait]
impl<V: Verifier> verifier::Fixture for Judged<V> {
    fn verifier(&self) -> &dyn Verifier {
        &self.verifier
    }
    fn name(&self) -> ArtifactName {
        self.name.parse().unwrap()
    }
    fn plaintext(&self) -> Bytes {
        self.plaintext.clone()
    }
    fn altered(&self) -> Vec<(String, Bytes)> {
        vec![("another value".to_owned(), self.altered.clone())]
    }
    fn unknown(&self) -> Option<ArtifactName> {
        let name = verifier::Fixture::name(self);
        (!self.takes_any_name).then(|| name.format("unheard-of"))
    }
    async fn scratch(&self) -> Vec<String> {
        let left = std::fs::read_dir(self.scratch.path()).unwrap();
        left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

// ---- Cloudflare ----

const ZONE: &str = "example.org-20261121-033000.tar";

async fn zone(address: &str) -> Bytes {
    let cloudflare = Cloudflare::new();
    cloudflare.token("a-token", &ALL);
    cloudflare.zone("example.org");
    for n in 0..20 {
        cloudflare.add("example.org", json!({"type": "A", "name": format!("h{n}"), "content": "192.0.2.1"}));
    }
    cloudflare.add("example.org", json!({"type": "A", "name": "www", "content": address}));
    let (_server, url) = cloudflare.serve();
    let api = Api::new("a-token".to_owned().into(), "TOKEN", Some(&url)).unwrap();
    plaintext(CloudflareZone::new(api, ZoneRef::parse("example.org").unwrap())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_file_of_cloudflare() {
    let target = |destination| Box::new(ZoneFileTarget::new(destination)) as Box<dyn Target>;
    target::all(&ToFile { name: ZONE, plaintext: zone("192.0.2.2").await, target }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verifier_of_cloudflare() {
    let scratch = tempfile::tempdir().unwrap();
    verifier::all(&Judged {
        verifier: CloudflareVerifier::new(cloudflare::VerifierOptions::default()),
        name: ZONE,
        plaintext: zone("192.0.2.2").await,
        altered: zone("192.0.2.3").await,
        takes_any_name: false,
        scratch,
    })
    .await;
}

// ---- Doppler ----

const SECRETS: &str = "backend.prd-20261121-033000.json.age";

async fn secrets(value: &str) -> Bytes {
    const TOKEN: &str = "dp.pt.personal000000000000000000000000000000000000";
    let doppler = FakeDoppler::new([(TOKEN, Access::Personal)]);
    for n in 0..20 {
        doppler.set("backend", "prd", &format!("SECRET_{n}"), &format!("value-{n}"), "masked");
    }
    doppler.set("backend", "prd", "OTHER", value, "masked");
    let server = doppler.serve();
    let connection = doppler::Connection::new(TOKEN.to_owned().into(), "DOPPLER_TOKEN", Some(&server.url())).unwrap();
    plaintext(Doppler::new(connection, Scope::of("backend", "prd")).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_doppler() {
    let target = |destination| Box::new(SecretsFile::new(destination, Form::Env)) as Box<dyn Target>;
    target::all(&ToFile { name: SECRETS, plaintext: secrets("one").await, target }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verifier_of_doppler() {
    let scratch = tempfile::tempdir().unwrap();
    verifier::all(&Judged {
        verifier: DopplerVerifier::new(doppler::VerifierOptions::default()),
        name: SECRETS,
        plaintext: secrets("one").await,
        altered: secrets("two").await,
        takes_any_name: false,
        scratch,
    })
    .await;
}

// ---- PostgreSQL ----

const DUMP: &str = "shop-20261121-033000.dump";
const TABLE: &str = "CREATE TABLE t AS SELECT i AS id, md5(i::text) AS x FROM generate_series(1, 1000) i";

fn connection(url: &str) -> Connection {
    Connection::parse(&url.to_owned().into()).unwrap()
}

async fn dump(server: &Server, then: &str) -> Bytes {
    let live = Database::on(&server.url);
    live.run(TABLE);
    live.run(then);
    plaintext(Postgres::new(connection(&live.url))).await
}

struct OnServer {
    server: Server,
    plaintext: Bytes,
}

struct IntoDatabase {
    database: Database,
    server: String,
}

#[async_trait]
impl target::Fixture for OnServer {
    fn name(&self) -> ArtifactName {
        DUMP.parse().unwrap()
    }
    fn plaintext(&self) -> Bytes {
        self.plaintext.clone()
    }
    async fn place(&self) -> Box<dyn target::Place> {
        Box::new(IntoDatabase { database: Database::on(&self.server.url), server: self.server.url.clone() })
    }
}

#[async_trait]
impl target::Place for IntoDatabase {
    fn target(&self, replace: bool) -> Box<dyn Target> {
        let options = RestoreOptions::default().replace(replace);
        Box::new(PostgresTarget::new(connection(&self.database.url), options))
    }
    async fn state(&self) -> String {
        let beside = "SELECT count(*) FROM pg_database WHERE datname LIKE '%lifeboat%'";
        let beside = lifeboat_testkit::postgres::psql(&self.server, beside);
        let rows = match self.database.run("SELECT to_regclass('public.t') IS NOT NULL").trim() {
            "t" => self.database.run("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t"),
            _ => "none".to_owned(),
        };
        format!("{}\nrows: {rows}\nbeside it: {beside}", self.database.schema())
    }
    async fn fill(&self) {
        self.database.run("CREATE TABLE somebody_elses AS SELECT 1 AS one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_of_postgresql() {
    let server = Server::start();
    let plaintext = dump(&server, "").await;
    target::all(&OnServer { server, plaintext }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verifier_of_postgresql() {
    let (server, scratch) = (Server::start(), tempfile::tempdir().unwrap());
    // As the system's temporary folder is: the scratch server does not run as root, and removes its folder itself.
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let options = postgres::VerifierOptions::default().scratch_folder(scratch.path().to_owned());
    verifier::all(&Judged {
        verifier: PostgresVerifier::new(options),
        name: DUMP,
        plaintext: dump(&server, "").await,
        altered: dump(&server, "UPDATE t SET x = 'another' WHERE id = 7").await,
        // What scripts have made has names of all kinds: its first bytes tell its format.
        takes_any_name: true,
        scratch,
    })
    .await;
}

// ---- systems ----

/// Tables of jobs.
struct Jobs {
    job: Option<String>,
    locked: &'static str,
    mistakes: &'static [&'static str],
}

impl system::Fixture for Jobs {
    fn job(&self) -> Option<String> {
        self.job.clone()
    }
    fn locked(&self) -> Option<String> {
        Some(self.locked.to_owned())
    }
    fn mistakes(&self) -> Vec<String> {
        self.mistakes.iter().map(|table| (*table).to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_command() {
    let job = Some(r#"run = ["printf", "%s\\n", "one", "two"]"#.to_owned());
    let locked = r#"run = ["true"]
env = { TOKEN = "${LIFEBOAT_SUITE_NOT_SET}" }"#;
    let mistakes = &[
        "run = []",
        "run = \"date\"",
        r#"run = ["date"]
format = "a/b""#,
    ];
    system::all::<CommandSystem>(&Jobs { job, locked, mistakes }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_postgresql() {
    let server = Server::start();
    let live = Database::on(&server.url);
    live.run(TABLE);
    let job = Some(format!("url = {:?}", live.url));
    let locked = "url = \"${LIFEBOAT_SUITE_NOT_SET}\"";
    let mistakes = &["", "url = 7", "url = \"${U}\"\nglobals = true\nschemas = [\"public\"]"];
    system::all::<PostgresSystem>(&Jobs { job, locked, mistakes }).await;
}

// Its database has a runtime of its own.
#[test]
fn the_system_mongodb() {
    let live = lifeboat_testkit::mongo::Database::fresh();
    live.run(bson::doc! { "insert": "orders", "documents": [{ "_id": 1, "total": 2 }] });
    let job = Some(format!("url = {:?}", live.url));
    let locked = "url = \"${LIFEBOAT_SUITE_NOT_SET}\"";
    let mistakes = &["", "url = 7"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(system::all::<MongoSystem>(&Jobs { job, locked, mistakes }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_cloudflare_dns() {
    let cloudflare = Cloudflare::new();
    cloudflare.token("a-token", &ALL);
    for zone in ["example.org", "example.net"] {
        cloudflare.zone(zone);
        cloudflare.add(zone, json!({"type": "A", "name": "www", "content": "192.0.2.1"}));
    }
    let (_server, url) = cloudflare.serve();
    let locked = "zone = \"example.org\"\ntoken = \"${LIFEBOAT_SUITE_NOT_SET}\"";
    let mistakes = &["", "zone = \"\"", "zone = \"a zone\""];
    for zone in ["example.org", "*"] {
        let job = Some(format!("zone = \"{zone}\"\ntoken = \"a-token\"\napi_url = \"{url}\""));
        system::all::<CloudflareSystem>(&Jobs { job, locked, mistakes }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_doppler() {
    const TOKEN: &str = "dp.pt.personal000000000000000000000000000000000000";
    let doppler = FakeDoppler::new([(TOKEN, Access::Personal)]);
    for config in ["prd", "stg"] {
        doppler.set("backend", config, "KEY", config, "masked");
    }
    let (server, folder) = (doppler.serve(), tempfile::tempdir().unwrap());
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let locked = "project = \"backend\"\nconfig = \"prd\"\ntoken = \"${LIFEBOAT_SUITE_NOT_SET}\"";
    let mistakes = &["config = \"\"", "token = \"dp.pt.personal\"", "project = \"a project\""];
    for config in ["prd", "*"] {
        let (token, url) = (token.display(), server.url());
        let job =
            format!("project = \"backend\"\nconfig = \"{config}\"\ntoken = \"file:{token}\"\napi_url = \"{url}\"");
        system::all::<DopplerSystem>(&Jobs { job: Some(job), locked, mistakes }).await;
    }
}

/// What needs a cluster is in the tests of Velero.
#[tokio::test(flavor = "multi_thread")]
async fn the_system_velero() {
    let locked = "location = \"s3://velero\"\nkubeconfig = \"${LIFEBOAT_SUITE_NOT_SET}\"";
    let mistakes = &["location = 7", "location = \"s3://velero\"\nmust_cover = [\"data\"]"];
    system::all::<VeleroSystem>(&Jobs { job: None, locked, mistakes }).await;
}

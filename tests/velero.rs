//! Velero through the binaries, on a real server with a real Kubernetes API: the full circle, jobs of a config file, every
//! refusal.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::time::Duration;

use futures::TryStreamExt;
use harness::{Desk, Run, interrupted_at_each_request};
use lifeboat::{Sink, sinks, stream};
use lifeboat_testkit::content::fresh_name;
use lifeboat_testkit::kubernetes::{CONFIG_MAP, Kubernetes, NAMESPACE, Relay, STORAGE_LOCATION, variable};
use lifeboat_testkit::minio::Minio;
use serde_json::{Value, json};

const BACKUP: &str = "velero.io/v1 Backup backups";
const SCHEDULE: &str = "velero.io/v1 Schedule schedules";

/// A desk beside the cluster, and a namespace of the test's own in it.
struct Place {
    desk: Desk,
    kubernetes: Kubernetes,
    /// The namespace.
    shop: String,
    /// Velero's bucket as a sink.
    location: String,
}

impl Place {
    /// With a namespace that has a little of everything.
    async fn new() -> Self {
        let kubernetes = Kubernetes::new().await;
        let shop = kubernetes.shop().await;
        let (desk, location) = desk();
        Self { desk, kubernetes, shop, location }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.desk.run("lifeboat-velero", arguments)
    }

    /// Backs the namespace up and copies it into the folder of the desk; returns the name of Velero's backup.
    fn back_up(&self) -> String {
        let (sink, encrypt) = (self.desk.sink(), self.desk.encrypt());
        self.run(&["backup", "--namespace", &self.shop, "--to", &sink, "--encrypt", &encrypt]).good();
        self.backups().pop().unwrap()
    }

    /// The names of Velero's backups of the namespace, the oldest first.
    fn backups(&self) -> Vec<String> {
        let listed = self.run(&["list", "--json"]).good().json();
        let own = |backup: &&Value| backup["namespaces"] == json!([self.shop]);
        let names = listed.as_array().unwrap().iter().filter(own).map(|backup| backup["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }

    /// A config file with a job of the namespace, whose copies lie in the desk's folder.
    fn config(&self, job: &str) -> String {
        let path = self.desk.path("lifeboat.toml");
        let text = format!(
            "[sinks.velero]\nurl = \"{}\"\n[sinks.folder]\nurl = \"{}\"\n[defaults]\nsinks = [\"folder\"]\nprefix = \"copies\"\n\
             encrypt = \"{}\"\nidentity = \"key.txt\"\n{job}\n",
            self.location,
            self.desk.sink(),
            self.desk.encrypt()
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    async fn is_there(&self, kind: &str, namespace: Option<&str>, name: &str) -> bool {
        self.kubernetes.get(kind, namespace, name).await.is_some()
    }
}

/// A desk that reaches the cluster, and the location's URL.
fn desk() -> (Desk, String) {
    let minio = Minio::shared();
    let mut desk = Desk::new();
    let location = minio.sink_url(&variable("LIFEBOAT_TEST_VELERO_BUCKET"));
    desk.set("MINIO_ACCESS_KEY", minio.user())
        .set("MINIO_SECRET_KEY", minio.password())
        .set("KUBECONFIG", variable("LIFEBOAT_TEST_KUBECONFIG"))
        .set("VELERO_NAMESPACE", velero())
        .set("LIFEBOAT_LOCATION", &*location);
    (desk, location)
}

/// Velero's namespace.
fn velero() -> String {
    variable("LIFEBOAT_TEST_VELERO_NAMESPACE")
}

fn open(url: &str) -> std::sync::Arc<dyn Sink> {
    let minio = Minio::shared();
    let credentials = Some(sinks::Credentials::new(minio.user(), minio.password()));
    sinks::open_with(url, &sinks::Settings::default().credentials(credentials)).unwrap()
}

/// Names of failed checks in a report as JSON.
fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().filter(|c| c["status"] == "fail").map(|c| c["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_the_full_circle() {
    let place = Place::new().await;
    let (shop, sink, key) = (&*place.shop, place.desk.sink(), place.desk.key());

    let name = place.back_up();
    place.run(&["show", &name]).good().says("Completed").says(shop);
    place.run(&["logs", &name]).good().says("level=info").says(&name);

    // The copy: listed, shown, and whole.
    let copies = place.run(&["list", "--to", &sink, "--json"]).good().json();
    assert_eq!((copies[0]["dataset"].as_str(), copies[0]["format"].as_str()), (Some(shop), Some("tar")));
    place
        .run(&["show", "--dataset", shop, "--to", &sink, "--identity", &key, "--items"])
        .good()
        .says("configmaps")
        .says("tar -x");
    let copy = ["--dataset", shop, "--to", &sink, "--identity", &key];
    place.run(&[&["verify", "--level", "structure"], &copy[..]].concat()).good().says("PASS");

    // It comes back beside the original, and what was changed since is as it was.
    let scratch = fresh_name("scratch");
    place
        .run(&["verify", "--backup", &name, "--namespace", shop, "--scratch-namespace", &scratch])
        .good()
        .says("content: configmaps");
    assert!(!place.is_there(NAMESPACE, None, &scratch).await);
    let again = fresh_name("again");
    let run = place
        .run(&["restore", &name, "--namespace", shop, "--map", &format!("{shop}={again}"), "--json"])
        .good()
        .json();
    assert_eq!(run["passed"], true, "{run}");
    assert!(place.is_there(CONFIG_MAP, Some(&again), "settings-2").await);

    // Velero deletes it when told to, and not before.
    place.run(&["delete", &name]).good().says("nothing was deleted; --apply does it");
    assert_eq!(place.backups(), std::slice::from_ref(&name));
    place.run(&["delete", &name, "--apply"]).good().says("DONE");
    assert_eq!(place.backups(), [""; 0]);
    place.run(&["show", &name]).ended(3).says(&name);

    // The copy gives the bucket its backup back, and the cluster what was in it.
    place.kubernetes.delete(CONFIG_MAP, Some(shop), "settings-1").await;
    place.run(&[&["restore", "--namespace", shop], &copy[..]].concat()).good().says("DONE");
    assert!(place.is_there(CONFIG_MAP, Some(shop), "settings-1").await);
    assert_eq!(place.backups(), std::slice::from_ref(&name));
    place.run(&["delete", &name, "--apply"]).good();
    place.kubernetes.delete(NAMESPACE, None, &again).await;
    place.kubernetes.delete(NAMESPACE, None, shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_it_at_every_request() {
    let mut place = Place::new().await;
    let name = place.back_up();
    let again = fresh_name("again");
    let (shop, map) = (place.shop.clone(), format!("{}={again}", place.shop));
    let server = Relay::start().await;
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server.url()}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    let path = place.desk.path("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    place.desk.set("KUBECONFIG", path.display().to_string());
    let (sink, encrypt) = (place.desk.sink(), place.desk.encrypt());
    let stored = place.desk.stored();
    let backup = ["backup", "--namespace", &shop, "--to", &sink, "--encrypt", &encrypt];
    let restore = ["restore", &name, "--namespace", &shop, "--map", &map];
    for arguments in [&["show", &name][..], &["logs", &name], &backup, &restore] {
        assert!(interrupted_at_each_request(&server, &place.desk, "lifeboat-velero", arguments) > 0, "{arguments:?}");
    }
    // The last backup and the last restore were not interrupted.
    assert!(place.desk.stored().len() > stored.len() && place.is_there(CONFIG_MAP, Some(&again), "settings-2").await);
    for namespace in [again, shop] {
        place.kubernetes.delete(NAMESPACE, None, &namespace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_config_file_is_backed_up_verified_and_restored() {
    let place = Place::new().await;
    let (shop, scratch) = (&*place.shop, fresh_name("scratch"));
    let config = place.config(&format!(
        "[jobs.cluster]\nvelero = {{ location = \"velero\", velero_namespace = \"{}\", namespaces = [\"{shop}\"], ttl = \"1d\", \
         test = {{ namespace = \"{shop}\", scratch_namespace = \"{scratch}\" }} }}\nkeep = \"1d\"",
        velero()
    ));
    let run = |arguments: &[&str]| place.desk.run("lifeboat", &[&["--config", &config], arguments].concat());

    run(&["check"]).good().says("storage location").says("ready");
    run(&["backup"]).good().says("DONE cluster: copies/cluster-");
    run(&["list"]).good().says("copies/cluster-");
    let report = run(&["verify", "--json"]).good().json();
    let names: Vec<_> = report[0]["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"structure") && names.contains(&"content: configmaps"), "{names:?}");
    run(&["prune"]).good().says("1 kept");

    place.kubernetes.patch(CONFIG_MAP, Some(shop), "settings-0", &json!({"data": {"colour": "red"}})).await;
    run(&["restore", "cluster", "--into", "velero://", "--existing", "update", "--resource", "configmaps"])
        .good()
        .says("DONE");
    let restored = place.kubernetes.get(CONFIG_MAP, Some(shop), "settings-0").await.unwrap();
    assert_eq!(restored["data"]["colour"], "blue 0");
    run(&["restore", "cluster", "--into", "s3://elsewhere"]).ended(2).says("velero://");
    run(&["restore", "cluster", "--into", "velero://", "--replace"]).ended(2).says("--existing update");

    for name in place.backups() {
        place.run(&["delete", &name, "--apply"]).good();
    }
    place.kubernetes.delete(NAMESPACE, None, shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_as_in_the_backup_fails_the_test_by_name() {
    let place = Place::new().await;
    let shop = &*place.shop;
    let name = place.back_up();
    // The scratch namespace is somebody's: it is left alone.
    let theirs = place.kubernetes.fresh_namespace().await;
    let run = place
        .run(&["verify", "--backup", &name, "--namespace", shop, "--scratch-namespace", &theirs, "--json"])
        .ended(1);
    assert_eq!(failed(&run.json()[0]), ["scratch namespace"]);
    assert!(place.is_there(NAMESPACE, None, &theirs).await);
    // Its age.
    let scratch = fresh_name("scratch");
    let old = [
        "verify",
        "--backup",
        &name,
        "--namespace",
        shop,
        "--scratch-namespace",
        &scratch,
        "--max-age",
        "0s",
        "--json",
    ];
    assert_eq!(failed(&place.run(&old).ended(1).json()[0]), ["age"]);
    // A claim that must be covered, and is not: there is no node that could copy its volume.
    let claim = format!("{shop}/data");
    let run = place.run(&["judge", &name, "--must-cover", &claim, "--json"]).ended(1).json();
    assert_eq!(failed(&run[0]), [format!("volume {claim}")]);
    place.run(&["judge", &name]).good().says("WARN");
    place.run(&["delete", &name, "--apply"]).good();
    for namespace in [shop, &theirs] {
        place.kubernetes.delete(NAMESPACE, None, namespace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kill_9_of_a_restore_test_leaves_the_next_one_removes() {
    let place = Place::new().await;
    let (shop, scratch) = (&*place.shop, fresh_name("scratch"));
    let name = place.back_up();
    let arguments = ["verify", "--backup", &name, "--namespace", shop, "--scratch-namespace", &scratch, "--json"];
    let mut killed = place.desk.command("lifeboat-velero").args(arguments).spawn().unwrap();
    for attempt in 0.. {
        // Velero is restoring: the namespace is there, and something is in it.
        if place.is_there(CONFIG_MAP, Some(&scratch), "settings-0").await {
            break;
        }
        assert!(attempt < 600 && killed.try_wait().unwrap().is_none(), "nothing was restored");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(place.is_there(NAMESPACE, None, &scratch).await);

    let report = place.run(&arguments).good().json();
    let checks = report[0]["checks"].as_array().unwrap();
    let leftovers = checks.iter().find(|check| check["name"] == "leftovers").unwrap();
    assert_eq!(leftovers["status"], "warn");
    assert!(leftovers["detail"].as_str().unwrap().contains(&scratch), "{leftovers}");
    assert!(!place.is_there(NAMESPACE, None, &scratch).await);
    place.run(&["delete", &name, "--apply"]).good();
    place.kubernetes.delete(NAMESPACE, None, shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_bucket_is_judged_without_a_cluster() {
    let place = Place::new().await;
    let name = place.back_up();
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let offsite = minio.sink_url(&bucket);
    let copy = ["replicate", "--to", &offsite, "--into", "offsite/velero"];
    // What Velero writes and deletes meanwhile is another run's affair.
    let run = place.run(&copy);
    assert!(matches!(run.code, Some(0 | 1)), "{}", run.stderr);
    let copied = format!("{}/offsite/velero", minio.sink_url(&bucket).trim_end_matches('/'));
    let copied = copied.replace("?tls=false/offsite/velero", "/offsite/velero?tls=false");

    let mut alone = Desk::new();
    alone.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
    alone.set("KUBECONFIG", "/nonexistent");
    alone.run("lifeboat-velero", &["judge", "--location", &copied, &name]).good().says("PASS").says("Completed");

    let damaged = open(&offsite);
    let file = format!("offsite/velero/backups/{name}/{name}.tar.gz");
    let whole = stream::collect(damaged.get(&file, None).await.unwrap(), 1 << 30, &file).await.unwrap();
    damaged.replace(&file, stream::once(whole.slice(..whole.len() / 2))).await.unwrap();
    let run = alone.run("lifeboat-velero", &["judge", "--location", &copied, &name, "--json"]).ended(1).json();
    assert!(failed(&run[0]).contains(&&*format!("readable {name}.tar.gz")), "{run}");
    alone.run("lifeboat-velero", &["judge", "--location", &copied, "never-made"]).ended(3).says("never-made");
    place.run(&["delete", &name, "--apply"]).good();
    place.kubernetes.delete(NAMESPACE, None, &place.shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_shown_applied_and_then_as_they_should_be() {
    let place = Place::new().await;
    let (daily, weekly) = (fresh_name("daily"), fresh_name("weekly"));
    let job = |ttl: &str, weekly: &str| {
        format!(
            "[jobs.cluster.velero]\nlocation = \"velero\"\nvelero_namespace = \"{}\"\n\
             [jobs.cluster.velero.schedules.{daily}]\ncron = \"0 2 * * *\"\nttl = \"{ttl}\"\nnamespaces = [\"{}\"]\npaused = true\n{weekly}",
            velero(),
            place.shop
        )
    };
    let with_weekly =
        format!("[jobs.cluster.velero.schedules.{weekly}]\ncron = \"0 3 * * 0\"\nttl = \"30d\"\npaused = true\n");
    let config = place.config(&job("7d", &with_weekly));
    let apply = |more: &[&str]| place.run(&[&["schedules", "apply", "--config", &config], more].concat());

    apply(&[]).good().says(&format!("+ Schedule  {daily}")).says("2 to create").says("--apply does it");
    assert!(!place.is_there(SCHEDULE, Some(&velero()), &daily).await);
    apply(&["--apply"]).good().says("DONE");
    let made = place.kubernetes.get(SCHEDULE, Some(&velero()), &daily).await.unwrap();
    assert_eq!(
        (made["spec"]["schedule"].as_str(), made["spec"]["template"]["ttl"].as_str()),
        (Some("0 2 * * *"), Some("168h0m0s"))
    );
    apply(&["--apply"]).good().says("2 unchanged").says("nothing to do");
    place.run(&["schedules", "list"]).good().says(&daily).says("paused").says("a config file");

    place.config(&job("8d", ""));
    apply(&["--apply"]).good().says(&format!("~ Schedule  {daily}")).says("1 to update, 0 to delete");
    assert!(place.is_there(SCHEDULE, Some(&velero()), &weekly).await);

    // A backup as the schedule makes it.
    let (sink, encrypt) = (place.desk.sink(), place.desk.encrypt());
    place
        .run(&["backup", "--from-schedule", &daily, "--to", &sink, "--encrypt", &encrypt])
        .good()
        .says(&format!("DONE {daily}"));
    let listed = place.run(&["list", "--from-schedule", &daily, "--json"]).good().json();
    let name = listed[0]["name"].as_str().unwrap();
    assert_eq!(listed[0]["namespaces"], json!([place.shop]));
    let scratch = fresh_name("scratch");
    place
        .run(&["verify", "--from-schedule", &daily, "--namespace", &place.shop, "--scratch-namespace", &scratch])
        .good()
        .says(name);
    place.run(&["delete", name, "--apply"]).good();
    place.run(&["list", "--from-schedule", &daily]).ended(3).says(&daily);
    place.run(&["restore", "--from-schedule", &daily]).ended(3);
    for schedule in [&daily, &weekly] {
        place.kubernetes.delete(SCHEDULE, Some(&velero()), schedule).await;
    }
    place.kubernetes.delete(NAMESPACE, None, &place.shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_where_velero_stores() {
    let place = Place::new().await;
    let (shop, location) = (&*place.shop, &*place.location);
    // By the location's own address: before there is any backup in it.
    let minio = Minio::shared();
    let fresh = minio.sink_url(&minio.fresh_bucket().await);
    for prefix in ["", "copies"] {
        place
            .run(&[
                "backup",
                "--namespace",
                shop,
                "--location",
                &fresh,
                "--to",
                &fresh,
                "--prefix",
                prefix,
                "--encrypt",
                "none",
            ])
            .ended(2)
            .says("Unavailable");
    }
    assert_eq!(open(&fresh).list("").try_collect::<Vec<_>>().await.unwrap(), []);

    // By what lies there: of any job, and of copies.
    let name = place.back_up();
    let (sink, encrypt) = (place.desk.sink(), place.desk.encrypt());
    let other = place.desk.path("other");
    std::fs::create_dir(&other).unwrap();
    let other = format!("file://{}", other.display());
    place
        .run(&[
            "backup",
            "--namespace",
            shop,
            "--location",
            &other,
            "--to",
            location,
            "--prefix",
            "a/b",
            "--encrypt",
            &encrypt,
        ])
        .ended(2)
        .says("any other folder there makes its storage location Unavailable");
    place.run(&["replicate", "--dataset", shop, "--to", &sink, "--to", location]).ended(2).says("Unavailable");
    let copied = place.run(&["replicate", "--location", &other, "--to", location, "--into", "copy"]);
    copied.ended(2).says("Unavailable");
    let run = place.run(&["check", "--to", location, "--prefix", "copies", "--encrypt", &encrypt]).ended(1);
    run.says("another tool's").says("Unavailable");
    let objects: Vec<_> = open(location).list("").try_collect().await.unwrap();
    let ours = |key: &str| !key.starts_with("backups/") && !key.starts_with("restores/") && !key.starts_with("kopia/");
    assert!(objects.iter().all(|object| !ours(&object.key)), "{objects:?}");
    assert_eq!(open(location).list("_lifeboat/").try_collect::<Vec<_>>().await.unwrap(), []);

    // In a config file it is a mistake at its line.
    let config = place.config("[jobs.cluster]\nsinks = [\"velero\"]\nvelero = { location = \"velero\" }");
    place
        .desk
        .run("lifeboat", &["--config", &config, "backup"])
        .ended(2)
        .says("Velero's storage location")
        .says("line 12");
    place.run(&["delete", &name, "--apply"]).good();
    place.kubernetes.delete(NAMESPACE, None, shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_meet_is_told_with_what_to_do() {
    let (mut desk, _) = desk();
    let sink = desk.sink();
    let run = |arguments: &[&str]| desk.run("lifeboat-velero", arguments);
    // What is not there.
    run(&["show", "never-made"]).ended(3).says("never-made");
    run(&["restore", "never-made"]).ended(3).says("never-made");
    run(&["logs", "never-made"]).ended(3).says("never-made");
    run(&["delete", "never-made", "--apply"]).ended(3).says("never-made");
    run(&["list", "--from-schedule", "never-made"]).ended(3).says("schedules list");
    run(&["backup", "--from-schedule", "never-made", "--to", &sink, "--encrypt", "none"])
        .ended(1)
        .says("Schedule never-made");
    run(&["verify", "--from-schedule", "never-made", "--namespace", "x"])
        .ended(1)
        .says("there is not a backup of the schedule never-made");
    run(&["backup", "--storage-location", "nowhere", "--to", &sink, "--encrypt", "none"]).ended(1).says("nowhere");
    // What was not said.
    run(&["verify"]).ended(2).says("--namespace");
    run(&["verify", "--to", &sink, "--dataset", "shop", "--backup", "x"]).ended(2).says("--dataset and --at");
    run(&["verify", "--namespace", "x", "--level", "structure"]).ended(2).says("--sink");
    run(&["show"]).ended(2).says("lifeboat-velero list");
    run(&["restore", "x", "--map", "shop"]).ended(2).says("--map shop=shop-again");
    run(&["replicate", "--to", &sink, "--into", "velero", "--location", ""]).ended(2).says("--location");
    let mut nowhere = Desk::new();
    nowhere.set("KUBECONFIG", variable("LIFEBOAT_TEST_KUBECONFIG"));
    let run = nowhere.run("lifeboat-velero", &["backup", "--to", &sink, "--encrypt", "none"]);
    run.ended(2).says("--location s3://bucket/prefix");
    assert_eq!(desk.stored(), [""; 0]);
    // A location that Velero cannot use.
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let unavailable = json!({"metadata": {"name": "broken"}, "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}},
        "status": {"phase": "Unavailable", "message": "no such bucket"}});
    kubernetes.create(STORAGE_LOCATION, Some(&namespace), unavailable).await;
    let run = |arguments: &[&str]| {
        desk.run(
            "lifeboat-velero",
            &[arguments, &["--velero-namespace", &namespace, "--to", &sink, "--encrypt", "none"]].concat(),
        )
    };
    run(&["backup"]).ended(1).says("Unavailable").says("no such bucket");
    run(&["check"]).ended(1).says("no such bucket");
    // A server that does not run: a time limit, not a hang.
    kubernetes.patch(STORAGE_LOCATION, Some(&namespace), "broken", &json!({"status": {"phase": "Available"}})).await;
    run(&["backup", "--limit", "5s"]).ended(1).says("is Velero's server running");
    assert!(kubernetes.api(BACKUP, Some(&namespace)).list(&Default::default()).await.unwrap().items.len() == 1);
    kubernetes.delete(NAMESPACE, None, &namespace).await;

    // A right that is missing, by its name.
    let text = std::fs::read_to_string(variable("LIFEBOAT_TEST_KUBECONFIG")).unwrap();
    let user = "system:serviceaccount:ops:lifeboat";
    std::fs::write(desk.path("user.yaml"), text.replace("  user:\n", &format!("  user:\n    as: {user}\n"))).unwrap();
    let user = |arguments: &[&str]| desk.run("lifeboat-velero", &[arguments, &["--kubeconfig", "user.yaml"]].concat());
    user(&["list"]).ended(1).says("the verb list on backups.velero.io by a Role in the namespace");
    let run = user(&["check", "--test", "shop", "--to", &sink, "--encrypt", "none"]).ended(1);
    run.says("create").says("restores.velero.io").says("namespaces");

    // No cluster.
    desk.set("KUBECONFIG", "/nonexistent/kubeconfig");
    let lost = |arguments: &[&str]| desk.run("lifeboat-velero", arguments);
    lost(&["list"]).ended(2).says("kubeconfig");
    lost(&["check", "--to", &sink, "--encrypt", "none"]).ended(1).says("cluster");
    let gone = |line: &str| match line.split_once("server:") {
        Some((before, _)) => format!("{before}server: https://127.0.0.1:1"),
        None => line.to_owned(),
    };
    std::fs::write(desk.path("gone.yaml"), text.lines().map(gone).collect::<Vec<_>>().join("\n")).unwrap();
    lost(&["list", "--kubeconfig", "gone.yaml"]).ended(1).says("127.0.0.1:1");
}

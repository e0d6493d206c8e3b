//! The `file://` sink keeps the promises of a sink, and what it promises beyond them.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use lifeboat_core::stream::once;
use lifeboat_core::{Dataset, ErrorKind, Replicate, Sink, Status, TreeCopy, catalog, check};
use lifeboat_testkit::conformance::sink as conformance;
use lifeboat_testkit::content::{failing_stream, stream_of};

fn sink_in(folder: &Path) -> Arc<dyn Sink> {
    lifeboat_sinks::open(&format!("file://{}", folder.display())).unwrap()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&path));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn local_sink_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance::all(&*sink_in(&folder.path().join("a b/backups"))).await;
}

#[tokio::test]
async fn local_sink_conforms_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    conformance::all(&*sink_in(folder.path())).await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_until_something_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("not/yet");
    let sink = sink_in(&root);
    let errors = [
        sink.list("").try_collect::<Vec<_>>().await.unwrap_err(),
        sink.get("a", None).await.err().unwrap(),
        sink.head("a").await.unwrap_err(),
        sink.delete(&["a".to_owned()]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(root.to_str().unwrap()), "{error}");
        assert!(error.advice().unwrap().contains("file:// URL"));
    }
    sink.put("a", once("x")).await.unwrap();
    assert_eq!(conformance::keys(&*sink, "").await, ["a"]);
}

#[tokio::test]
async fn files_are_for_their_owner_only_and_nothing_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink_in(&folder.path().join("root"));
    sink.put("pg/a.dump", stream_of(1, 5 << 20)).await.unwrap();
    sink.put("pg/b.dump", failing_stream(1, 5 << 20)).await.unwrap_err();
    let at = |path: &str| folder.path().join("root").join(path);
    let mode = |path: &str| std::fs::metadata(at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("pg"), mode("pg/a.dump")), (0o700, 0o700, 0o600));
    assert_eq!(files_below(&at("")), [at("pg").display().to_string(), at("pg/a.dump").display().to_string()]);
}

#[tokio::test]
async fn symbolic_links_below_the_root_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (outside, root) = (folder.path().join("outside"), folder.path().join("root"));
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    symlink(outside.join("secret"), root.join("file")).unwrap();
    let sink = sink_in(&root);
    assert_eq!(conformance::keys(&*sink, "").await, [""; 0]);
    assert_eq!(conformance::keys(&*sink, "link/").await, [""; 0]);
    for key in ["link/secret", "file"] {
        assert_eq!(sink.get(key, None).await.err().unwrap().kind(), ErrorKind::Refused);
        assert_eq!(sink.delete(&[key.to_owned()]).await.unwrap().failed.len(), 1);
    }
    assert_eq!(sink.put("link/new", once("x")).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(files_below(&outside).len(), 1);
    // The root itself may be one.
    symlink(&root, folder.path().join("root-link")).unwrap();
    let linked = sink_in(&folder.path().join("root-link"));
    linked.put("a", once("x")).await.unwrap();
    assert_eq!(conformance::keys(&*linked, "").await, ["a"]);
}

#[tokio::test]
async fn what_a_killed_writer_left_is_found_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink_in(folder.path());
    let uploads = folder.path().join("pg/_lifeboat/uploads");
    std::fs::create_dir_all(&uploads).unwrap();
    let stamp = lifeboat_core::name::format_stamp(jiff::Timestamp::now());
    std::fs::write(uploads.join(format!("a.dump.zst.{stamp}-0011223344556677.partial")), "half").unwrap();
    let foreign = uploads.join("film.partial");
    std::fs::write(&foreign, "not ours").unwrap();
    assert_eq!(conformance::keys(&*sink, "pg/_lifeboat/").await, [""; 0], "a partial file is no object");
    conformance::cleans_up_after_a_killed_writer(&*sink, "pg").await;
    assert!(foreign.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_up_leaves_a_running_upload_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink_in(folder.path());
    let (send, mut chunks) = tokio::sync::mpsc::channel(1);
    let body = futures::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    let writer = sink.clone();
    let put = tokio::spawn(async move { writer.put("pg/a", Box::pin(body)).await });
    send.send(Ok("first".into())).await.unwrap();
    // It is being written from the moment at which it is locked.
    let is_locked = |path: &String| {
        path.ends_with(".partial") && std::fs::File::open(path).is_ok_and(|file| file.try_lock().is_err())
    };
    while !files_below(folder.path()).iter().any(is_locked) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let later = jiff::Timestamp::now() + Duration::from_secs(60);
    assert_eq!(sink.upkeep().unwrap().abort_unfinished("pg", later, false).await.unwrap(), [""; 0]);
    drop(send);
    assert_eq!(put.await.unwrap().unwrap(), 5);
}

#[tokio::test]
async fn the_command_that_reads_an_object_works_in_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink_in(&folder.path().join("it's $HOME"));
    sink.put("a b/c", once("content")).await.unwrap();
    let output = Command::new("sh").arg("-c").arg(sink.read_command("a b/c")).output().unwrap();
    assert_eq!(output.stdout, b"content");
}

/// Runs [`write_until_it_fails`] in a process of its own, under a shell script that prepares its world.
fn in_another_world(script: &str, folder: &Path, expected: &str) -> std::process::Output {
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "write_until_it_fails", "--include-ignored", "--nocapture"])
        .env("LIFEBOAT_TEST_FOLDER", folder)
        .env("LIFEBOAT_TEST_EXPECTED", expected)
        .output()
        .unwrap()
}

#[tokio::test]
#[ignore = "run by the tests below, each in a process with another limit"]
async fn write_until_it_fails() {
    let Some(folder) = std::env::var_os("LIFEBOAT_TEST_FOLDER") else { return };
    let expected = std::env::var("LIFEBOAT_TEST_EXPECTED").unwrap();
    let folder = Path::new(&folder);
    let sink = sink_in(folder);
    sink.put("small", once("fits")).await.unwrap();
    let error = sink.put("pg/large", stream_of(1, 64 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.message().contains(&expected), "{error}");
    assert!(error.to_string().contains("pg/large"), "{error}");
    assert!(error.advice().is_some());
    assert_eq!(conformance::keys(&*sink, "").await, ["small"]);
    assert_eq!(files_below(folder).len(), 2, "{:?}", files_below(folder));
}

#[test]
fn a_full_disk_is_said_to_be_full_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: as root, or as a user where user namespaces are allowed.
    let script = r#"mount -t tmpfs -o size=8m tmpfs "$LIFEBOAT_TEST_FOLDER" && exec "$@""#;
    let quoted = format!("exec unshare --mount --map-root-user sh -c '{script}' sh \"$@\"");
    let output = in_another_world(&quoted, folder.path(), "No space left on device");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "it needs root, or a system that allows user namespaces, to mount a small tmpfs:\n{text}"
    );
}

#[test]
fn a_limit_on_the_size_of_files_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = in_another_world("trap '' XFSZ; ulimit -f 8192; exec \"$@\"", folder.path(), "File too large");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_folder_says_what_it_is_before_it_is_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    let of = async |path: &Path| {
        let checks = check::sink(&*sink_in(path), "", "", jiff::Timestamp::now()).await;
        checks.into_iter().map(|c| (c.name, c.status, c.figure)).collect::<Vec<_>>()
    };
    let has = |checks: &[(String, Status, String)], name: &str, status, figure: &str| {
        assert!(checks.iter().any(|(n, s, f)| n == name && *s == status && f.contains(figure)), "{name}: {checks:?}");
    };
    let missing = of(&folder.path().join("not/there")).await;
    assert_eq!(missing, [("folder".to_owned(), Status::Warn, "missing".to_owned())]);
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let good = of(folder.path()).await;
    has(&good, "permissions", Status::Pass, "0700");
    has(&good, "delete", Status::Pass, "works");
    has(&good, "file system", Status::Pass, "one");
    assert!(good.iter().any(|(name, _, figure)| name == "space" && figure.ends_with("free")), "{good:?}");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    has(&of(folder.path()).await, "permissions", Status::Warn, "0777");
}

#[tokio::test]
async fn what_is_no_object_is_told_and_no_copy_is_complete_without_it() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let (root, copy) = (folder.path().join("here"), folder.path().join("there"));
    let (from, to) = (sink_in(&root), sink_in(&copy));
    from.put("db/shop-20261121-033000.dump", once("x")).await.unwrap();
    let outside = folder.path().join("shop-20261122-033000.dump");
    std::fs::write(&outside, "y").unwrap();
    symlink(&outside, root.join("db/shop-20261122-033000.dump")).unwrap();
    // In nobody's way: it is named as no artifact is.
    symlink("shop-20261121-033000.dump", root.join("db/latest")).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"shop-20261123-033000.\xe4.dump");
    std::fs::write(root.join("db").join(name), "z").unwrap();

    let words = catalog::left_out_in_words(&*from, "db", Some(&Dataset::new("shop").unwrap())).await.unwrap().unwrap();
    for part in ["2 files", "shop-20261122-033000.dump (a link)", r"shop-20261123-033000.\xe4.dump (a file with a name"]
    {
        assert!(words.contains(part), "{words}");
    }
    assert_eq!(catalog::left_out_in_words(&*from, "db", Some(&Dataset::new("other").unwrap())).await.unwrap(), None);
    assert_eq!(catalog::left_out_in_words(&*from, "", None).await.unwrap(), None);

    let plan = Replicate::new(from.clone(), to.clone()).folder("db").history(false).plan().await.unwrap();
    let done = plan.execute().await.unwrap();
    assert_eq!((done.copied.len(), done.failed.len(), done.is_complete()), (1, 2, false), "{:?}", done.failed);
    let tree = TreeCopy::new("tree", from, to).unwrap().prefix("db").into_folder("tree");
    let done = tree.plan().await.unwrap().execute().await.unwrap();
    // All of them: a tree is another tool's, and any name may be one of its objects.
    assert_eq!((done.copied, done.failed.len(), done.is_complete()), (1, 3, false), "{:?}", done.failed);
}

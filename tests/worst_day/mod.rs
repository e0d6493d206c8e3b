//! The worst day: the commands of `docs/operations.md`, on a machine that has nothing.

use std::path::Path;
use std::process::Command;

use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::postgres::{Server, programs, psql, with_database};

use crate::harness::Desk;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The commands of the page, as they stand there.
fn commands() -> &'static str {
    let (_, section) = PAGE.split_once("\n## The worst day\n").expect("the page has the section");
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let mut blocks = blocks.filter(|block| block.contains("lifeboat restore"));
    let found = blocks.next().expect("the section has commands");
    assert!(blocks.next().is_none(), "one block has them all");
    found
}

/// A machine with these programs, their libraries and nothing else.
fn machine(root: &Path, programs: &[&Path]) {
    for folder in ["bin", "dev", "tmp"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("dev/null"), "").unwrap();
    for program in programs {
        std::fs::copy(program, root.join("bin").join(program.file_name().unwrap())).unwrap();
        let listed = Command::new("ldd").arg(program).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = root.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(library, place).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_brings_everything_back_with_nothing_but_the_program_the_key_and_the_bucket() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let (server, mut desk) = (Server::start(), Desk::new());
    let (sink, shop) = (minio.sink_url(&bucket), with_database(&server.url, "shop"));
    psql(&server.url, "CREATE ROLE shop_owner; CREATE ROLE shop_app LOGIN PASSWORD 'their own'");
    psql(&server.url, "CREATE DATABASE shop OWNER shop_owner");
    psql(
        &shop,
        "SET ROLE shop_owner; CREATE SCHEMA sales;
         CREATE TABLE sales.orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
         INSERT INTO sales.orders (what) SELECT 'what' || i FROM generate_series(1, 1000) i;
         GRANT USAGE ON SCHEMA sales TO shop_app; GRANT SELECT, INSERT ON sales.orders TO shop_app",
    );
    let config = format!(
        "[sinks.bucket]\nurl = \"{sink}\"\n[defaults]\nencrypt = \"age:{}\"\nidentity = \"key.txt\"\nprefix = \"databases\"\n\
         [jobs.shop]\npostgres = {{ url = \"${{SHOP_URL}}\" }}\n[jobs.roles]\npostgres = {{ url = \"${{ROLES_URL}}\", globals = true }}\n",
        desk.recipient
    );
    std::fs::write(desk.path("lifeboat.toml"), &config).unwrap();
    let environment = [
        ("MINIO_ACCESS_KEY", minio.user().to_owned()),
        ("MINIO_SECRET_KEY", minio.password().to_owned()),
        ("SHOP_URL", shop.clone()),
        ("ROLES_URL", server.url.clone()),
    ];
    for (name, value) in &environment {
        desk.set(name, value);
    }
    desk.run("lifeboat", &["backup"]).good().says("2 of 2 jobs backed up");

    // The machine is gone, the server is new.
    psql(&server.url, "DROP DATABASE shop");
    psql(&server.url, "DROP ROLE shop_app; DROP ROLE shop_owner");
    let root = desk.path("machine");
    let clients = ["pg_restore", "pg_dump", "pg_dumpall"].map(|name| programs().join(name));
    let mut all: Vec<&Path> = clients.iter().map(std::path::PathBuf::as_path).collect();
    // pg_dumpall starts pg_dump by way of it.
    all.push(Path::new("/bin/sh"));
    all.push(Path::new(env!("CARGO_BIN_EXE_lifeboat")));
    machine(&root, &all);
    std::fs::copy(desk.path("key.txt"), root.join("key.txt")).unwrap();
    // Everything that the page runs is run in there.
    let within = "lifeboat() { unshare --map-root-user --mount sh -c 'mount --bind /dev/null \"$MACHINE/dev/null\" && \
                  exec env PATH=/bin \"$(command -v chroot)\" \"$MACHINE\" /bin/lifeboat \"$@\"' lifeboat \"$@\"; }";
    let run = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &format!("{within}\n{}", commands())])
        .env_clear()
        .envs(environment)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs([("SINK", &*sink), ("MACHINE", root.to_str().unwrap()), ("TMPDIR", "/tmp"), ("NO_COLOR", "1")])
        .envs([("HOME", "/"), ("LIFEBOAT_PG_BIN", "/bin")])
        .output()
        .unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}");

    assert_eq!(std::fs::read_to_string(root.join("lifeboat.toml")).unwrap(), config);
    // The application logs in as it always has, reads and writes.
    let application = shop.replacen("postgres://postgres:", "postgres://shop_app:", 1);
    let (before, after) = application.split_once("shop_app:").unwrap();
    let application = format!("{before}shop_app:their%20own{}", &after[after.find('@').unwrap()..]);
    psql(&application, "INSERT INTO sales.orders (what) VALUES ('new')");
    assert_eq!(psql(&application, "SELECT count(*), max(id) FROM sales.orders").trim(), "1001|1001");
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'";
    assert_eq!(psql(&server.url, owner).trim(), "shop_owner");
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'";
    assert_eq!(psql(&shop, owner).trim(), "shop_owner");
}

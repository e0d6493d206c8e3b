//! A real database, from the live server to the sink and back, through the binaries.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod worst_day;

use std::process::Command;

use harness::{Desk, MORE, SHOP};
use lifeboat_testkit::postgres::{Database, Server, programs, psql, with_database};

#[test]
fn every_awkward_thing_comes_back_and_is_proven() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(SHOP);
    live.run(MORE);
    desk.backup(&live.url).good();
    let report = desk.verify("restore").good().says("PASS");
    assert!(report.stdout.contains("content"), "{}", report.stdout);
    let restored = Database::reserved();
    let into =
        ["restore", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--into", &restored.url];
    desk.run("lifeboat-postgres", &into).good();
    assert_eq!(live.schema(), restored.schema());
    let odd = "SELECT md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM \"Odd Things\".\"Every \"\"type\"\"\" t";
    assert_eq!(live.run(odd), restored.run(odd));
    let large = "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1";
    assert_eq!(live.run(large), restored.run(large));
    assert_eq!(live.run("SELECT nextval('invoice_number')"), restored.run("SELECT nextval('invoice_number')"));
    // It knows what it has proven.
    let listed = desk.list();
    assert_eq!(listed[0]["verified_level"], "restore");
    assert_eq!(listed[0]["kind"], "managed");
    // No scratch server, no scratch folder stays behind.
    assert_eq!(harness::files(&desk.path("tmp")), Vec::<String>::new());
}

#[test]
fn three_hundred_megabytes_pass_the_restore_test() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(
        "CREATE TABLE big AS SELECT i AS id, repeat(md5(i::text), 8) AS text, i * 1.5 AS number FROM generate_series(1, 1150000) i",
    );
    let backup = desk.backup(&live.url).good();
    assert!(
        backup.stdout.contains("1150000") || backup.stderr.contains("1150000") || backup.stdout.contains("1,150,000"),
        "{}",
        backup.stdout
    );
    desk.verify("restore").good().says("1150000");
}

#[test]
fn a_database_without_a_single_table_is_backed_up_and_proven() {
    let (live, desk) = (Database::fresh(), Desk::new());
    desk.backup(&live.url).good();
    desk.verify("restore").good();
}

/// Restores run for real; between the restore and the comparison, somebody alters the scratch copy.
fn tampered(sql: &str) -> harness::Run {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE public.orders (id int, who text, what text); INSERT INTO orders SELECT i, 'who' || i, 'what' || i FROM generate_series(1, 1000) i; CREATE TABLE other AS SELECT 1 AS a; CREATE SEQUENCE counter; SELECT nextval('counter'); SELECT lo_from_bytea(77, 'abc')");
    desk.backup(&live.url).good();
    desk.verify("restore").good();
    desk.shadow(
        "pg_restore",
        &format!("$REAL \"$@\" || exit $?\npsql -X -q -v ON_ERROR_STOP=1 -c \"{sql}\" >/dev/null"),
    );
    desk.verify("restore")
}

#[test]
fn one_changed_byte_in_one_row_fails_and_names_the_table() {
    tampered("UPDATE orders SET what = 'What500' WHERE id = 500")
        .ended(1)
        .says("table public.orders")
        .says("content differs");
}

#[test]
fn one_row_less_fails_and_names_the_table() {
    tampered("DELETE FROM orders WHERE id = 999").ended(1).says("table public.orders").says("999");
}

#[test]
fn two_values_swapped_between_rows_fail_and_name_the_table() {
    tampered("UPDATE orders SET what = CASE id WHEN 1 THEN 'what2' ELSE 'what1' END WHERE id IN (1, 2)")
        .ended(1)
        .says("table public.orders")
        .says("content differs");
}

#[test]
fn a_table_from_nowhere_a_sequence_and_a_large_object_that_differ_fail_by_name() {
    tampered("CREATE TABLE extra AS SELECT 1").ended(1).says("public.extra");
    tampered("SELECT nextval('counter')").ended(1).says("public.counter");
    tampered("SELECT lo_put(77, 0, 'x')").ended(1).says("large objects");
}

#[test]
fn a_database_that_is_not_empty_is_refused_and_replaced_only_when_told() {
    let (live, target, desk) = (Database::fresh(), Database::fresh(), Desk::new());
    live.run("CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
    target.run(&format!(
        "CREATE TABLE precious (x int); INSERT INTO precious VALUES (42); ALTER DATABASE {} SET work_mem = '7MB'",
        target.name
    ));
    desk.backup(&live.url).good();
    let into = ["restore", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--into", &target.url];
    desk.run("lifeboat-postgres", &into).ended(1).says("not empty").says("precious").says("--replace");
    assert_eq!(target.run("SELECT x FROM precious").trim(), "42");
    // It is not what was backed up: it has to be named again.
    let named = format!("--replace={}", target.name);
    desk.run("lifeboat-postgres", &[&into[..], &["--replace"]].concat()).ended(2).says(&named);
    desk.run("lifeboat-postgres", &[&into[..], &["--replace=shop"]].concat()).ended(2).says(&named);
    assert_eq!(target.run("SELECT x FROM precious").trim(), "42");
    desk.run("lifeboat-postgres", &[&into[..], &[&*named]].concat()).good();
    assert_eq!(target.run("SELECT count(*) FROM t").trim(), "10");
    assert_eq!(target.run("SELECT to_regclass('precious') IS NULL").trim(), "t");
    assert_eq!(target.run("SHOW work_mem").trim(), "7MB");
    assert_eq!(
        target.run(&format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{}_lifeboat%'", target.name)).trim(),
        "0"
    );
}

#[test]
fn a_restore_that_fails_costs_nothing() {
    let (live, target, mut desk) = (Database::fresh(), Database::fresh(), Desk::new());
    live.run("CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
    target.run("CREATE TABLE precious (x int); INSERT INTO precious VALUES (42)");
    desk.backup(&live.url).good();
    let sink = desk.sink();
    let key = desk.key();
    let replace = format!("--replace={}", target.name);
    let into = ["restore", "--dataset", "shop", "--to", &sink, "--identity", &key, "--into", &target.url, &replace];
    // pg_restore fails; then it says that all is well, and the content is not what it must be.
    for body in
        ["exec $REAL --exit-on-error --nonsense", "$REAL \"$@\" || exit $?\npsql -X -q -c 'DELETE FROM t WHERE n = 3'"]
    {
        desk.shadow("pg_restore", body);
        desk.run("lifeboat-postgres", &into).ended(1);
        assert_eq!(target.run("SELECT x FROM precious").trim(), "42");
        let left = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{}_lifeboat%'", target.name);
        assert_eq!(target.run(&left).trim(), "0", "a temporary database stayed behind");
    }
}

#[test]
fn several_jobs_and_single_tables_restore_what_they_must() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(SHOP);
    desk.backup(&live.url).good();
    let (parallel, one) = (Database::reserved(), Database::reserved());
    let (sink, key) = (desk.sink(), desk.key());
    let restore = |url: &str, more: &[&str]| {
        let base = ["restore", "--dataset", "shop", "--to", &sink, "--identity", &key, "--into", url];
        desk.run("lifeboat-postgres", &[&base[..], more].concat())
    };
    restore(&parallel.url, &["--jobs", "4"]).good();
    assert_eq!(live.schema(), parallel.schema());
    restore(&one.url, &["--table", "public.products"]).good();
    assert_eq!(one.run("SELECT count(*) FROM products").trim(), "2000");
    assert_eq!(one.run("SELECT count(*) FROM pg_indexes WHERE tablename = 'products'").trim(), "3");
    assert_eq!(one.run("SELECT to_regclass('orders') IS NULL").trim(), "t");
    // A table that is there already is not touched.
    restore(&one.url, &["--table", "public.products"]).ended(1).says("products");
    restore(&one.url, &["--table", "public.prodcts"]).ended(1).says("products");
    // Its rows alone, without a server.
    let show = |more: &[&str]| {
        let base = ["show", "--dataset", "shop", "--to", &sink, "--identity", &key];
        desk.run("lifeboat-postgres", &[&base[..], more].concat())
    };
    let rows = show(&["--item", "public.products"]).good();
    assert!(rows.stdout == live.run("COPY products TO STDOUT"), "{}", rows.stderr);
    let rows = rows.says("rows for COPY public.products (").says("2000 rows, as its proof says");
    assert!(!rows.stderr.contains("warning"), "{}", rows.stderr);
    show(&["--item", "public.prodcts"]).ended(1).says("public.products").says("can be read alone");
    show(&["--item", "products", "--json"]).ended(2).says("--json");
    // A foreign dump has its format alone to tell that it is whole.
    let plain = Command::new(programs().join("pg_dump")).arg(format!("--dbname={}", live.url)).output().unwrap().stdout;
    let whole = std::str::from_utf8(&plain).unwrap();
    let foreign = "shop-20200101-033000.sql";
    let store = |text: &str| std::fs::write(desk.path("sink").join(foreign), text).unwrap();
    store(whole);
    let rows = show(&["--item", "public.products", "--at", foreign]).good().says("compared with nothing");
    assert!(rows.stdout == live.run("COPY products TO STDOUT"));
    store(&whole[..whole.len() - 200]);
    show(&["--item", "public.products", "--at", foreign]).ended(1).says("do not use it").says("not whole");
}

#[test]
fn roles_that_the_server_lacks_are_told_once_by_name() {
    let (live, target, desk) = (Database::fresh(), Database::reserved(), Desk::new());
    let role = format!("{}_reader", live.name);
    live.run(&format!(
        "CREATE ROLE {role}; CREATE TABLE a (x int); CREATE TABLE b (x int); GRANT SELECT ON a, b TO {role}"
    ));
    desk.backup(&live.url).good();
    desk.verify("restore").good();
    live.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    let into = ["restore", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--into", &target.url];
    let run = desk.run("lifeboat-postgres", &into).good().says(&role);
    // Before anything is loaded, and among the checks; not once for each table.
    let times = [&run.stderr, &run.stdout].map(|said| said.matches(&role).count());
    assert_eq!(times, [1, 1], "{}{}", run.stdout, run.stderr);
}

#[test]
fn globals_are_a_dataset_of_their_own() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let role = format!("{}_app", live.name);
    live.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hash me'; COMMENT ON ROLE {role} IS 'two\nlines; one'"));
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.postgres(&live.url, &["backup", "--globals", "--dataset", "roles", "--to", &sink, "--encrypt", &encrypt])
        .good();
    live.run(&format!("DROP ROLE {role}"));
    desk.run("lifeboat-postgres", &["verify", "--dataset", "roles", "--to", &sink, "--identity", &desk.key()]).good();
    let into = ["restore", "--dataset", "roles", "--to", &sink, "--identity", &desk.key(), "--into", &live.url];
    desk.run("lifeboat-postgres", &into).good();
    assert_eq!(live.run(&format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'")).trim(), "t");
    live.run(&format!("DROP ROLE {role}"));
}

#[test]
fn what_a_role_lacks_is_explained_by_name() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let role = format!("{}_backup", live.name);
    live.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT pg_read_all_data TO {role};
         CREATE TABLE tenants (x int); ALTER TABLE tenants ENABLE ROW LEVEL SECURITY"
    ));
    let (_, server) = live.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:pw@{server}");
    desk.backup(&url).ended(1).says("row security").says("tenants").says("BYPASSRLS");
    live.run("DROP TABLE tenants; SELECT lo_from_bytea(4711, 'x')");
    desk.backup(&url).ended(1).says("large objects").says("4711");
    live.run(&format!("SELECT lo_unlink(4711); CREATE TABLE closed (x int); REVOKE pg_read_all_data FROM {role}"));
    desk.backup(&url).ended(1).says("closed").says("GRANT");
    assert_eq!(desk.stored(), Vec::<String>::new());
    live.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn chosen_schemas_and_tables_without_their_rows() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run("CREATE SCHEMA a; CREATE TABLE a.t AS SELECT 1 AS x; CREATE TABLE a.log AS SELECT generate_series(1, 5) AS x; CREATE TABLE b AS SELECT 2 AS x");
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.postgres(
        &live.url,
        &[
            "backup",
            "--dataset",
            "shop",
            "--to",
            &sink,
            "--encrypt",
            &encrypt,
            "--schema",
            "a",
            "--exclude-table-data",
            "a.log",
        ],
    )
    .good();
    desk.verify("restore").good();
    let restored = Database::reserved();
    desk.run(
        "lifeboat-postgres",
        &["restore", "--dataset", "shop", "--to", &sink, "--identity", &desk.key(), "--into", &restored.url],
    )
    .good();
    assert_eq!(
        restored
            .run("SELECT (SELECT count(*) FROM a.t), (SELECT count(*) FROM a.log), to_regclass('b') IS NULL")
            .trim(),
        "1|0|t"
    );
}

#[test]
fn drift_of_the_live_database_is_told() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(
        "CREATE TABLE steady AS SELECT generate_series(1, 100); CREATE TABLE growing AS SELECT generate_series(1, 100)",
    );
    desk.backup(&live.url).good();
    live.run("INSERT INTO growing SELECT generate_series(1, 100)");
    let run = desk.postgres(
        &live.url,
        &["verify", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--level", "live"],
    );
    let run = run.good().says("growing").says("200 live");
    assert!(!run.stdout.contains("table public.steady"), "{}", run.stdout);
}

/// A server that takes nothing but TLS, with a certificate of an authority of its own.
fn tls_server(name: &str) -> Server {
    Server::start_with(|folder| {
        let line = format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
             openssl req -newkey rsa:2048 -nodes -subj /CN={name} -keyout server.key -out server.csr
             printf 'subjectAltName=DNS:{name},IP:127.0.0.1' > ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem
             chmod 600 server.key; chmod 644 ca.pem"
        );
        let made = std::process::Command::new("bash").args(["-ec", &line]).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n";
        std::fs::write(folder.join("hba.conf"), hba).unwrap();
        let show = |file: &str| folder.join(file).display().to_string();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", show("server.pem")),
            format!("ssl_key_file={}", show("server.key")),
            format!("hba_file={}", show("hba.conf")),
        ]
    })
}

#[test]
fn tls_is_used_and_its_certificate_checked() {
    let (server, desk) = (tls_server("localhost"), Desk::new());
    psql(&server.url, "CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
    let authority = server.folder().join("ca.pem").display().to_string();
    // With the authority: our own session, pg_dump and pg_restore all come in, over TLS.
    let trusted = format!("{}?sslmode=require&sslrootcert={authority}", server.url);
    desk.backup(&trusted).good();
    desk.verify("restore").good();
    let restored = format!("{}?sslmode=require&sslrootcert={authority}", with_database(&server.url, "restored"));
    let into = ["restore", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--into", &restored];
    desk.run("lifeboat-postgres", &into).good();
    // Without: nobody says who it is that answers.
    let unknown = format!("{}?sslmode=require", server.url);
    desk.backup(&unknown).ended(1).says("certificate").says("sslrootcert=");
    // Without TLS this server lets nobody in.
    desk.backup(&server.url).ended(1).says("pg_hba.conf").says("sslmode=require");
    let check = desk.postgres(&trusted, &["check", "--to", &desk.sink(), "--encrypt", &desk.encrypt()]);
    check.good().says("over TLS");
}

#[test]
fn a_database_that_is_not_utf8_comes_back() {
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let (server, desk) = (Database::fresh(), Desk::new());
        let live = Database::reserved();
        server.run(&format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'",
            live.name
        ));
        let text = match encoding {
            "LATIN1" => "SET client_encoding = 'UTF8'; INSERT INTO t VALUES (1, 'größer £ ÿ')",
            "EUC_JP" => "SET client_encoding = 'UTF8'; INSERT INTO t VALUES (1, '日本語')",
            _ => r"INSERT INTO t VALUES (1, convert_from('\xfffe41', 'SQL_ASCII'))",
        };
        live.run(&format!("CREATE TABLE t (id int, x text); {text}"));
        desk.backup(&live.url).good();
        desk.verify("restore").good();
        let restored = Database::reserved();
        let into =
            ["restore", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--into", &restored.url];
        desk.run("lifeboat-postgres", &into).good();
        let bytes = "SELECT pg_encoding_to_char(encoding), (SELECT encode(x::bytea, 'hex') FROM t) FROM pg_database WHERE datname = current_database()";
        let bytes = bytes.replace("x::bytea", "convert_to(x, getdatabaseencoding())");
        assert_eq!(live.run(&bytes), restored.run(&bytes), "{encoding}");
    }
}

#[test]
fn a_role_without_superuser_rights_backs_up_and_restores() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let role = format!("{}_plain", live.name);
    live.run(&format!("CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'pw'; ALTER DATABASE {} OWNER TO {role}", live.name));
    let (_, server) = live.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:pw@{server}");
    psql(
        &url,
        "CREATE EXTENSION hstore; CREATE TABLE t AS SELECT i AS id, hstore(i::text, 'x') AS h FROM generate_series(1, 500) i; SELECT lo_from_bytea(0, 'mine')",
    );
    desk.backup(&url).good();
    desk.verify("restore").good();
    let (fresh, empty) = (Database::reserved(), Database::reserved());
    let with_role = |database: &Database| with_database(&url, &database.name);
    let restore = |into: &str, more: &[&str]| {
        let base = ["restore", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--into", into]
            .map(str::to_owned);
        let all: Vec<&str> = base.iter().map(String::as_str).chain(more.iter().copied()).collect();
        desk.run("lifeboat-postgres", &all)
    };
    restore(&with_role(&fresh), &[]).good();
    assert_eq!(fresh.schema(), live.schema());
    restore(&with_role(&fresh), &[&*format!("--replace={}", fresh.name)]).good();
    assert_eq!(fresh.schema(), live.schema());
    // One that was made for it beforehand is filled in one transaction: no right to make databases is needed.
    live.run(&format!("CREATE DATABASE {} OWNER {role}", empty.name));
    live.run(&format!("ALTER ROLE {role} NOCREATEDB"));
    restore(&with_role(&empty), &[]).good();
    assert_eq!(empty.schema(), live.schema());
    restore(&with_role(&Database::reserved()), &[]).ended(1).says("CREATEDB");
    for database in [&fresh, &empty] {
        live.run(&format!("DROP DATABASE {}", database.name));
    }
    live.run(&format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}"));
    live.run(&format!("ALTER DATABASE {} OWNER TO CURRENT_USER; DROP ROLE {role}", live.name));
}

#[test]
fn money_times_and_bytes_do_not_depend_on_who_looks() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(&format!(
        "CREATE TABLE t AS SELECT '2026-11-21 03:30:00+05'::timestamptz AS at, '\\x00ff'::bytea AS b, 12.5::money AS m, '1 day 2 hours'::interval AS i, 0.1::float8 + 0.2 AS f;
         ALTER DATABASE {0} SET timezone = 'Asia/Kolkata'; ALTER DATABASE {0} SET bytea_output = 'escape';
         ALTER DATABASE {0} SET datestyle = 'German'; ALTER DATABASE {0} SET extra_float_digits = 0; ALTER DATABASE {0} SET intervalstyle = 'iso_8601'",
        live.name
    ));
    desk.backup(&live.url).good();
    desk.verify("restore").good();
}

#[test]
fn roles_are_restored_together_or_not_at_all_and_those_that_are_there_stay_as_they_are() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let (there, gone, weak) =
        (format!("{}_there", live.name), format!("{}_gone", live.name), format!("{}_weak", live.name));
    live.run(&format!(
        "CREATE ROLE {there} LOGIN PASSWORD 'old'; CREATE ROLE {gone}; CREATE ROLE {weak} LOGIN PASSWORD 'pw'"
    ));
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.postgres(&live.url, &["backup", "--globals", "--dataset", "roles", "--to", &sink, "--encrypt", &encrypt])
        .good();
    live.run(&format!("ALTER ROLE {there} NOLOGIN PASSWORD 'new'; DROP ROLE {gone}"));
    let hash = format!("SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = '{there}'");
    let before = live.run(&hash);
    let into = |url: &str| {
        desk.run(
            "lifeboat-postgres",
            &["restore", "--dataset", "roles", "--to", &sink, "--identity", &desk.key(), "--into", url],
        )
    };
    let (_, server) = live.url.split_once('@').unwrap();
    into(&format!("postgres://{weak}:pw@{server}")).ended(1).says("nothing was changed").says("superuser");
    assert_eq!(live.run(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{gone}'")).trim(), "0");
    into(&live.url).good().says(&there);
    assert_eq!(live.run(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{gone}'")).trim(), "1");
    assert_eq!(live.run(&hash), before);
    live.run(&format!("DROP ROLE {there}; DROP ROLE {gone}; DROP ROLE {weak}"));
}

#[test]
fn check_fails_where_the_backup_would() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let role = format!("{}_reader", live.name);
    live.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'; CREATE TABLE closed (x int)"));
    let (_, server) = live.url.split_once('@').unwrap();
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    let check = |url: &str| desk.postgres(url, &["check", "--to", &sink, "--encrypt", &encrypt]);
    check(&live.url).good();
    check(&format!("postgres://{role}:pw@{server}")).ended(1).says("closed").says("pg_read_all_data");
    live.run(&format!("DROP ROLE {role}"));
}

#[test]
fn a_flipped_bit_anywhere_in_the_stored_object_is_found_and_its_hash_says_so() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE t AS SELECT i AS id, md5(i::text) AS x FROM generate_series(1, 20000) i");
    desk.backup(&live.url).good();
    let name = desk.stored().into_iter().find(|f| f.ends_with(".age")).unwrap();
    let path = desk.path("sink").join(name);
    let whole = std::fs::read(&path).unwrap();
    for at in [40, 250, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        for level in ["stored", "structure", "restore"] {
            desk.verify(level).ended(1).says("SHA-256");
        }
    }
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    desk.verify("restore").ended(1).says("cut short");
    std::fs::write(&path, &whole).unwrap();
    desk.verify("restore").good();
    // Once it failed; now it is good again, and list says so.
    assert_eq!(desk.list()[0]["verified_level"], "restore");
}

#[test]
fn a_database_that_was_emptied_pushes_no_fuller_backup_out() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE orders AS SELECT i AS id, md5(i::text) AS what FROM generate_series(1, 1000) i");
    desk.backup(&live.url).good();
    live.run("DELETE FROM orders WHERE id > 100");
    desk.backup(&live.url).good().says("warning: shop is much smaller than before").says("1000 rows");
    live.run("DROP TABLE orders");
    desk.backup(&live.url).good().says("warning: shop is empty").says("--max-shrink 100%");
    let holds = |desk: &Desk| -> Vec<Option<String>> {
        desk.list().iter().map(|row| row["holds"].as_str().map(str::to_owned)).collect()
    };
    let (less, empty) = (Some("less".to_owned()), Some("empty".to_owned()));
    assert_eq!(holds(&desk), [None, less, empty.clone()]);
    desk.run("lifeboat-postgres", &["list", "-v", "--to", &desk.sink()])
        .good()
        .says("managed, LESS")
        .says("managed, EMPTY");
    desk.run("lifeboat-postgres", &["show", "--dataset", "shop", "--to", &desk.sink()]).good().says("0 rows");
    // It is good, and says what it is.
    desk.verify("structure").good().says("amount").says("PASS");
    let prune = ["prune", "--dataset", "shop", "--to", &desk.sink(), "--keep", "last=1", "-v"];
    let pruned = desk.run("lifeboat-postgres", &prune).good();
    pruned.says("newer ones hold less").says("which stays: was anything lost at the source?");
    assert_eq!(holds(&desk), [None, empty]);
    // The first one is the one that stays, and its rows come back.
    let (first, restored) = (desk.list()[0]["key"].as_str().unwrap().to_owned(), Database::reserved());
    let into = ["--at", &first, "--identity", &desk.key(), "--into", &restored.url];
    desk.run("lifeboat-postgres", &[&["restore", "--dataset", "shop", "--to", &desk.sink()][..], &into].concat())
        .good();
    assert_eq!(restored.run("SELECT count(*) FROM orders").trim(), "1000");
}

#[test]
fn a_pattern_that_fits_nothing_is_an_error_although_another_one_fits() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(
        "CREATE TABLE orders (id int); CREATE SCHEMA more; CREATE TABLE more.x (id int); INSERT INTO orders SELECT 1",
    );
    let backup = |selection: &[&str]| {
        let (sink, encrypt) = (desk.sink(), desk.encrypt());
        let place = ["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt];
        desk.postgres(&live.url, &[&place[..], selection].concat())
    };
    backup(&["--table", "orders", "--table", "ordres"]).ended(1).says("ordres");
    backup(&["--schema", "public", "--schema", "mroe"]).ended(1).says("mroe");
    assert_eq!(desk.stored(), Vec::<String>::new());
    backup(&["--table", "orders", "--schema", "more"]).good();
}

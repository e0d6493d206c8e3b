//! The sources keep what the trait promises, on a real server, and what they back up passes the restore test.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

mod postgres;

use std::sync::Arc;
use std::time::Duration;

use lifeboat_backends::postgres::{
    Globals, Postgres, PostgresSettings, PostgresTarget, PostgresVerifier, RestoreOptions, VerifierOptions,
};
use lifeboat_core::{Context, ErrorKind, RestoreInput, Source, Status, Target, Verifier};
use lifeboat_testkit::conformance::source;
use lifeboat_testkit::postgres::{Database, Server, psql, try_psql, with_database};
use postgres::{
    Notes, backup_with, connection, input, passed, prove, proven, replacing, restore_as, rows_alone, said, stock, test,
    worst,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_database() {
    let live = Database::fresh();
    live.run("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS x FROM generate_series(1, 30000) i");
    source::all(&Postgres::new(connection(&live.url))).await;
    assert_eq!(live.run("SELECT count(*) FROM t").trim(), "30000");
}

/// Tables of several kinds, some megabytes as COPY text.
const SIZES: &str = "
    CREATE TABLE narrow AS SELECT i AS id, i * 7 AS n FROM generate_series(1, 60000) i;
    CREATE TABLE wide AS SELECT i AS id, md5(i::text) AS a, now() AS at, repeat(md5(i::text), 4) AS b FROM generate_series(1, 8000) i;
    CREATE TABLE lengthy AS SELECT i AS id, string_agg(md5((i * j)::text), ' ') AS x FROM generate_series(1, 100) i, generate_series(1, 600) j GROUP BY i;
    CREATE TABLE bin AS SELECT i AS id, decode(string_agg(md5((i * j)::text), ''), 'hex') AS x FROM generate_series(1, 100) i, generate_series(1, 600) j GROUP BY i;
    CREATE SCHEMA \"Odd\"; CREATE TABLE \"Odd\".\"T.1\" AS SELECT i AS id, md5(i::text) AS x FROM generate_series(1, 20000) i;
    CREATE INDEX ON wide (a); CREATE INDEX ON wide (b); CREATE INDEX ON wide (a, b);
    CREATE MATERIALIZED VIEW seen AS SELECT * FROM wide;
    SELECT lo_from_bytea(0, decode(repeat('00ff', 100000), 'hex'));";

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_is_near_whatever_is_chosen() {
    let live = Database::fresh();
    live.run(SIZES);
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = PostgresSettings::default;
    let estimate = async |settings: &PostgresSettings| {
        let source = Postgres::new(connection(&live.url)).options(settings.clone()).unwrap();
        source.estimate().await.unwrap().unwrap().bytes
    };
    let choices = [
        all(),
        all().tables(named(&["narrow"])),
        all().tables(named(&["WIDE"])),
        all().tables(named(&["public.len*"])),
        all().tables(named(&["bin"])),
        all().tables(named(&["\"Odd\".\"T.1\""])),
        all().schemas(named(&["\"Odd\""])),
        all().exclude_schemas(named(&["pub*"])),
        all().exclude_tables(named(&["narrow", "lengthy"])),
        all().exclude_table_data(named(&["wide", "bin", "lengthy", "narrow"])),
    ];
    let mut dumped = Vec::new();
    for settings in &choices {
        dumped.push(backup_with(&live.url, settings.clone(), &Context::default()).await.unwrap().0.len() as u64);
    }
    for analyzed in [false, true] {
        if analyzed {
            live.run("VACUUM ANALYZE");
        }
        for (settings, bytes) in choices.iter().zip(&dumped) {
            let estimate = estimate(settings).await;
            assert!(
                estimate.max(*bytes) < estimate.min(*bytes) * 3,
                "{estimate} estimated, {bytes} dumped: {settings:?}"
            );
        }
    }
    // What pg_dump is told beside, it alone understands.
    let more = all().extra_args(named(&["--schema-only"]));
    let source = Postgres::new(connection(&live.url)).options(more).unwrap();
    assert_eq!(source.estimate().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_of_a_server() {
    let live = Database::fresh();
    // Other tests make and drop roles meanwhile: only what does not compare two readings.
    let globals = Globals::new(connection(&live.url));
    source::a_reading_can_be_left_in_the_middle(&globals).await;
    source::cancelling_ends_it(&globals).await;
}

/// What only a superuser may own, and what another machine does not have.
const OBJECTS: &str = "
    CREATE ROLE boss SUPERUSER; CREATE ROLE plain; CREATE ROLE mapped; CREATE ROLE \"Odd Role\";
    CREATE TABLESPACE fast LOCATION '{tablespace}';
    CREATE TABLE here (id int PRIMARY KEY USING INDEX TABLESPACE fast, x text) TABLESPACE fast;
    INSERT INTO here SELECT i, 'x' || i FROM generate_series(1, 100) i;
    CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
    CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION on_ddl(); ALTER EVENT TRIGGER watch OWNER TO boss;
    CREATE PUBLICATION everything FOR ALL TABLES; ALTER PUBLICATION everything OWNER TO boss;
    CREATE SUBSCRIPTION from_afar CONNECTION 'host=192.0.2.1 password=secret' PUBLICATION p WITH (connect = false);
    ALTER SUBSCRIPTION from_afar OWNER TO boss;
    CREATE FOREIGN DATA WRAPPER other; ALTER FOREIGN DATA WRAPPER other OWNER TO boss;
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname '{name}');
    CREATE USER MAPPING FOR mapped SERVER loop OPTIONS (user 'm'); CREATE USER MAPPING FOR \"Odd Role\" SERVER loop;
    CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (user 'postgres', password '{password}');
    CREATE FOREIGN TABLE far (id int, x text) SERVER loop OPTIONS (table_name 'here');
    CREATE VIEW far_view AS SELECT * FROM far;
    CREATE MATERIALIZED VIEW far_copy AS SELECT * FROM far_view;
    CREATE MATERIALIZED VIEW far_copy_again AS SELECT * FROM far_copy;
    CREATE EXTENSION pg_stat_statements;
    CREATE MATERIALIZED VIEW statements AS SELECT calls FROM pg_stat_statements;
    -- What the owner may read as a superuser only.
    CREATE SCHEMA closed AUTHORIZATION plain; CREATE TABLE closed.t AS SELECT 1 AS a; ALTER TABLE closed.t OWNER TO plain;
    CREATE MATERIALIZED VIEW seen AS SELECT * FROM closed.t; ALTER MATERIALIZED VIEW seen OWNER TO boss;
    -- More relations than a server's lock table has room for, all in one view.
    CREATE TABLE many (id int, x text) PARTITION BY RANGE (id);
    SELECT format('CREATE TABLE many_%s PARTITION OF many FOR VALUES FROM (%s) TO (%s)', i, i, i + 1) FROM generate_series(1, 2500) i \\gexec
    INSERT INTO many SELECT i, 'y' || i FROM generate_series(1, 2500) i;
    CREATE MATERIALIZED VIEW all_of_many AS SELECT count(*) FROM many;
    SELECT count(lo_from_bytea(0, i::text::bytea)) FROM generate_series(1, 2500) i;";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_object_passes_the_restore_test() {
    let mut folder = String::new();
    let server = Server::start_with(|place| {
        std::fs::create_dir(place.join("space")).unwrap();
        folder = place.join("space").display().to_string();
        ["wal_level=logical", "max_locks_per_transaction=512", "shared_preload_libraries=pg_stat_statements"]
            .map(str::to_owned)
            .to_vec()
    });
    let live = Database::on(&server.url);
    let (_, rest) = server.url.split_once("://postgres:").unwrap();
    let (password, rest) = rest.split_once('@').unwrap();
    let port = rest.split_once(':').unwrap().1.split_once('/').unwrap().0;
    let mut objects = OBJECTS.to_owned();
    for (name, value) in [("tablespace", &*folder), ("port", port), ("name", &*live.name), ("password", password)] {
        objects = objects.replace(&format!("{{{name}}}"), value);
    }
    live.run(&objects);
    let (dump, proof) = backup_with(&live.url, PostgresSettings::default(), &Context::default()).await.unwrap();
    let checks = prove(&dump, &proof).await;
    let said = said(&checks);
    assert!(passed(&checks), "{said}");
    assert!(said.contains("content: large objects Pass 1 (2500 objects)"), "{said}");
    assert!(said.contains("far_copy, far_copy_again"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_and_mapped_roles_of_another_server_are_left_out_and_told() {
    let live = Database::fresh();
    let role = format!("{}_mapped", live.name);
    live.run(&format!(
        "CREATE ROLE {role}; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
         CREATE USER MAPPING FOR {role} SERVER s; CREATE TABLE t AS SELECT 1 AS id"
    ));
    let plain = String::from_utf8(stock("pg_dump", &live.url, &[])).unwrap();
    let dump = stock("pg_dump", &live.url, &["-Fc"]);
    live.run(&format!("DROP USER MAPPING FOR {role} SERVER s; DROP ROLE {role}"));
    let checks = restore_as("dump", &Database::reserved().url, &dump, RestoreOptions::default()).await.unwrap();
    assert!(said(&checks).contains(&format!("roles Warn 1 missing: {role}")), "{}", said(&checks));
    let plain = plain.replace("CREATE USER MAPPING", "-- ").replace(&format!("FOR {role} SERVER s;"), "");
    let elsewhere = plain.replacen("SET default_tablespace = '';", "SET default_tablespace = \"No Such\";", 1);
    assert_ne!(plain, elsewhere);
    for checks in [
        test("sql", elsewhere.as_bytes()).await,
        restore_as("sql", &Database::reserved().url, elsewhere.as_bytes(), RestoreOptions::default()).await.unwrap(),
    ] {
        assert!(passed(&checks) && said(&checks).contains("1 missing: No Such"), "{}", said(&checks));
    }
    // In an archive the tablespace is a field of the entry.
    let server = Server::start_with(|place| {
        std::fs::create_dir(place.join("space")).unwrap();
        Vec::new()
    });
    let there = Database::on(&server.url);
    let folder = psql(&server.url, "SHOW data_directory").trim().replace("/data", "/space");
    there.run(&format!("CREATE TABLESPACE no_such LOCATION '{folder}'"));
    there.run("CREATE TABLE t TABLESPACE no_such AS SELECT 1 AS id; CREATE INDEX ON t (id) TABLESPACE no_such");
    let into = Database::reserved();
    let dump = stock("pg_dump", &there.url, &["-Fc"]);
    let checks = restore_as("dump", &into.url, &dump, RestoreOptions::default()).await.unwrap();
    assert!(said(&checks).contains("tablespaces Warn 1 missing: no_such"), "{}", said(&checks));
    assert_eq!(into.run("SELECT count(*) FROM t").trim(), "1");
    let kept = Database::on(&server.url);
    kept.run("SELECT 1");
    let checks = restore_as("dump", &kept.url, &dump, RestoreOptions::default()).await.unwrap();
    assert!(!said(&checks).contains("tablespaces"), "{}", said(&checks));
    assert_eq!(kept.run("SELECT count(*) FROM pg_class WHERE reltablespace <> 0 AND relname LIKE 't%'").trim(), "2");
    drop((there, kept));
}

/// Rows that land in another partition at the restore, in tables whose columns stand in another order.
const PARTITIONS: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TABLE moods (id int, m mood, x text) PARTITION BY HASH (m);
    CREATE TABLE moods_0 (x text, gone int, m mood, id int); ALTER TABLE moods_0 DROP COLUMN gone;
    ALTER TABLE moods ATTACH PARTITION moods_0 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE moods_1 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO moods SELECT i, (enum_range(NULL::mood))[1 + i % 3], E'x\\ty' || i FROM generate_series(1, 300) i;
    CREATE TABLE days (d int, \"odd, name\" text) PARTITION BY RANGE (d);
    CREATE TABLE days_1 (\"odd, name\" text, d int); ALTER TABLE days ATTACH PARTITION days_1 FOR VALUES FROM (1) TO (10);
    CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (d);
    CREATE TABLE days_2_1 PARTITION OF days_2 FOR VALUES FROM (10) TO (20);
    INSERT INTO days SELECT i, repeat('z', 20000) FROM generate_series(1, 19) i;
    CREATE TABLE old (id int); CREATE TABLE old_heir (y int) INHERITS (old);
    INSERT INTO old VALUES (1); INSERT INTO old_heir VALUES (2, 3), (4, 5);
    CREATE VIEW busy AS SELECT d, count(*) AS n FROM days GROUP BY d; CREATE MATERIALIZED VIEW calm AS SELECT * FROM busy;";

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_loaded_through_a_root_are_compared_there() {
    let live = Database::fresh();
    live.run(PARTITIONS);
    for extra in [&[][..], &["--load-via-partition-root"]] {
        let extra_args: Vec<String> = extra.iter().map(|a: &&str| (*a).to_owned()).collect();
        let settings = PostgresSettings::default().extra_args(extra_args);
        let (dump, proof) = backup_with(&live.url, settings, &Context::default()).await.unwrap();
        let checks = prove(&dump, &proof).await;
        assert!(passed(&checks), "{extra:?}: {}", said(&checks));
        assert!(proof.of_kind("table").all(|item| item.fingerprint.is_some()), "{proof:?}");
        // It still sees what is not so.
        let mut other = proof.clone();
        let roots = other.items.iter_mut().filter(|item| item.name.starts_with("public.moods"));
        roots.for_each(|item| item.fingerprint = Some(lifeboat_core::Fingerprint(1)));
        assert!(!passed(&prove(&dump, &other).await), "{extra:?}");
        // Rows of one table in two orders of columns could not be read back.
        let days =
            rows_alone("dump", &dump, Some(&proof), if extra.is_empty() { "public.days_1" } else { "public.days" });
        assert_eq!(
            days.map(|_| ()).map_err(|e| e.kind()),
            if extra.is_empty() { Ok(()) } else { Err(ErrorKind::Unsupported) }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_alone_out_of_an_archive_and_out_of_plain_sql() {
    let live = Database::fresh();
    live.run(PARTITIONS);
    live.run("CREATE TABLE \"Odd.Table\" (t text); INSERT INTO \"Odd.Table\" VALUES ('\\.'), (E'a\\nb'), (NULL), ('')");
    let (dump, proof) = backup_with(&live.url, PostgresSettings::default(), &Context::default()).await.unwrap();
    let plain = stock("pg_dump", &live.url, &[]);
    for (table, columns) in
        [("public.days_1", "(\"odd, name\", d)"), ("public.old", "(id)"), ("public.\"Odd.Table\"", "(t)")]
    {
        let expected = live.run(&format!("COPY {table} TO STDOUT"));
        for (format, dump, proof) in [("dump", &dump, Some(&proof)), ("dump", &dump, None), ("sql", &plain, None)] {
            let (rows, form) = rows_alone(format, dump, proof, table).unwrap();
            assert!(rows == expected, "{table} of {format}: {rows:.200}");
            if proof.is_some() {
                assert_eq!(form, format!("rows for COPY {table} {columns} FROM STDIN"));
            }
        }
    }
    for (format, dump) in [("dump", &dump), ("sql", &plain)] {
        // Quotes can be left out; a name that is not there is told with those that are near.
        assert!(rows_alone(format, dump, None, "public.Odd.Table").is_ok());
        let error = rows_alone(format, dump, None, "public.ol").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{format}: {error}");
        assert!(error.advice().unwrap().contains("public.old"), "{error:?}");
        for cut in [dump.len() / 2, dump.len() - 40] {
            let error = rows_alone(format, &dump[..cut], None, "public.old").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{format} cut to {cut}: {error}");
        }
    }
    let globals = stock("pg_dumpall", &live.url, &["--globals-only"]);
    assert_eq!(rows_alone("globals.sql", &globals, None, "app").unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_parts_and_a_view_come_with_their_rows() {
    let live = Database::fresh();
    live.run(PARTITIONS);
    let dump = stock("pg_dump", &live.url, &["-Fc"]);
    let only = |table: &str| RestoreOptions::default().tables(vec![table.to_owned()]);
    for (table, count) in [("days", "19"), ("old", "3"), ("calm", "19"), ("moods", "300")] {
        let into = Database::fresh();
        let checks = restore_as("dump", &into.url, &dump, only(table)).await.unwrap();
        assert_eq!(into.run(&format!("SELECT count(*) FROM {table}")).trim(), count, "{}", said(&checks));
    }
    // What a view is computed from is left alone where it is there.
    let into = Database::fresh();
    into.run("CREATE TABLE days (d int, \"odd, name\" text); INSERT INTO days VALUES (77, 'mine')");
    restore_as("dump", &into.url, &dump, only("calm")).await.unwrap();
    assert_eq!(into.run("SELECT d FROM calm").trim(), "77");
    assert_eq!(into.run("SELECT count(*) FROM days").trim(), "1");
    // A view holds no rows: that the tables below it have none is said.
    let into = Database::fresh();
    let checks = restore_as("dump", &into.url, &dump, only("busy")).await.unwrap();
    assert!(said(&checks).contains("empty Warn 1: days: "), "{}", said(&checks));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_every_database_has_is_restored_into() {
    // A server on which nobody else may connect to the databases that every server has.
    let server = Server::start();
    for sql in [
        "CREATE ROLE app LOGIN CREATEDB PASSWORD 'pw'; CREATE ROLE other; GRANT other TO app",
        "CREATE DATABASE app OWNER app",
        "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
    ] {
        psql(&server.url, sql);
    }
    let url = |database: &str| {
        let (_, place) = server.url.rsplit_once('@').unwrap();
        with_database(&format!("postgres://app:pw@{place}"), database)
    };
    psql(
        &with_database(&server.url, "app"),
        "ALTER SCHEMA public OWNER TO app; COMMENT ON SCHEMA public IS 'ours';
         CREATE TABLE public.t AS SELECT generate_series(1, 10) AS id; ALTER TABLE public.t OWNER TO app;
         CREATE SCHEMA not_ours; CREATE TABLE not_ours.u (id int)",
    );
    let settings = PostgresSettings::default().schemas(vec!["public".to_owned()]);
    let (dump, proof) = backup_with(&with_database(&server.url, "app"), settings, &Context::default()).await.unwrap();
    let checks = prove(&dump, &proof).await;
    assert!(passed(&checks), "{}", said(&checks));
    let plain = stock("pg_dump", &with_database(&server.url, "app"), &["--schema=public", "--no-owner"]);
    let checks = test("sql", &plain).await;
    assert!(passed(&checks) && said(&checks).contains("1 (10 rows)"), "{}", said(&checks));
    // A comment on the schema may be made by its owner only.
    psql(&with_database(&server.url, "app"), "COMMENT ON SCHEMA public IS NULL");
    let settings = PostgresSettings::default().schemas(vec!["public".to_owned()]);
    let (dump, _) = backup_with(&with_database(&server.url, "app"), settings, &Context::default()).await.unwrap();
    let plain = stock("pg_dump", &with_database(&server.url, "app"), &["--schema=public", "--no-owner"]);
    for (format, dump) in [("dump", &dump), ("sql", &plain)] {
        let name = format!("new_{format}");
        for options in [RestoreOptions::default(), replacing()] {
            restore_as(format, &url(&name), dump, options).await.unwrap_or_else(|e| panic!("{format}: {e:?}"));
            assert_eq!(psql(&url(&name), "SELECT count(*) FROM public.t").trim(), "10");
        }
        assert_eq!(psql(&url(&name), "SELECT has_schema_privilege('other', 'public', 'USAGE')").trim(), "t");
    }
    restore_as("dump", &with_database(&server.url, "kept"), &dump, RestoreOptions::default()).await.unwrap();
    let owner = "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'";
    assert_eq!(psql(&with_database(&server.url, "kept"), owner).trim(), "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_machine_lacks_is_no_verdict() {
    const END: &str = "\n--\n-- PostgreSQL database dump complete\n--\n";
    let during = |sql: &str| {
        format!(
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
               IF current_database() = 'restored' THEN {sql}; END IF; RETURN 1; END $f$;
             CREATE MATERIALIZED VIEW public.m AS SELECT public.f();"
        )
    };
    for (sql, figure, in_sql) in [
        ("EXECUTE $x$COPY (SELECT repeat('x', 100000)) TO '/dev/full'$x$", "disk full", true),
        ("EXECUTE $x$COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'$x$", "server ended", true),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", "server ended", true),
        // In plain SQL what a function raises is its own text, which is not looked at.
        ("RAISE 'x must be loaded via shared_preload_libraries'", "not testable here", false),
    ] {
        let live = Database::fresh();
        live.run(&during(sql));
        let checks = test("dump", &stock("pg_dump", &live.url, &["-Fc"])).await;
        assert_eq!(worst(&checks), Some(Status::Untested), "{sql}: {}", said(&checks));
        assert!(said(&checks).contains(&format!("restore Untested {figure}: ")), "{}", said(&checks));
        let checks = test("sql", &stock("pg_dump", &live.url, &[])).await;
        assert_eq!(worst(&checks) == Some(Status::Untested), in_sql, "{sql}: {}", said(&checks));
    }
    for statement in [
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS '$libdir/no_such_library', 'f'",
        "CREATE EXTENSION no_such_extension",
        "CREATE COLLATION public.c (provider = libc, locale = 'xx_XX.utf8')",
        "CREATE TEXT SEARCH DICTIONARY public.d (TEMPLATE = pg_catalog.ispell, dictfile = 'none', afffile = 'none')",
    ] {
        let checks = test("sql", format!("{statement};{END}").as_bytes()).await;
        assert_eq!(worst(&checks), Some(Status::Untested), "{statement}: {}", said(&checks));
    }
    // What the dump itself does wrong is its own fault.
    let twice =
        format!("CREATE TABLE public.t (id int PRIMARY KEY);\nCOPY public.t (id) FROM stdin;\n1\n1\n\\.\n{END}");
    let checks = test("sql", twice.as_bytes()).await;
    assert_eq!(worst(&checks), Some(Status::Fail), "{}", said(&checks));
    // A path that no socket can have.
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(90));
    std::fs::create_dir(&long).unwrap();
    let verifier = PostgresVerifier::new(VerifierOptions::default().scratch_folder(long));
    let dump = format!("SELECT 1;{END}");
    let checks = verifier.restore_test(input("sql", dump.as_bytes()), &Context::default()).await.unwrap();
    assert_eq!(worst(&checks), Some(Status::Untested), "{}", said(&checks));
    assert!(said(&checks).contains("shorter path"), "{}", said(&checks));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_waits_for_a_lock_says_for_whom() {
    let live = Database::fresh();
    live.run("CREATE TABLE public.held AS SELECT 1 AS id");
    let name = live.name.clone();
    let hold = || {
        let url = live.url.clone();
        let holder = std::thread::spawn(move || {
            let sql = "SET application_name = 'migration'; BEGIN; LOCK TABLE public.held; SELECT pg_sleep(60)";
            lifeboat_testkit::postgres::try_psql(&url, sql)
        });
        let held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'migration' AND query LIKE '%pg_sleep%' AND wait_event = 'PgSleep' AND datname = current_database()";
        while live.run(held).trim() != "1" {
            std::thread::sleep(Duration::from_millis(20));
        }
        holder
    };
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'migration'"
    );
    let holder = hold();
    // The catalog is read at once; a table that nothing has counted yet is not waited for.
    let estimate = async || {
        let source = Postgres::new(connection(&live.url));
        tokio::time::timeout(Duration::from_secs(10), source.estimate()).await
    };
    assert!(estimate().await.expect("it gives up soon").is_err());
    live.run(&end);
    assert!(holder.join().unwrap().is_err(), "it was ended");
    live.run("VACUUM ANALYZE public.held");
    let holder = hold();
    assert!(estimate().await.expect("it waits for nobody").unwrap().is_some());
    let notes = Arc::new(postgres::Notes::default());
    let cx = Context::default().progress(notes.clone());
    let release = async {
        while notes.0.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        live.run(&end);
    };
    let both = async { tokio::join!(backup_with(&live.url, PostgresSettings::default(), &cx), release) };
    let (backup, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it is told, and released");
    let (dump, _) = backup.unwrap();
    assert!(!dump.is_empty());
    let told = notes.0.lock().unwrap().join("\n");
    assert!(told.contains("public.held") && told.contains("(migration)"), "{told}");
    assert!(holder.join().unwrap().is_err(), "it was ended");
    // One that is never released: what to do is said.
    let holder = hold();
    let extra_args = vec!["--lock-wait-timeout=100".to_owned()];
    let settings = PostgresSettings::default().extra_args(extra_args);
    let source = Postgres::new(connection(&live.url)).options(settings).unwrap();
    let mut reading = lifeboat_core::Source::open(&source, &Context::default()).await.unwrap();
    let error = loop {
        if let Err(error) = futures::StreamExt::next(&mut reading.stream).await.expect("it fails") {
            break error;
        }
    };
    assert!(error.advice().unwrap().contains("holds a lock"), "{error:?}");
    live.run(&end);
    assert!(holder.join().unwrap().is_err());
}

/// A database of an application: its owner, one who may only read, and what is set for the database as a whole.
const APPLICATION: [&str; 2] = [
    "CREATE ROLE app LOGIN PASSWORD 'pw'; CREATE ROLE reader LOGIN PASSWORD 'pw'; CREATE ROLE \"Gone Away\";
     CREATE ROLE helper LOGIN CREATEDB PASSWORD 'pw'; GRANT app TO helper;
     CREATE DATABASE shop OWNER app CONNECTION LIMIT 50; REVOKE CONNECT, TEMPORARY ON DATABASE shop FROM PUBLIC;
     GRANT CONNECT ON DATABASE shop TO reader; GRANT CONNECT ON DATABASE shop TO helper WITH GRANT OPTION;
     ALTER DATABASE shop SET search_path = sales, public; ALTER ROLE reader IN DATABASE shop SET work_mem = '7MB';
     COMMENT ON DATABASE shop IS 'ours';",
    "SET ROLE app; CREATE SCHEMA sales; GRANT USAGE ON SCHEMA sales TO reader, \"Gone Away\";
     CREATE TABLE sales.orders (id serial PRIMARY KEY, what text); INSERT INTO sales.orders (what) VALUES ('x'), ('y');
     GRANT SELECT ON sales.orders TO \"Gone Away\"; GRANT SELECT (id, what) ON sales.orders TO reader;
     CREATE TABLE public.plain AS SELECT 1 AS id; GRANT SELECT ON public.plain TO \"Gone Away\", reader;
     ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO reader, \"Gone Away\";",
];

/// What of a database as a whole must come back.
const AS_A_WHOLE: &str = "SELECT datdba::regrole, datacl, datconnlimit, shobj_description(oid, 'pg_database'),
    (SELECT array_agg(coalesce(setrole::regrole::text, '') || setconfig::text ORDER BY 1) FROM pg_db_role_setting WHERE setdatabase = d.oid)
    FROM pg_database d WHERE datname = ";

fn as_role(role: &str, server: &str, database: &str) -> String {
    with_database(&format!("postgres://{role}:pw@{}", server.rsplit_once('@').unwrap().1), database)
}

/// The application works: its role reads, writes and alters, the other one reads and no more.
fn works(server: &str, database: &str) {
    let (app, reader) = (as_role("app", server, database), as_role("reader", server, database));
    psql(
        &app,
        "INSERT INTO sales.orders (what) VALUES ('new'); ALTER TABLE sales.orders ADD COLUMN extra int; DROP TABLE public.plain",
    );
    assert_eq!(psql(&app, "SELECT count(*) FROM sales.orders").trim(), "3", "{database}");
    assert_eq!(psql(&reader, "SELECT count(what) FROM sales.orders").trim(), "3", "{database}");
    assert!(try_psql(&reader, "DELETE FROM sales.orders").is_err(), "{database}");
    // What is made later is readable too.
    psql(&app, "CREATE TABLE sales.later AS SELECT 1 AS id");
    assert_eq!(psql(&reader, "SELECT count(*) FROM sales.later").trim(), "1", "{database}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_works_after_its_database_was_restored() {
    let (old, new) = (Server::start(), Server::start());
    for statement in APPLICATION[0].split_inclusive(';') {
        psql(&old.url, statement);
    }
    let shop = with_database(&old.url, "shop");
    // Before 15 everybody may create there.
    psql(&shop, "GRANT CREATE ON SCHEMA public TO app");
    psql(&shop, APPLICATION[1]);
    let globals = stock("pg_dumpall", &with_database(&old.url, "postgres"), &["--globals-only"]);
    let (dump, proof) = backup_with(&shop, PostgresSettings::default(), &Context::default()).await.unwrap();
    let plain = stock("pg_dump", &shop, &[]);
    let as_a_whole = |server: &Server, name: &str| psql(&server.url, &format!("{AS_A_WHOLE}'{name}'"));
    let before = as_a_whole(&old, "shop");

    // A new server without the roles: said before anything is loaded, and again in the end. One role is there, and keeps what
    // it had beside one that is not.
    psql(&new.url, "CREATE ROLE reader LOGIN PASSWORD 'pw'");
    for (format, dump) in [("dump", &dump), ("sql", &plain)] {
        let notes = Arc::new(Notes::default());
        let cx = Context::default().progress(notes.clone());
        let name = format!("bare_{format}");
        let target = PostgresTarget::new(connection(&with_database(&new.url, &name)), RestoreOptions::default());
        let checks = target.restore(input(format, dump), &cx).await.unwrap();
        assert!(said(&checks).contains("roles Warn"), "{}", said(&checks));
        for role in ["app", "Gone Away"] {
            assert!(
                said(&checks).lines().any(|l| l.starts_with("roles Warn") && l.contains(role)),
                "{}",
                said(&checks)
            );
        }
        if format == "dump" {
            let said = notes.0.lock().unwrap().concat();
            assert!(said.contains("Gone Away, app") && said.contains("globals"), "{said}");
        }
        let reader = as_role("reader", &new.url, &name);
        psql(&with_database(&new.url, &name), &format!("GRANT CONNECT ON DATABASE {name} TO reader"));
        assert_eq!(psql(&reader, "SELECT count(id) FROM sales.orders").trim(), "2");
        assert_eq!(psql(&reader, "SELECT count(*) FROM public.plain").trim(), "1");
    }

    // The same server after its roles were restored.
    // As a script stored them, under a name that does not say what they are: the job does.
    let roles = PostgresTarget::new(connection(&new.url), RestoreOptions::default()).globals(true);
    let RestoreInput { stream, .. } = input("globals.sql", &globals);
    let unnamed = RestoreInput::new(stream, "roles-20261121-033000.gz".parse().unwrap(), None);
    roles.restore(unnamed, &Context::default()).await.unwrap();
    let target = PostgresTarget::new(connection(&with_database(&new.url, "shop")), RestoreOptions::default());
    let checks = target.restore(proven(&dump, &proof), &Context::default()).await.unwrap();
    assert_eq!(worst(&checks), Some(Status::Pass), "{}", said(&checks));
    assert_eq!(as_a_whole(&new, "shop"), before);
    works(&new.url, "shop");

    // In place.
    psql(&shop, "DROP TABLE sales.orders");
    let target = PostgresTarget::new(connection(&shop), replacing());
    let checks = target.restore(proven(&dump, &proof), &Context::default()).await.unwrap();
    assert_eq!(worst(&checks), Some(Status::Pass), "{}", said(&checks));
    assert_eq!(as_a_whole(&old, "shop"), before);
    works(&old.url, "shop");

    // By a role that is no superuser, but the application's: what it may not give away is named.
    let helper = as_role("helper", &old.url, "helped");
    restore_as("dump", &helper, &dump, RestoreOptions::default()).await.unwrap();
    works(&old.url, "helped");
    psql(&shop, "CREATE TABLE public.of_postgres (id int)");
    let (dump, _) = backup_with(&shop, PostgresSettings::default(), &Context::default()).await.unwrap();
    let helper = as_role("helper", &old.url, "helped_too");
    let checks = restore_as("dump", &helper, &dump, RestoreOptions::default()).await.unwrap();
    assert!(said(&checks).contains("owners Warn 1 not kept: role helper may not give postgres"), "{}", said(&checks));

    // As asked: nobody's but the connecting role's, and no grants.
    for (format, dump) in [("dump", &dump), ("sql", &plain)] {
        let url = with_database(&old.url, &format!("mine_{format}"));
        let bare = RestoreOptions::default().no_owners(true).no_privileges(true);
        restore_as(format, &url, dump, bare).await.unwrap();
        let owner = "SELECT relowner::regrole, relacl FROM pg_class WHERE oid = 'sales.orders'::regclass";
        assert_eq!(psql(&url, owner).trim(), "postgres|");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_inherits_nothing_is_told_what_helps() {
    let live = Database::fresh();
    let role = format!("{}_n", live.name);
    live.run(&format!(
        "CREATE ROLE {role} LOGIN NOINHERIT PASSWORD 'pw'; CREATE TABLE public.t AS SELECT 1 AS id; GRANT pg_read_all_data TO {role}"
    ));
    let url = as_role(&role, &live.url, &live.name);
    let error = backup_with(&url, PostgresSettings::default(), &Context::default()).await.unwrap_err();
    // Another grant would change nothing.
    let remedy = format!("ALTER ROLE {role} INHERIT");
    let advice = error.advice().unwrap();
    assert!(advice.contains(&remedy) && advice.contains("member of pg_read_all_data"), "{error:?}");
    let checks = lifeboat_backends::postgres::check(&connection(&url), &PostgresSettings::default()).await;
    assert!(said(&checks).contains(&remedy), "{}", said(&checks));
    live.run(&remedy);
    backup_with(&url, PostgresSettings::default(), &Context::default()).await.unwrap();
    live.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

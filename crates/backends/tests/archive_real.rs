//! The archive parser against what the real pg_dump writes and the real server says.
//!
//! Needs PostgreSQL's server programs, in `LIFEBOAT_PG_BIN` or `/usr/lib/postgresql/*/bin`.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use lifeboat_backends::postgres::archive::{
    ArchiveTap, BlockIndex, Parser, TableRows, Toc, TocProgress, TocReader, Wanted, block_positions, copy_to_stdout,
    fill_offsets, select,
};
use lifeboat_core::{ErrorKind, Extract, Fingerprint, Proof, ProofItem, Tap};
use xxhash_rust::xxh3::xxh3_128;

/// The newest PostgreSQL that is installed.
static BIN: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(bin) = std::env::var_os("LIFEBOAT_PG_BIN") {
        return bin.into();
    }
    let version = |p: &Path| p.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL's programs are needed: set LIFEBOAT_PG_BIN")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max_by_key(|bin| version(bin))
        .expect("PostgreSQL's server programs are needed: set LIFEBOAT_PG_BIN")
});

/// A server of this test's own, on a socket in a temporary folder.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("lifeboat-pg").tempdir().unwrap();
        if is_root() {
            let uid = String::from_utf8(output(Command::new("id").args(["-u", "postgres"]))).unwrap();
            std::os::unix::fs::chown(dir.path(), Some(uid.trim().parse().unwrap()), None).unwrap();
        }
        let cluster = Self { dir };
        let data = cluster.path("data");
        let settings = ["--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"];
        output(server("initdb").arg("-D").arg(&data).args(settings));
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c full_page_writes=off",
            cluster.dir.path().display()
        );
        // The server keeps the streams that it is started with.
        let log = fs::File::create(cluster.path("log")).unwrap();
        let started = server("pg_ctl")
            .arg("-D")
            .arg(&data)
            .args(["-w", "-o", &options, "start"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        assert!(started.success(), "{}", fs::read_to_string(cluster.path("log")).unwrap());
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(BIN.join(program));
        command.env("PGHOST", self.dir.path()).env("PGUSER", "postgres").env("PGCLIENTENCODING", "UTF8");
        command.env_remove("PGPORT").env_remove("PGDATABASE").env_remove("PGSERVICE");
        command
    }

    /// Runs SQL with the settings that pg_dump gives its session, and gives the bytes that come out.
    fn sql(&self, database: &str, sql: &str) -> Vec<u8> {
        let mut psql = self.client("psql");
        psql.env("PGOPTIONS", "-c extra_float_digits=3 -c DateStyle=ISO -c IntervalStyle=postgres -c search_path=");
        output(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]))
    }

    fn number(&self, database: &str, sql: &str) -> u32 {
        String::from_utf8(self.sql(database, sql)).unwrap().trim().parse().unwrap()
    }

    fn create(&self, database: &str, sql: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0"));
        let file = self.path(&format!("{database}.sql"));
        fs::write(&file, sql).unwrap();
        output(self.client("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]).arg(file));
    }

    /// An archive as it comes out of a pipe.
    fn piped(&self, database: &str, args: &[&str]) -> Vec<u8> {
        output(self.client("pg_dump").args(["-Fc", "-d", database]).args(args))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = server("pg_ctl").arg("-D").arg(self.path("data")).args(["-m", "immediate", "stop"]).output();
    }
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")) == b"0\n"
}

/// A server program. PostgreSQL refuses to run as root.
fn server(program: &str) -> Command {
    let program = BIN.join(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn output(command: &mut Command) -> Vec<u8> {
    let done = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn prove(archive: &[u8]) -> Proof {
    let mut tap = Box::new(ArchiveTap::new());
    for chunk in archive.chunks(70_000) {
        tap.push(chunk).unwrap();
    }
    tap.finish().unwrap()
}

fn toc_of(archive: &[u8]) -> Toc {
    match TocReader::new().push(archive).unwrap() {
        TocProgress::Complete { toc, .. } => *toc,
        TocProgress::Incomplete => panic!("the archive is whole"),
    }
}

fn item<'a>(proof: &'a Proof, name: &str) -> &'a ProofItem {
    proof.items.iter().find(|i| i.name == name).unwrap_or_else(|| panic!("no {name} in {:#?}", proof.items))
}

fn names(proof: &Proof) -> Vec<&str> {
    proof.items.iter().map(|i| i.name.as_str()).collect()
}

/// The rows of a table as they are read alone out of an archive, with its proof.
fn rows_of(archive: &[u8], table: &str) -> lifeboat_core::Result<(Vec<u8>, Proof)> {
    let mut rows = Vec::new();
    let mut out = |bytes: &[u8]| {
        rows.extend_from_slice(bytes);
        Ok(())
    };
    let mut extract = Box::new(TableRows::new(table, None));
    for chunk in archive.chunks(70_000) {
        extract.take(chunk, &mut out)?;
    }
    let proof = extract.end(&mut out)?;
    Ok((rows, proof))
}

/// Rows of the COPY text of every table, as the server gives it, against the proof, and against what is read alone.
fn assert_tables_are_proven(cluster: &Cluster, database: &str, archive: &[u8], proof: &Proof) -> usize {
    let copies = proof.details["copy"].as_object().unwrap();
    for (table, relation) in copies {
        let sql = copy_to_stdout(relation.as_str().unwrap(), table == "public.pt").unwrap();
        let text = cluster.sql(database, &sql);
        let mut sum = Fingerprint::default();
        let rows: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').map(|r| &r[..r.len() - 1]).collect();
        rows.iter().for_each(|row| sum.add(row));
        let item = item(proof, table);
        let found = (rows.len() as u64, text.len() as u64, Some(sum));
        assert_eq!((item.count, item.bytes, item.fingerprint), found, "{table}");
        let (alone, whole) = rows_of(archive, table).unwrap();
        let lines = |text: &[u8]| {
            let mut lines: Vec<Vec<u8>> = text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            lines
        };
        assert!(lines(&alone) == lines(&text), "{table}, read alone");
        assert_eq!(whole.items, proof.items, "{table}");
    }
    copies.len()
}

const SHOP: &str = r#"
CREATE SCHEMA "Odd Schema";
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('a', 'b');
CREATE DOMAIN s.pos AS int CHECK (VALUE > 0);
CREATE FUNCTION s.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE public.a (id serial PRIMARY KEY, t text DEFAULT 'x', m s.mood, p s.pos, f float8, CHECK (id > 0));
INSERT INTO public.a (t, m, p, f) VALUES (E'back\\slash', 'a', 1, 0.1), (E'tab\there', 'b', 2, 1e300),
    (E'new\nline\r', NULL, NULL, 'NaN'), ('\.', NULL, NULL, NULL), (E'\\.\n', NULL, NULL, NULL), ('', NULL, NULL, -0.0),
    ('ünïcödé ☂', NULL, NULL, 3.14), ('\N', NULL, NULL, NULL);
CREATE TABLE "Odd Schema"."Order" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a_id int REFERENCES public.a,
    "weird ""col FROM stdin;" text);
INSERT INTO "Odd Schema"."Order" (a_id) VALUES (1), (2), (NULL);
CREATE TABLE public."ünï 'q' ""d"" . x" (v text);
INSERT INTO public."ünï 'q' ""d"" . x" VALUES ('one');
CREATE TABLE public.empty (x int);
CREATE TABLE public.nocol ();
INSERT INTO public.nocol DEFAULT VALUES;
INSERT INTO public.nocol DEFAULT VALUES;
CREATE TABLE public.one_text (t text);
INSERT INTO public.one_text VALUES (''), ('\.'), (NULL), (E'\n\n\n');
CREATE TABLE public.wide (id int, t text);
INSERT INTO public.wide SELECT i, repeat(md5(i::text), 9000) FROM generate_series(1, 5) i;
CREATE TABLE public.many AS SELECT i AS id, md5(i::text) AS h FROM generate_series(1, 20000) i;
CREATE TABLE s.g (a int, b int GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO s.g VALUES (1), (2);
CREATE TABLE public.pt (id int PRIMARY KEY, d date) PARTITION BY RANGE (id);
CREATE TABLE public.pt1 PARTITION OF public.pt FOR VALUES FROM (0) TO (100);
CREATE TABLE public.pt2 PARTITION OF public.pt FOR VALUES FROM (100) TO (200);
INSERT INTO public.pt SELECT i, '2026-01-01' FROM generate_series(0, 199) i;
CREATE TABLE public.child (extra int) INHERITS (public.a);
CREATE INDEX a_t_idx ON public.a (t);
CREATE INDEX a_f_idx ON public.a (s.f(id));
CREATE FUNCTION public.trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER tr BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.trg();
CREATE VIEW public.v AS SELECT * FROM public.a;
CREATE MATERIALIZED VIEW public.mv AS SELECT count(*) FROM public.a;
CREATE INDEX mv_idx ON public.mv (count);
CREATE STATISTICS public.st ON id, t FROM public.a;
ALTER TABLE public.a ENABLE ROW LEVEL SECURITY;
CREATE POLICY po ON public.a USING (true);
COMMENT ON TABLE public.a IS 'a table';
COMMENT ON COLUMN public.a.t IS 'a column';
CREATE SEQUENCE public."We'ird ""s""" MINVALUE -5 START -5;
SELECT nextval('public."We''ird ""s"""');
CREATE TABLE public.uses (n int DEFAULT nextval('public.a_id_seq'));
SELECT lo_from_bytea(16468, 'abc'), lo_from_bytea(16469, ''), lo_from_bytea(3000000000, 'zz');
SELECT lo_from_bytea(77, decode(repeat('00ff10', 100000), 'hex'));
"#;

/// Tables of the shop that hold data: all but the partitioned one.
const TABLES: usize = 13;

#[test]
fn proof_of_a_dump_is_what_the_server_says() {
    let cluster = Cluster::start();
    cluster.create("shop", SHOP);
    for args in [&["-Z0"][..], &["-Z1"], &["-Z9"]] {
        let archive = cluster.piped("shop", args);
        let proof = prove(&archive);
        assert_eq!(assert_tables_are_proven(&cluster, "shop", &archive, &proof), TABLES, "{args:?}");
        // What is not all there is never given out as if it were.
        for cut in [archive.len() / 3, archive.len() - 400_000, archive.len() - 1] {
            let error = rows_of(&archive[..cut], "public.many").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut to {cut}: {error}");
        }
        let error = rows_of(&archive, "public.many_").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.advice().unwrap().contains("public.many") && error.message().contains("13 items"), "{error:?}");
        assert_eq!(item(&proof, "public.nocol").count, 2);
        assert_eq!(item(&proof, "public.one_text").count, 4);
        assert_eq!(item(&proof, "\"Odd Schema\".\"Order\"").count, 3);
        assert_eq!(item(&proof, "public.a_id_seq").value.as_deref(), Some("8,true"));
        assert_eq!(item(&proof, "public.\"We'ird \"\"s\"\"\"").value.as_deref(), Some("-5,true"));
        let contents = [
            (16468u32, b"abc".to_vec()),
            (16469, Vec::new()),
            (3_000_000_000, b"zz".to_vec()),
            (77, [0, 255, 16].repeat(100_000)),
        ];
        let mut sum = Fingerprint::default();
        for (oid, content) in contents {
            sum.0 = sum.0.wrapping_add(xxh3_128(&[&oid.to_le_bytes()[..], &content].concat()));
        }
        let objects = item(&proof, "all");
        assert_eq!((objects.count, objects.bytes, objects.fingerprint), (4, 300_005, Some(sum)));
        assert_eq!(proof.details["dbname"], "shop");
        assert_eq!(proof.details["encoding"], "UTF8");
        assert_eq!(proof.details["materialized_views"][0], "public.mv");
        assert_eq!(proof.details["roles"][0], "postgres");
    }
}

#[test]
fn dumps_of_other_shapes_are_read_for_what_they_are() {
    let cluster = Cluster::start();
    cluster.create("shop", SHOP);
    let archive = cluster.piped("shop", &["-Z0", "--load-via-partition-root"]);
    let proof = prove(&archive);
    assert_eq!(item(&proof, "public.pt").count, 200);
    assert!(!names(&proof).contains(&"public.pt1"));
    assert_tables_are_proven(&cluster, "shop", &archive, &proof);
    let archive = cluster.piped("shop", &["--inserts"]);
    assert_eq!(rows_of(&archive, "public.many").unwrap_err().kind(), ErrorKind::Unsupported);
    let proof = prove(&archive);
    assert_eq!(item(&proof, "public.many").fingerprint, None);
    assert!(item(&proof, "public.many").bytes > 1_000_000);
    assert_eq!(proof.details["inserts"].as_array().unwrap().len(), TABLES);
    for args in [["-s", "-Z0"], ["--section=pre-data", "-Z0"], ["--exclude-table-data=*.*", "-Z0"]] {
        let proof = prove(&cluster.piped("shop", &args));
        assert!(proof.items.iter().all(|i| i.kind != "table"), "{args:?}");
    }
}

#[test]
fn a_filled_piped_archive_is_the_one_that_a_file_gets() {
    let cluster = Cluster::start();
    cluster.create("shop", SHOP);
    for level in ["-Z0", "-Z6"] {
        let file = cluster.path(&format!("file{level}"));
        output(cluster.client("pg_dump").args(["-Fc", "-d", "shop", level, "-f"]).arg(&file));
        let mut want = fs::read(&file).unwrap();
        let mut got = cluster.piped("shop", &[level]);
        // The archive says when it was made: after the compression, seven ints.
        let at = if got[6] < 15 { 16 } else { 12 };
        for archive in [&mut got, &mut want] {
            for int in 0..7 {
                archive[at + 5 * int..at + 5 * int + 5].fill(0);
            }
        }
        assert!(got != want, "the offsets differ before they are filled");

        let proof = prove(&got);
        let toc = toc_of(&got);
        let (head, data) = got.split_at(toc.byte_len as usize);
        let filled = fill_offsets(&toc, head, &block_positions(&proof)).unwrap();
        assert!([&filled, data].concat() == want, "{level}: the filled archive differs");

        let mut index = BlockIndex::default();
        let mut parser = Parser::new();
        parser.push(&got, &mut index).unwrap();
        parser.finish().unwrap();
        let spool = cluster.path("spool");
        fs::write(&spool, &got).unwrap();
        index.fill_in_place(&mut fs::OpenOptions::new().write(true).open(&spool).unwrap()).unwrap();
        assert!(fs::read(&spool).unwrap() == want, "{level}: the spooled archive differs");
        // With offsets the parser checks each block's place.
        assert_eq!(prove(&want).items, proof.items);
    }
}

/// Restores a selection into a new database, and gives its proof.
fn restore_selected(cluster: &Cluster, archive: &[u8], into: &str, tables: &[&str], schemas: &[&str]) -> Proof {
    let toc = toc_of(archive);
    let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let selection = select(&toc, &Wanted { tables: own(tables), schemas: own(schemas), ..Wanted::default() }).unwrap();
    let (list, dump) = (cluster.path("list"), cluster.path("dump"));
    fs::write(&list, selection.list(&toc)).unwrap();
    fs::write(&dump, archive).unwrap();
    cluster.create(into, "");
    output(cluster.client("pg_restore").args(["--exit-on-error", "-d", into, "-L"]).arg(&list).arg(&dump));
    prove(&cluster.piped(into, &["-Z0"]))
}

#[test]
fn selected_tables_restore_whole() {
    let cluster = Cluster::start();
    cluster.create("shop", SHOP);
    let archive = cluster.piped("shop", &["-Z1"]);
    let whole = prove(&archive);

    let got = restore_selected(&cluster, &archive, "one", &["public.a"], &[]);
    // The rows of a table that inherits are rows of its parent.
    assert_eq!(names(&got), ["public.a", "public.child", "public.a_id_seq"]);
    assert_eq!(item(&got, "public.a"), item(&whole, "public.a"));
    assert_eq!(item(&got, "public.a_id_seq"), item(&whole, "public.a_id_seq"));
    for (catalog, column, count) in [
        ("pg_index", "indrelid", 3),
        ("pg_trigger", "tgrelid", 1),
        ("pg_policy", "polrelid", 1),
        ("pg_attrdef", "adrelid", 2),
        ("pg_description", "objoid", 2),
        ("pg_statistic_ext", "stxrelid", 1),
    ] {
        let sql = format!("SELECT count(*) FROM {catalog} WHERE {column} = 'public.a'::regclass");
        assert_eq!(cluster.number("one", &sql), count, "{catalog}");
    }
    assert_eq!(cluster.number("one", "INSERT INTO public.a (t) VALUES ('next') RETURNING id"), 9);

    // The order's foreign key stays out without its other table, and comes with it.
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    let got = restore_selected(&cluster, &archive, "two", &["Odd Schema.Order"], &[]);
    assert_eq!(got.items.len(), 2);
    assert_eq!(cluster.number("two", keys), 0);
    assert_eq!(cluster.number("two", "INSERT INTO \"Odd Schema\".\"Order\" (a_id) VALUES (7) RETURNING id"), 4);
    restore_selected(&cluster, &archive, "three", &["Order", "a"], &[]);
    assert_eq!(cluster.number("three", keys), 1);

    // One partition, a table that borrows a sequence, and a materialized view, which brings the rows it is computed from.
    let got = restore_selected(&cluster, &archive, "four", &["pt1", "uses", "mv"], &[]);
    assert_eq!(item(&got, "public.pt1"), item(&whole, "public.pt1"));
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'public.pt1'::regclass";
    assert_eq!(cluster.number("four", indexes), 1);
    assert_eq!(cluster.number("four", "INSERT INTO public.uses DEFAULT VALUES RETURNING n"), 9);
    let count = "SELECT count FROM public.mv";
    assert_eq!(cluster.number("four", count), cluster.number("shop", count));

    let got = restore_selected(&cluster, &archive, "five", &["pt", "pt1", "pt2", "child", "v"], &[]);
    assert_eq!(item(&got, "public.pt2").count, 100);
    assert_eq!(cluster.number("five", "SELECT count(*) FROM public.pt"), 200);

    let got = restore_selected(&cluster, &archive, "six", &["\"ünï 'q' \"\"d\"\" . x\""], &["s"]);
    assert_eq!(names(&got), ["public.\"ünï 'q' \"\"d\"\" . x\"", "s.g"]);
    assert_eq!(cluster.number("six", "SELECT s.f(4)"), 5);
}

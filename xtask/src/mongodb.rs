//! A server that speaks MongoDB's protocol, FerretDB with SQLite behind it, and MongoDB's own tools.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::process::{self, Guard};
use crate::requirements::Requirement;
use crate::services::{Launch, Service, Session};
use crate::toolchain::{GoBuild, Module, Recipe};

/// A custom `main` around FerretDB's embeddable package: `ferretdb ADDRESS FOLDER`. The stock command lacks a generated
/// file when it is built as a dependency.
const FERRETDB: GoBuild = GoBuild {
    name: "ferretdb",
    version: "v1.24.0",
    recipe: Recipe::Module(Module { binaries: &[("ferretdb", ".")], link: "" }),
    note: "a minute",
};

const TOOLS: GoBuild = GoBuild {
    name: "mongo-tools",
    version: "v0.0.0-20240723193119-837c2bc263f4",
    recipe: Recipe::Module(Module {
        binaries: &[
            ("mongodump", "github.com/mongodb/mongo-tools/mongodump/main"),
            ("mongorestore", "github.com/mongodb/mongo-tools/mongorestore/main"),
        ],
        link: "",
    }),
    note: "half a minute",
};

pub(crate) const SERVICE: Service = Service {
    name: "mongodb",
    about: "FerretDB: LIFEBOAT_TEST_MONGO_URL, _FERRETDB_BIN; tools: _MONGODUMP, _MONGORESTORE",
    default: true,
    requirements: &[Requirement::Go(&TOOLS), Requirement::Go(&FERRETDB)],
    start,
};

fn start(session: &mut Session) -> Result<()> {
    let folder = session.scratch().folder("mongodb")?;
    let binary = FERRETDB.path("ferretdb")?;
    let port = session.serve(
        "ferretdb",
        Duration::from_secs(60),
        |port| {
            let mut command = process::guarded(&binary, Guard::default())?;
            command.arg(format!("127.0.0.1:{port}")).arg(&folder).current_dir(&folder);
            Ok(Launch { command, stop: Signal::TERM })
        },
        |port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
        },
    )?;
    session.export("LIFEBOAT_TEST_MONGO_URL", format!("mongodb://127.0.0.1:{port}/"));
    session.export("LIFEBOAT_TEST_FERRETDB_BIN", binary);
    for (name, variable) in [("mongodump", "LIFEBOAT_TEST_MONGODUMP"), ("mongorestore", "LIFEBOAT_TEST_MONGORESTORE")] {
        session.export(variable, TOOLS.path(name)?);
    }
    Ok(())
}

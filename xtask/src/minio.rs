//! MinIO from the Go module proxy: the S3 server of the tests.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::process::{self, Guard};
use crate::requirements::Requirement;
use crate::scratch;
use crate::services::{Launch, Service, Session};
use crate::toolchain::{GoBuild, Recipe};

const MINIO: GoBuild = GoBuild {
    name: "minio",
    version: "v0.0.0-20260212201848-7aac2a2c5b7c",
    recipe: Recipe::Install("github.com/minio/minio"),
    note: "two minutes and more",
};

pub(crate) const SERVICE: Service = Service {
    name: "minio",
    about: "MinIO: LIFEBOAT_TEST_MINIO_URL, _USER, _PASSWORD, _BIN",
    default: true,
    requirements: &[Requirement::Go(&MINIO)],
    start,
};

fn start(session: &mut Session) -> Result<()> {
    let folder = session.scratch().folder("minio")?;
    let user = format!("lifeboat-{}", scratch::random_hex(4)?);
    let password = scratch::random_hex(16)?;
    let binary = MINIO.path(MINIO.name)?;
    let port = session.serve(
        "minio",
        Duration::from_secs(60),
        |port| {
            let mut command = process::guarded(&binary, Guard::default())?;
            command
                .args(["server", "--address", &format!("127.0.0.1:{port}"), "--certs-dir"])
                .arg(folder.join("certificates"))
                .arg(folder.join("data"))
                .env("MINIO_ROOT_USER", &user)
                .env("MINIO_ROOT_PASSWORD", &password)
                // No console: it would listen on a port of its own. No questions to the outside.
                .env("MINIO_BROWSER", "off")
                .env("MINIO_UPDATE", "off")
                .current_dir(&folder);
            Ok(Launch { command, stop: Signal::TERM })
        },
        answers,
    )?;
    session.export("LIFEBOAT_TEST_MINIO_BIN", binary);
    session.export("LIFEBOAT_TEST_MINIO_URL", format!("http://127.0.0.1:{port}"));
    session.export("LIFEBOAT_TEST_MINIO_USER", user);
    session.export("LIFEBOAT_TEST_MINIO_PASSWORD", password);
    Ok(())
}

/// Whether the server on this port accepts requests: it checks `ready`, because `live` only means that it is running.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.write_all(b"GET /minio/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

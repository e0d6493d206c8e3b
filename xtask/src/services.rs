//! The services that tests need: the list of services, and a session of running ones.
//!
//! A new service is a module with a `Service` and one line in `ALL`.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::arguments::UsageError;
use crate::requirements::Requirement;
use crate::scratch::{self, Scratch};
use crate::{minio, mongodb, postgres, process, signals, velero, workspace};

/// Every service, in the order in which they start: each may use what those before it have exported.
pub(crate) const ALL: &[&Service] = &[&postgres::SERVICE, &minio::SERVICE, &mongodb::SERVICE, &velero::SERVICE];

/// A kind of server that tests need.
pub(crate) struct Service {
    /// The name for `--with`.
    pub(crate) name: &'static str,
    /// One line for `--help`.
    pub(crate) about: &'static str,
    /// Whether it starts by default. A service that takes long to build does not: only the whole test suite starts it.
    pub(crate) default: bool,
    pub(crate) requirements: &'static [Requirement],
    /// Starts its servers and exports the environment by which tests find them.
    pub(crate) start: fn(&mut Session) -> Result<()>,
}

/// The default services and the named ones, in the order of `ALL`.
pub(crate) fn select(with: &[String]) -> Result<Vec<&'static Service>> {
    if let Some(unknown) = with.iter().find(|name| !ALL.iter().any(|service| service.name == **name)) {
        let names = ALL.iter().map(|service| service.name).collect::<Vec<_>>().join(", ");
        return Err(UsageError(format!("there is no service `{unknown}`; there are {names}")).into());
    }
    Ok(ALL.iter().copied().filter(|service| service.default || with.iter().any(|name| name == service.name)).collect())
}

/// Every service: for the whole test suite.
pub(crate) fn every() -> Vec<&'static Service> {
    ALL.to_vec()
}

/// The requirements of all of these services.
pub(crate) fn requirements(services: &[&Service]) -> Vec<Requirement> {
    services.iter().flat_map(|service| service.requirements).copied().collect()
}

/// Running servers, their scratch folder, and the environment that names them. Dropping it, or a panic, stops the
/// servers, the last one first, and removes the folder. After a kill -9, the kernel stops the servers.
pub(crate) struct Session {
    servers: Vec<Server>,
    environment: Vec<(&'static str, OsString)>,
    /// Folders that a server creates outside of the scratch folder.
    leftovers: Vec<PathBuf>,
    scratch: Scratch,
}

/// A running server.
struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    stop: Signal,
}

/// How to start a server on a port of 127.0.0.1.
pub(crate) struct Launch {
    /// From `process::guarded`, so that the server cannot outlive this process.
    pub(crate) command: Command,
    /// The signal that asks for an orderly end.
    pub(crate) stop: Signal,
}

impl Session {
    /// Starts the services, one after the other. They must be installed.
    pub(crate) fn start(services: &[&Service]) -> Result<Self> {
        let mut session =
            Self { servers: Vec::new(), environment: Vec::new(), leftovers: Vec::new(), scratch: Scratch::new()? };
        for service in services {
            signals::check()?;
            let started = Instant::now();
            (service.start)(&mut session).with_context(|| format!("cannot start the service {}", service.name))?;
            eprintln!("xtask: {}: started in {:.1} s", service.name, started.elapsed().as_secs_f64());
        }
        Ok(session)
    }

    pub(crate) fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    /// Adds a variable to the environment that tests get.
    pub(crate) fn export(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    pub(crate) fn environment(&self) -> &[(&'static str, OsString)] {
        &self.environment
    }

    /// Once the servers are stopped, removes this folder if it is empty. Folders are removed in the order of the calls.
    pub(crate) fn remove_empty_at_the_end(&mut self, folder: impl Into<PathBuf>) {
        self.leftovers.push(folder.into());
    }

    /// The process id of a running server.
    pub(crate) fn process_id(&self, name: &str) -> Option<u32> {
        self.servers.iter().find(|server| server.name == name).map(|server| server.child.id())
    }

    /// Starts a server on a free port, waits until it is ready, and returns the port. Somebody may take the port before
    /// the server does: then it tries again with another one.
    pub(crate) fn serve(
        &mut self,
        name: &'static str,
        limit: Duration,
        launch: impl Fn(u16) -> Result<Launch>,
        ready: impl Fn(u16) -> bool,
    ) -> Result<u16> {
        const TRIES: usize = 3;
        for attempt in 1..=TRIES {
            let port = scratch::free_port()?;
            let Launch { mut command, stop } = launch(port)?;
            let log = self.scratch.path().join(format!("{name}-{attempt}.log"));
            let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
            use std::os::unix::process::CommandExt as _;
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
            let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
            // From here on, dropping the session stops it.
            self.servers.push(Server { name, child, log, stop });
            match self.wait_until_ready(limit, || ready(port)) {
                Ok(()) => return Ok(port),
                Err(error) => {
                    let taken = self.servers.last().is_some_and(Server::lost_its_port);
                    self.servers.pop();
                    if attempt == TRIES || !taken {
                        return Err(error);
                    }
                }
            }
        }
        bail!("{name} found no free port in {TRIES} tries")
    }

    /// Waits for the server that was started last.
    fn wait_until_ready(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let Some(server) = self.servers.last_mut() else { return Ok(()) };
        let deadline = Instant::now() + limit;
        loop {
            signals::check()?;
            server.check_alive()?;
            if ready() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} is not ready after {} s; {}", server.name, limit.as_secs(), server.keep_log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a signal arrives, or until a server ends by itself, which is an error.
    pub(crate) fn stay(&mut self) -> Result<()> {
        loop {
            if signals::received().is_some() {
                return Ok(());
            }
            for server in &mut self.servers {
                server.check_alive()?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        while let Some(server) = self.servers.pop() {
            drop(server);
        }
        for folder in &self.leftovers {
            // Another run may use it, or have removed it.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl Server {
    fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself with {status}; {}", self.name, self.keep_log());
        }
        Ok(())
    }

    /// Copies the log to a place outside of the scratch folder, and returns that place, with the log's last lines.
    fn keep_log(&self) -> String {
        let kept = workspace::log_file(self.name).and_then(|to| {
            std::fs::copy(&self.log, &to)?;
            Ok(to.display().to_string())
        });
        let place = kept.map_or_else(|_| String::new(), |path| format!("its log is {path}, "));
        format!("{place}the last lines:\n{}", process::log_tail(&self.log))
    }

    fn lost_its_port(&self) -> bool {
        let tail = process::log_tail(&self.log).to_lowercase();
        ["address already in use", "port is already in use", "is already in use"].iter().any(|text| tail.contains(text))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::stop(&mut self.child, self.stop, true, Duration::from_secs(10));
    }
}

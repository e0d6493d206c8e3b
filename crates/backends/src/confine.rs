//! Confinement of the programs of a restore test: their input comes from a bucket, and a dump is code.
//!
//! If Lifeboat is root, they run as a user who owns nothing. Their environment contains nothing of Lifeboat's, and, if
//! the system allows it, they run in a separate network namespace without connections. Unix sockets still work: they
//! are files.

use std::path::Path;
use std::sync::OnceLock;

use lifeboat_core::{Error, ErrorKind, Result};
use tokio::process::Command;

/// The unprivileged user that a root process runs them as. Not `postgres`: that one owns the real databases.
const UNPRIVILEGED: &str = "nobody";

/// What a child keeps of our environment: where programs, libraries and locales are. No other variable reaches it: they hold
/// the keys to buckets and databases.
pub(crate) const KEPT_VARIABLES: [&str; 6] =
    ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LOCPATH", "LOCALE_ARCHIVE", "TZDIR"];

/// Clears a command's environment but for what programs need to run at all.
pub(crate) fn clear_environment(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C");
    for name in KEPT_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// As whom and in which network the programs run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confinement {
    owner: Owner,
    network: Network,
}

/// As whom they run.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Ourselves,
    /// The current user, without an entry in the user database, as in some containers: initdb needs a name, and in a
    /// user namespace we can have any.
    Nameless {
        uid: u32,
        gid: u32,
    },
    /// Another user, because Lifeboat is root.
    User {
        uid: u32,
        gid: u32,
    },
}

/// Their network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    /// No network, by a user namespace, which every user may create if the system allows it.
    UserNamespace,
    /// No network, set up by root before it becomes another user.
    ByRoot,
    /// The host's network: it could not be cut off.
    Ours,
}

impl Confinement {
    /// What can be had here.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when we are root and there is no other user to be.
    pub(crate) fn choose() -> Result<Self> {
        let owner = Owner::choose()?;
        static NETWORK: OnceLock<Network> = OnceLock::new();
        let works = |network| {
            let mut probe = Self { owner, network }.wrap(&Command::new("true")).into_std();
            probe.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            probe.stderr(std::process::Stdio::null()).current_dir("/");
            probe.status().is_ok_and(|status| status.success())
        };
        let root = matches!(owner, Owner::User { .. });
        let network = *NETWORK.get_or_init(|| {
            if works(Network::UserNamespace) {
                Network::UserNamespace
            } else if root && works(Network::ByRoot) {
                Network::ByRoot
            } else {
                Network::Ours
            }
        });
        Ok(Self { owner, network })
    }

    /// Whether the network is cut off.
    pub(crate) fn is_without_network(&self) -> bool {
        self.network != Network::Ours
    }

    /// The command that runs this one confined: with its arguments and only the variables that were set for it. Its
    /// standard streams are to be set after this.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let inner = command.as_std();
        let ids = match self.owner {
            Owner::Ourselves | Owner::Nameless { .. } => None,
            Owner::User { uid, gid } => Some((uid, gid)),
        };
        let mut outer = match self.network {
            Network::Ours => Command::new(inner.get_program()),
            Network::UserNamespace => {
                let mut outer = Command::new("unshare");
                outer.arg("--user");
                match self.owner {
                    Owner::Nameless { uid, gid } => {
                        outer.arg(format!("--map-user={uid}")).arg(format!("--map-group={gid}"));
                    }
                    _ => drop(outer.arg("--map-current-user")),
                }
                outer.args(["--net", "--"]).arg(inner.get_program());
                outer
            }
            Network::ByRoot => {
                let mut outer = Command::new("unshare");
                outer.args(["--net", "--", "setpriv"]);
                if let Some((uid, gid)) = ids {
                    outer.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
                }
                outer.args(["--no-new-privs", "--"]).arg(inner.get_program());
                outer
            }
        };
        if let (Some((uid, gid)), Network::Ours | Network::UserNamespace) = (ids, self.network) {
            outer.uid(uid).gid(gid);
        }
        outer.args(inner.get_args());
        clear_environment(&mut outer);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        if let Some(folder) = inner.get_current_dir() {
            outer.current_dir(folder);
        }
        outer.kill_on_drop(true);
        outer
    }

    /// Lets the programs' user own a file or folder.
    pub(crate) fn give(&self, path: &Path) -> std::io::Result<()> {
        match self.owner {
            Owner::Ourselves | Owner::Nameless { .. } => Ok(()),
            Owner::User { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        }
    }
}

/// Whether a table of users knows who we are: `id` asks all of them. Unless it says otherwise, it does.
fn has_name() -> bool {
    static NAMED: OnceLock<bool> = OnceLock::new();
    *NAMED.get_or_init(|| {
        let mut id = std::process::Command::new("id");
        id.arg("-un").stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        id.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
            || std::process::Command::new("id").arg("-u").stdout(std::process::Stdio::null()).status().is_err()
    })
}

impl Owner {
    fn choose() -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        if !root && has_name() {
            return Ok(Self::Ourselves);
        }
        // passwd(5): name:password:UID:GID:…
        let passwd = std::fs::read_to_string("/etc/passwd").map_err(|e| Error::io("read", "/etc/passwd", e));
        let ids = |passwd: &str| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == UNPRIVILEGED).then_some(())?;
                Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
            })
        };
        if !root {
            let ids = passwd.ok().and_then(|passwd| ids(&passwd));
            return Ok(ids.map_or(Self::Ourselves, |(uid, gid)| Self::Nameless { uid, gid }));
        }
        let ids = ids(&passwd?);
        let (uid, gid) = ids.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "find",
                format!("user {UNPRIVILEGED}"),
                "the scratch server must not run as root",
            )
            .hint("run Lifeboat as an unprivileged user")
        })?;
        Ok(Self::User { uid, gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn output(command: &Command) -> String {
        let confinement = Confinement::choose().unwrap();
        assert!(confinement.is_without_network(), "this machine lets nobody make a network namespace");
        let output = confinement.wrap(command).current_dir("/").output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[tokio::test]
    async fn a_confined_program_has_nothing_of_our_environment() {
        let mut command = Command::new("env");
        command.env("GIVEN", "1");
        let text = output(&command).await;
        let names: Vec<&str> = text.lines().filter_map(|l| l.split('=').next()).collect();
        assert!(names.contains(&"GIVEN") && names.contains(&"LC_ALL"), "{text}");
        let ours = names.iter().filter(|n| !KEPT_VARIABLES.contains(n) && !["GIVEN", "LC_ALL"].contains(n));
        assert_eq!(ours.count(), 0, "{text}");
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there was something to leave out");
    }

    #[tokio::test]
    async fn a_confined_program_has_no_network_and_is_not_root() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo connected; id -u")]);
        let text = output(&command).await;
        assert!(!text.contains("connected"), "{text}");
        assert_ne!(text.trim(), "0");
        // It would have been reached from here.
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}

//! What scratch servers have in common: they never run as root, and end, with their folder, when Lifeboat does.

use std::path::Path;

use lifeboat_core::{Error, ErrorKind, Result};

/// The unprivileged user that a root process runs the server as. Not `postgres`: that one owns the real databases.
const UNPRIVILEGED: &str = "nobody";

/// Runs the server as its child, ends it when standard input ends, and removes the folder. `QUIT` is an immediate shutdown:
/// nothing of the cluster is kept.
pub(crate) const KEEPER: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
( read -r _ <&3
  kill -QUIT "$server" 2>/dev/null
  while kill -0 "$server" 2>/dev/null; do sleep 0.05; done
  rm -rf -- "$LIFEBOAT_SCRATCH" ) &
wait "$server"
"#;

/// As whom the server runs.
pub(crate) enum Owner {
    Ourselves,
    /// Another user, because we are root.
    User {
        uid: u32,
        gid: u32,
    },
}

impl Owner {
    pub(crate) fn choose() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        // passwd(5): name:password:UID:GID:…
        let passwd = std::fs::read_to_string("/etc/passwd").map_err(|e| Error::io("read", "/etc/passwd", e))?;
        let ids = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == UNPRIVILEGED).then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        });
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

    pub(crate) fn give(&self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::User { uid, gid } => std::os::unix::fs::chown(path, Some(*uid), Some(*gid)),
        }
    }

    pub(crate) fn run_as(&self, command: &mut tokio::process::Command, folder: &Path) {
        if let Self::User { uid, gid } = self {
            command.uid(*uid).gid(*gid);
        }
        command.env("HOME", folder).current_dir(folder);
    }
}

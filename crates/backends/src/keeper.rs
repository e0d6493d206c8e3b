//! What scratch servers have in common: they run confined (see [`confine`](crate::confine)), and end, with their folder, when Lifeboat does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use lifeboat_core::{Context, Error, ErrorKind, Result};
use tokio::process::{ChildStdin, Command};

use crate::child::{Ended, Running};
use crate::confine::Confinement;

/// How long a new server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to go away.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Runs the server as its child, ends it when standard input ends, and removes the folder. `QUIT` is an immediate shutdown:
/// nothing of the cluster is kept. It is sent until the server has gone: a shell starts what runs in the background with `QUIT`
/// ignored, and a server that has only just been started does not listen yet.
const KEEPER: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
( read -r _ <&3
  while kill -QUIT "$server" 2>/dev/null; do sleep 0.05; done
  rm -rf -- "$LIFEBOAT_SCRATCH" ) &
wait "$server"
"#;

/// The folder of a scratch server, before it runs. It goes when this is dropped.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    confinement: Confinement,
}

impl Folder {
    /// An empty folder below `parent` that only the server's user may enter.
    pub(crate) fn make(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        // The path of a Unix socket has at most 107 bytes: the name is short.
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .prefix("lifeboat-")
            .rand_bytes(8)
            .tempdir_in(&parent)
            .map_err(|e| Self::unusable(&parent, e))?;
        let made = Self { folder, confinement: Confinement::choose()? };
        made.give(made.path())?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets the server's user own what was put into the folder.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        self.confinement.give(path).map_err(|e| self.failed(e))
    }

    /// The error of something that could not be put into the folder.
    pub(crate) fn failed(&self, error: std::io::Error) -> Error {
        Self::unusable(self.path().parent().unwrap_or(self.path()), error)
    }

    fn unusable(parent: &Path, error: std::io::Error) -> Error {
        Error::io("make", format!("a scratch folder in {}", parent.display()), error)
    }

    /// The command that runs this one as the server runs: as its user, confined, in the folder.
    pub(crate) fn confine(&self, command: &Command) -> Command {
        let mut confined = self.confinement.wrap(command);
        confined.env("HOME", self.path()).env("TMPDIR", self.path()).current_dir(self.path());
        confined
    }

    /// Runs a program that fills the folder, such as `initdb`, to its end. When the future is dropped it ends with all that it
    /// has started: what goes on writing would keep the folder from going.
    ///
    /// # Errors
    /// When it cannot be started. How it ended is the result.
    pub(crate) async fn run(&self, command: &Command) -> Result<Ended> {
        let mut command = self.confine(command);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let running = Running::start(&mut command)?;
        let mut group = Group { leader: running.child.id(), folder: self.path() };
        let ended = running.end().await;
        // Its number may be somebody else's from now on.
        group.leader = None;
        ended
    }

    /// Starts the server. `name` is what errors call it.
    pub(crate) fn start(self, name: &'static str, server: &Command) -> Result<Server> {
        let server = server.as_std();
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "lifeboat-scratch"]).arg(server.get_program()).args(server.get_args());
        for (name, value) in server.get_envs() {
            if let Some(value) = value {
                keeper.env(name, value);
            }
        }
        keeper.env("LIFEBOAT_SCRATCH", self.path());
        let mut keeper = self.confine(&keeper);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(&mut keeper)?;
        let lifeline = running.child.stdin.take();
        // From here on the keeper removes the folder.
        Ok(Server { name, keeper: Some(running), lifeline, confinement: self.confinement, folder: self.folder.keep() })
    }
}

/// The processes that a program in a folder has started, itself among them. They end when this is dropped.
struct Group<'a> {
    /// `None` when it has ended.
    leader: Option<u32>,
    folder: &'a Path,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let leader = self.leader.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let Some(leader) = leader else { return };
        // They may have gone.
        let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        // One that is killed in the middle of a call ends that call first: a tenth of a second is long for it.
        for _ in 0..50 {
            match std::fs::remove_dir_all(self.folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => break,
            }
        }
    }
}

/// A running scratch server. It ends when this is dropped.
pub(crate) struct Server {
    name: &'static str,
    keeper: Option<Running>,
    /// While this is open the server lives.
    lifeline: Option<ChildStdin>,
    confinement: Confinement,
    folder: PathBuf,
}

impl Server {
    /// Asks again and again until there is an answer, which is returned.
    ///
    /// # Errors
    /// [`ErrorKind::Tool`] with the server's own words when it ends, or when it takes too long.
    pub(crate) async fn wait_until_it_answers<T, A: Future<Output = Result<T>>>(
        &mut self,
        cx: &Context,
        mut ask: impl FnMut() -> A,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let error = match tokio::time::timeout(START_LIMIT, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Unavailable, "ask", self.name, "no answer"),
            };
            let running = self.keeper.as_mut().expect("it is taken only when the server is stopped");
            if let Ok(Some(_)) = running.child.try_wait() {
                let running = self.keeper.take().expect("it was there a line above");
                // What empties the folder holds the standard error too, and waits for the lifeline's end.
                drop(self.lifeline.take());
                let ended = tokio::time::timeout(STOP_LIMIT, running.end()).await.map_err(|_| {
                    Error::new(ErrorKind::Tool, "start", self.name, "it ended, and its folder could not be emptied")
                })?;
                return Err(ended?.error("start", self.name));
            }
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("start", self.name));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(Error::new(ErrorKind::Tool, "start", self.name, "it does not answer").with_source(error));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How the server's programs are confined: for others that handle the same bytes.
    pub(crate) fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Stops the server and waits until its folder has gone.
    pub(crate) async fn stop(mut self) {
        drop(self.lifeline.take());
        let Some(keeper) = self.keeper.take() else { return };
        // The server's end is an immediate shutdown: its status says nothing. The keeper's standard error stays open until
        // the folder has been emptied.
        if tokio::time::timeout(STOP_LIMIT, keeper.end()).await.is_err() {
            tracing::warn!(folder = %self.folder.display(), "the scratch server did not go away");
        }
        // Emptied by the server's own user, who may not be allowed to remove it from its parent.
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %error, "the scratch folder stays");
            }
            _ => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closing the lifeline is what ends the server. The keeper itself must live to see that: it is not killed.
        drop(self.lifeline.take());
        if let Some(keeper) = self.keeper.take() {
            keeper.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_dies_at_its_start_is_told_at_once_and_leaves_nothing() {
        let folder = Folder::make(None).unwrap();
        let path = folder.path().to_path_buf();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo it is broken >&2; exit 3"]);
        let mut server = folder.start("the server", &command).unwrap();
        let silent = || async { Err::<(), _>(Error::new(ErrorKind::Unavailable, "ask", "it", "no answer")) };
        let cx = Context::default();
        let started = tokio::time::timeout(Duration::from_secs(20), server.wait_until_it_answers(&cx, silent));
        let error = started.await.expect("it does not hang").unwrap_err();
        assert!(error.message().contains("it is broken"), "{error:?}");
        server.stop().await;
        assert!(!path.exists());
    }
}

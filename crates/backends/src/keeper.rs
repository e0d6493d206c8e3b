//! What scratch servers have in common: they run confined (see [`confine`](crate::confine)), and end, with their folder, when Lifeboat does.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lifeboat_core::{Context, Error, ErrorKind, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};

use crate::child::{Ended, Running};
use crate::confine::Confinement;
use crate::scratch_folder::{ScratchFolder, remove_until};

/// How long a new server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to go away.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long what was killed may go on with the call that it was in. A run that is cancelled ends within five seconds.
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// Runs the server as its child, ends it when standard input ends, and removes the folder. `QUIT` is an immediate shutdown:
/// nothing of the cluster is kept. It is sent until the server has gone: a shell starts what runs in the background with `QUIT`
/// ignored, and a server that has only just been started does not listen yet.
const KEEPER: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
( read -r _ <&3
  while kill -QUIT "$server" 2>/dev/null; do sleep 0.05; done
  empty ) &
wait "$server"
"#;

/// Removes the folder, for both scripts. The lock goes last: by it the next run knows what is left when this is cut short.
const EMPTY: &str = r#"
empty() {
  find "$LIFEBOAT_SCRATCH" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf -- {} + && rm -rf -- "$LIFEBOAT_SCRATCH"
}
"#;

/// Runs the program that fills the folder. When standard input ends, the program is killed and the folder removed, until nothing
/// comes after it: what the program has started goes on for a moment. A line on standard input says that the program has
/// ended, and its number may be another's; a second one lets the folder be.
const FILLER: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
program=$!
remove() {
  tries=0
  until empty || [ "$tries" -ge 100 ]; do tries=$((tries + 1)); sleep 0.05; done
}
( if ! read -r _ <&3; then kill -KILL "$program"; remove
  elif ! read -r _ <&3; then remove; fi ) >/dev/null 2>&1 &
wait "$program"
"#;

/// The folder of a scratch server, before it runs. It goes when this is dropped, and when we are killed: at once where a
/// program of ours was in it, at the next run's start otherwise.
pub(crate) struct Folder {
    folder: ScratchFolder,
    confinement: Confinement,
    /// While this is open the folder is left alone by the shell that a program was run by.
    lifeline: Option<ChildStdin>,
}

impl Folder {
    /// An empty folder below `parent` that only the server's user may enter. What killed runs have left there goes.
    pub(crate) fn make(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let confinement = Confinement::choose()?;
        ScratchFolder::sweep(&parent);
        let folder = ScratchFolder::make(&parent).map_err(|e| Self::unusable(&parent, e))?;
        let scratch = Self { folder, confinement, lifeline: None };
        scratch.give(scratch.path())?;
        Ok(scratch)
    }

    /// Looks whether a socket of this name in the folder has a path that the system takes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it does not.
    pub(crate) fn fits_socket(&self, name: &str) -> Result<()> {
        // sizeof(sun_path) of <sys/un.h>, without the zero at the end: 107 bytes on Linux, 103 elsewhere.
        let most = if cfg!(target_os = "linux") { 107 } else { 103 };
        let length = self.path().as_os_str().len() + 1 + name.len();
        if length <= most {
            return Ok(());
        }
        let parent = self.path().parent().unwrap_or(self.path());
        let why = format!("the path of the server's socket would have {length} bytes, and the system takes {most}");
        Err(Error::new(ErrorKind::Config, "make", format!("a scratch folder in {}", parent.display()), why)
            .hint("name a folder with a shorter path in --scratch-folder or TMPDIR"))
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
    pub(crate) async fn run(&mut self, command: &Command) -> Result<Ended> {
        let mut command = self.confine(&self.kept(FILLER, command));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(&mut command)?;
        self.lifeline = running.child.stdin.take();
        let mut group = Group { leader: running.child.id(), folder: self.folder.path().to_path_buf() };
        let ended = running.end().await;
        // Its number may be somebody else's from now on.
        group.leader = None;
        if let Some(line) = &mut self.lifeline {
            let _ = line.write_all(b"\n").await;
        }
        ended
    }

    /// Starts the server. `name` is what errors call it.
    pub(crate) async fn start(mut self, name: &'static str, server: &Command) -> Result<Server> {
        let keeper = self.kept(KEEPER, server);
        let mut keeper = self.confine(&keeper);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(&mut keeper)?;
        let lifeline = running.child.stdin.take();
        // From here on the keeper removes the folder, and the shell before it need not.
        if let Some(mut line) = self.lifeline.take() {
            // One that has gone has nothing to remove.
            let _ = line.write_all(b"\n").await;
        }
        Ok(Server { name, keeper: Some(running), lifeline, confinement: self.confinement, folder: self.folder })
    }

    /// The command that runs this one by a shell.
    fn kept(&self, script: &str, command: &Command) -> Command {
        let command = command.as_std();
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("{EMPTY}{script}"))
            .arg("lifeboat-scratch")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell.env("LIFEBOAT_SCRATCH", self.path());
        shell
    }
}

/// The processes that a program in a folder has started, itself among them. They end when this is dropped.
struct Group {
    /// `None` when it has ended.
    leader: Option<u32>,
    folder: std::path::PathBuf,
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.leader.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let Some(leader) = leader else { return };
        // They may have gone.
        let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        // One that is killed in the middle of a call ends that call first, and on a busy machine it waits for its turn to do so.
        // What is left then goes with the next run.
        let _ = remove_until(&self.folder, Instant::now() + KILL_LIMIT);
    }
}

/// A running scratch server. It ends when this is dropped.
pub(crate) struct Server {
    name: &'static str,
    keeper: Option<Running>,
    /// While this is open the server lives.
    lifeline: Option<ChildStdin>,
    confinement: Confinement,
    folder: ScratchFolder,
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
            let running = self.keeper.as_mut().expect("it is only taken when the server is stopped");
            if let Ok(Some(_)) = running.child.try_wait() {
                let running = self.keeper.take().expect("it was there a line above");
                // What empties the folder holds the standard error too, and waits for the lifeline's end.
                drop(self.lifeline.take());
                let ended = tokio::time::timeout(STOP_LIMIT, running.end()).await.map_err(|_| {
                    Error::new(ErrorKind::Tool, "start", self.name, "it ended, but its folder could not be emptied")
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

    /// Stops the server and waits until its folder has gone. Gives what it wrote to its standard error.
    pub(crate) async fn stop(mut self) -> String {
        drop(self.lifeline.take());
        let Some(keeper) = self.keeper.take() else { return String::new() };
        // The server's end is an immediate shutdown: its status says nothing. The keeper's standard error stays open until
        // the folder has been emptied.
        let said = match tokio::time::timeout(STOP_LIMIT, keeper.end()).await {
            Ok(ended) => ended.map(|ended| ended.stderr).unwrap_or_default(),
            Err(_) => {
                tracing::warn!(folder = %self.folder.path().display(), "the scratch server did not go away");
                String::new()
            }
        };
        // Emptied by the server's own user, who may not be allowed to remove it from its parent.
        if let Err(error) = self.folder.remove() {
            tracing::warn!(folder = %self.folder.path().display(), %error, "the scratch folder stays");
        }
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closing the lifeline is what ends the server. The keeper itself must live to see that: it is not killed.
        drop(self.lifeline.take());
        if let Some(keeper) = self.keeper.take() {
            keeper.leave();
            self.folder.leave();
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
        let mut server = folder.start("the server", &command).await.unwrap();
        let silent = || async { Err::<(), _>(Error::new(ErrorKind::Unavailable, "ask", "it", "no answer")) };
        let cx = Context::default();
        let started = tokio::time::timeout(Duration::from_secs(20), server.wait_until_it_answers(&cx, silent));
        let error = started.await.expect("it does not hang").unwrap_err();
        assert!(error.message().contains("it is broken"), "{error:?}");
        server.stop().await;
        assert!(!path.exists());
    }
}

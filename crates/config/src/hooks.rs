//! `hooks = { before = […], after = […] }`: commands that run before and after a job's runs.

use std::time::Duration;

use lifeboat_core::history::{Outcome, Verb};
use lifeboat_core::hooks::{Occasion, TIMEOUT};
use lifeboat_core::process::{Environment, Program, line_of, name_of};
use lifeboat_core::{Check, Context, Dataset, Error, ErrorKind, Hook, Hooks, Result, async_trait};

/// How long a command may take to end after `TERM`, before it is killed with its group.
const GRACE: Duration = Duration::from_secs(3);

/// The commands of a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HookSettings {
    /// The command before, with its arguments; empty for none.
    pub before: Vec<String>,
    /// The command after.
    pub after: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
    /// Whether the commands are lines for `/bin/sh`.
    pub shell: bool,
    /// Before and after what they run.
    pub on: Vec<Verb>,
    /// Variables of Lifeboat's own environment that they get.
    pub pass_env: Vec<String>,
}

impl Default for HookSettings {
    fn default() -> Self {
        let (before, after, pass_env) = Default::default();
        Self { before, after, timeout: TIMEOUT, shell: false, on: vec![Verb::Backup], pass_env }
    }
}

impl HookSettings {
    /// The hooks of a run of this job.
    pub(crate) fn hooks(&self, job: &str, verb: Verb) -> Hooks {
        let hooks = Hooks::new().timeout(self.timeout);
        if !self.on.contains(&verb) {
            return hooks;
        }
        let each = self.commands().into_iter().map(|(when, words)| CommandHook {
            when,
            words: words.to_vec(),
            shell: self.shell,
            pass_env: self.pass_env.clone(),
            job: job.to_owned(),
        });
        each.fold(hooks, Hooks::hook)
    }

    /// Those that are set.
    fn commands(&self) -> Vec<(When, &[String])> {
        let all = [(When::Before, &*self.before), (When::After, &*self.after)];
        all.into_iter().filter(|(_, words)| !words.is_empty()).collect()
    }

    /// The commands as people write them: whoever gets a config from elsewhere looks at them before anything is run.
    pub fn programs(&self) -> Vec<String> {
        let line = |(when, words): (When, &[String])| format!("hook {}: {}", when.as_str(), line_of(words));
        self.commands().into_iter().map(line).collect()
    }

    /// Whether the programs are there.
    pub fn check(&self) -> Vec<Check> {
        let of = |(when, words): (When, &[String])| {
            let name = format!("hook {}", when.as_str());
            match Program::find(words, self.shell, None, Environment::inherit(&self.pass_env)) {
                Ok(program) => Check::pass(name, program.name(), program.path().display().to_string()),
                Err(error) => Check::from_error(name, &error),
            }
        };
        self.commands().into_iter().map(of).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

impl When {
    fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// One command.
struct CommandHook {
    when: When,
    words: Vec<String>,
    shell: bool,
    pass_env: Vec<String>,
    job: String,
}

#[async_trait]
impl Hook for CommandHook {
    fn name(&self) -> String {
        name_of(&self.words, self.shell)
    }

    async fn before(&self, run: &Occasion, cx: &Context) -> Result<()> {
        if self.when == When::Before { self.run(run, None, cx).await } else { Ok(()) }
    }

    async fn after(&self, run: &Occasion, outcome: Outcome, cx: &Context) -> Result<()> {
        if self.when == When::After { self.run(run, Some(outcome), cx).await } else { Ok(()) }
    }
}

impl CommandHook {
    async fn run(&self, run: &Occasion, outcome: Option<Outcome>, cx: &Context) -> Result<()> {
        let mut environment = Environment::inherit(&self.pass_env)
            .open("LIFEBOAT_JOB", &self.job)
            .open("LIFEBOAT_VERB", run.verb.as_str())
            .open("LIFEBOAT_HOOK", self.when.as_str());
        let known = [
            ("LIFEBOAT_DATASET", run.dataset.as_ref().map(Dataset::as_str)),
            ("LIFEBOAT_KEY", run.key.as_deref()),
            ("LIFEBOAT_OUTCOME", outcome.map(Outcome::as_str)),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                environment = environment.open(name, value);
            }
        }
        // It ends when it is told to, in its own way; the token of the run would kill it.
        let mut process = Program::find(&self.words, self.shell, None, environment)?.start_alone(&Context::default())?;
        let exited = tokio::select! {
            exited = process.exited() => Some(exited),
            () = cx.cancel.cancelled() => None,
        };
        let Some(exited) = exited else {
            let said = process.stop(GRACE).await;
            let kind = if said.is_empty() { ErrorKind::Cancelled } else { ErrorKind::Tool };
            return Err(Error::new(kind, "run", self.name(), said));
        };
        exited?;
        let ended = process.end().await?;
        if ended.is_good() { Ok(()) } else { Err(ended.error()) }
    }
}

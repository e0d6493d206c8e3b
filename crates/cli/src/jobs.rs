//! The jobs of a run, and how one with many datasets becomes one for each of them.

use lifeboat_config::{Job, Store};
use lifeboat_core::catalog::At;
use lifeboat_core::name::split_key;
use lifeboat_core::{ArtifactName, Dataset, Error, ErrorKind, Result};

use crate::commands::place::nothing;
use crate::session::Session;

/// The jobs of a run, by name, each opened or with its error: one that cannot run does not stop the
/// others.
pub(crate) type Jobs = Vec<(String, Result<Job>)>;

/// The only job of a run.
pub(crate) fn only(job: Job) -> Jobs {
    vec![(job.name.clone(), Ok(job))]
}

/// Each job once for each of its sinks.
pub(crate) fn in_each_sink(jobs: Jobs) -> Jobs {
    let each = |(name, job): (String, Result<Job>)| match job {
        Ok(job) => {
            let in_one = |store: &Store| {
                let mut one = job.clone();
                one.stores = vec![store.clone()];
                (name.clone(), Ok(one))
            };
            job.stores.iter().map(in_one).collect()
        }
        Err(error) => vec![(name, Err(error))],
    };
    jobs.into_iter().flat_map(each).collect()
}

/// Where to look for the datasets of a job with many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookIn {
    /// The live system: for backups.
    Live,
    /// The sink: for verify, restore and prune.
    Sink,
}

/// Replaces each job with many datasets by one job for each of them.
pub(crate) async fn expand(jobs: Jobs, session: &Session, place: LookIn) -> Jobs {
    let mut expanded = Jobs::new();
    for (name, job) in jobs {
        match job {
            Ok(job) if job.has_many() => match session.context.cancel.run_until_cancelled(each(&job, place)).await {
                Some(Ok(each)) => expanded.extend(each.into_iter().map(|job| (job.name.clone(), Ok(job)))),
                Some(Err(error)) => expanded.push((name, Err(error))),
                None => expanded.push((name.clone(), Err(Error::cancelled("list the datasets of", name)))),
            },
            other => expanded.push((name, other)),
        }
    }
    expanded
}

async fn each(job: &Job, place: LookIn) -> Result<Vec<Job>> {
    let datasets = match place {
        LookIn::Sink => job.stored_datasets().await?,
        LookIn::Live => {
            // A dataset that has a job of its own is backed up once.
            let live = job.system.datasets().await?;
            let own: Vec<Dataset> = live.iter().filter(|d| !job.others.contains(d)).cloned().collect();
            if own.is_empty() {
                let why = "every dataset that the live system shows belongs to another job, or it shows none";
                return Err(Error::new(ErrorKind::NotFound, "find", format!("a dataset of job {}", job.name), why)
                    .hint("can the token see any? `lifeboat check` shows its rights"));
            }
            own
        }
    };
    if datasets.is_empty() {
        return Err(nothing(job).await);
    }
    Ok(datasets.into_iter().map(|dataset| job.narrow(dataset)).collect())
}

/// The one dataset of a job that a command works on: the one named, the key's, or the only one.
///
/// # Errors
/// [`ErrorKind::Config`] when there are several and none was named, or when the job backs up another one.
pub(crate) async fn one(job: Job, named: Option<&str>, at: &At) -> Result<Job> {
    let of_key = match at {
        At::Key(key) => ArtifactName::parse(split_key(key).1).map(|name| name.dataset),
        _ => None,
    };
    // The name of the job is as good as that of its dataset.
    let named = match named {
        Some(named) if named == job.name => job.dataset.clone(),
        Some(named) => {
            let of_job = named.strip_prefix(&job.name).and_then(|rest| rest.strip_prefix('/'));
            Some(Dataset::new(of_job.unwrap_or(named))?)
        }
        None => None,
    };
    if let (Some(asked), Some(own)) = (&named, &job.dataset)
        && asked != own
    {
        let subject = format!("--dataset {asked}");
        let why = format!("job {} backs up dataset {own}", job.name);
        return Err(Error::new(ErrorKind::Config, "use", subject, why));
    }
    if !job.has_many() {
        return Ok(job);
    }
    if let Some(dataset) = named.or(of_key) {
        return Ok(job.narrow(dataset));
    }
    let mut stored = job.stored_datasets().await?;
    match stored.len() {
        0 => Err(nothing(&job).await),
        1 => Ok(job.narrow(stored.remove(0))),
        _ => {
            let listed: Vec<&str> = stored.iter().map(Dataset::as_str).collect();
            Err(Error::new(ErrorKind::Config, "choose", "the dataset", format!("job {} has several", job.name))
                .hint(format!("name one with --dataset: {}", listed.join(", "))))
        }
    }
}

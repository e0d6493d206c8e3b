//! A repository is driven through its trait object, and forgets by the policy that artifacts have.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use doubles::*;
use lifeboat_core::repository::{Reclaimed, Repository, Snapshot};
use lifeboat_core::retention::Policy;
use lifeboat_core::{Check, Context, Dataset, Error, ErrorKind, Level, Result, Status, async_trait};

/// Snapshots are sets of words; each word is stored once.
#[derive(Default)]
struct Words {
    live: Mutex<Vec<&'static str>>,
    snapshots: Mutex<BTreeMap<String, (Snapshot, Vec<&'static str>)>>,
    stored: Mutex<BTreeSet<&'static str>>,
    restored: Mutex<Vec<&'static str>>,
}

impl Words {
    fn find(&self, id: &str) -> Result<Vec<&'static str>> {
        let missing = || Error::new(ErrorKind::NotFound, "read", id, "there is no such snapshot");
        self.snapshots.lock().unwrap().get(id).map(|(_, words)| words.clone()).ok_or_else(missing)
    }
}

#[async_trait]
impl Repository for Words {
    fn url(&self) -> String {
        "memory:words".to_owned()
    }

    async fn snapshot(&self, cx: &Context) -> Result<Snapshot> {
        let words = self.live.lock().unwrap().clone();
        let mut stored = self.stored.lock().unwrap();
        let added = words.iter().filter(|word| stored.insert(word)).map(|word| word.len() as u64).sum();
        let mut snapshots = self.snapshots.lock().unwrap();
        let mut snapshot = Snapshot::new(format!("{:04}", snapshots.len()), dataset("words"), cx.now());
        snapshot.added_bytes = Some(added);
        snapshots.insert(snapshot.id.clone(), (snapshot.clone(), words));
        Ok(snapshot)
    }

    async fn list(&self, dataset: &Dataset) -> Result<Vec<Snapshot>> {
        let mut all: Vec<Snapshot> = self.snapshots.lock().unwrap().values().map(|(s, _)| s.clone()).collect();
        all.retain(|s| s.dataset == *dataset);
        all.sort_by(|a, b| (a.taken_at, &a.id).cmp(&(b.taken_at, &b.id)));
        Ok(all)
    }

    async fn verify(&self, id: &str, _: Level, _: &Context) -> Result<Vec<Check>> {
        let stored = self.stored.lock().unwrap();
        let lost: Vec<&str> = self.find(id)?.into_iter().filter(|word| !stored.contains(word)).collect();
        let status = if lost.is_empty() { Status::Pass } else { Status::Fail };
        Ok(vec![Check::new(status, "data", "", lost.join(" "))])
    }

    async fn restore(&self, id: &str, _: &Context) -> Result<Vec<Check>> {
        *self.restored.lock().unwrap() = self.find(id)?;
        Ok(Vec::new())
    }

    async fn remove(&self, ids: &[String], _: &Context) -> Result<Vec<String>> {
        ids.iter().for_each(|id| drop(self.snapshots.lock().unwrap().remove(id)));
        Ok(ids.to_vec())
    }

    async fn prune(&self, dry_run: bool, _: &Context) -> Result<Reclaimed> {
        let needed: BTreeSet<&str> =
            self.snapshots.lock().unwrap().values().flat_map(|(_, words)| words.iter().copied()).collect();
        let mut reclaimed = Reclaimed::default();
        let mut stored = self.stored.lock().unwrap();
        reclaimed.bytes = stored.iter().filter(|word| !needed.contains(*word)).map(|word| word.len() as u64).sum();
        if !dry_run {
            stored.retain(|word| needed.contains(word));
        }
        Ok(reclaimed)
    }
}

fn day(day: u32) -> Context {
    Context::default().clock(clock_at(&format!("2026-11-{day:02}T00:00:00Z")))
}

/// Four snapshots, a day apart.
async fn filled() -> (Words, Context) {
    let words = Words::default();
    for (n, live) in [vec!["a", "bb"], vec!["bb", "ccc"], vec!["ccc"], vec!["ccc", "dddd"]].into_iter().enumerate() {
        *words.live.lock().unwrap() = live;
        words.snapshot(&day(n as u32 + 1)).await.unwrap();
    }
    (words, day(5))
}

#[tokio::test]
async fn forgetting_goes_by_the_policy_and_a_dry_run_only_says_so() {
    let (words, cx) = filled().await;
    words.snapshots.lock().unwrap().get_mut("0001").unwrap().0.verified_at = Some(cx.now());
    words.snapshots.lock().unwrap().get_mut("0003").unwrap().0.good = false;
    let repository: Box<dyn Repository> = Box::new(words);
    let policy: Policy = "last=1".parse().unwrap();
    let of = dataset("words");
    let would = repository.forget(&of, &policy, cx.now(), true, &cx).await.unwrap();
    let lines: Vec<String> = would.plan.decisions.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "keep 0003: bad, but among the last 1",
            "keep 0002: newest good, last 1/1",
            "keep 0001: newest verified",
            "delete 0000: no rule keeps it"
        ]
    );
    assert_eq!((would.removed.len(), repository.list(&of).await.unwrap().len()), (0, 4));
    let done = repository.forget(&of, &policy, cx.now(), false, &cx).await.unwrap();
    assert_eq!(done.removed, ["0000"]);
    assert_eq!(repository.list(&of).await.unwrap().len(), 3);
    assert_eq!(repository.forget(&dataset("others"), &policy, cx.now(), false, &cx).await.unwrap().removed.len(), 0);
}

#[tokio::test]
async fn giving_room_back_costs_no_snapshot_anything() {
    let (words, cx) = filled().await;
    let repository: &dyn Repository = &words;
    repository.forget(&dataset("words"), &"last=2".parse().unwrap(), cx.now(), false, &cx).await.unwrap();
    assert_eq!(repository.prune(true, &cx).await.unwrap().bytes, 3);
    assert_eq!(words.stored.lock().unwrap().len(), 4);
    assert_eq!(repository.prune(false, &cx).await.unwrap().bytes, 3);
    for snapshot in repository.list(&dataset("words")).await.unwrap() {
        let checks = repository.verify(&snapshot.id, Level::Structure, &cx).await.unwrap();
        assert!(checks.iter().all(|check| check.status == Status::Pass), "{checks:?}");
    }
    repository.restore("0003", &cx).await.unwrap();
    assert_eq!(*words.restored.lock().unwrap(), ["ccc", "dddd"]);
    assert_eq!(repository.restore("0000", &cx).await.unwrap_err().kind(), ErrorKind::NotFound);
}

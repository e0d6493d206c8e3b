//! The Kubernetes API as this backend uses it: connecting, reading, waiting, and errors that say what to do.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource, ResourceExt};
use lifeboat_core::report::human_duration;
use lifeboat_core::{Context, Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// The longest that one watch lasts before it is restarted, in seconds: it may be silent throughout, and a server is
/// given up after a minute of silence.
const WATCH_SECONDS: u32 = 45;

/// How long a connection to the API server may take, with TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before an API server that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The number of objects in one page of a list.
const PIECE: u32 = 500;

/// How often a list is restarted if it expires while being read.
const MOST_LISTINGS: usize = 4;

/// Which cluster to connect to, and which namespace Velero is in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// A kubeconfig file. Without one: `KUBECONFIG`, then `~/.kube/config`, then the service account of the Pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; its current one when not set.
    pub context: Option<String>,
    /// Velero's namespace.
    pub namespace: String,
    /// How long the API server may be silent, even in the middle of an answer, before it is given up. By default a
    /// minute.
    pub silence: Duration,
}

lifeboat_core::setters!(ConnectOptions {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    namespace: String,
    silence: Duration,
});

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { kubeconfig: None, context: None, namespace: "velero".to_owned(), silence: Duration::from_secs(60) }
    }
}

/// A Kubernetes cluster with Velero in it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    server: String,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// The result of waiting for an object.
#[derive(Debug)]
pub(crate) enum Waited<K> {
    /// It is in the wanted state.
    Done(K),
    /// The time is over; this is the last state seen.
    TooLong(K),
}

impl Cluster {
    /// Reads the kubeconfig or the service account. Nothing is sent to the cluster yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none or it cannot be used.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let fail = |message: String| {
            Error::new(ErrorKind::Config, "connect to", "the Kubernetes cluster", message)
                .hint("set KUBECONFIG or give the path of a kubeconfig; in a Pod its service account is used")
        };
        let choice = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &options.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| fail(chain(&error)))?;
                Config::from_custom_kubeconfig(file, &choice).await.map_err(|error| fail(chain(&error)))?
            }
            None if options.context.is_some() => {
                Config::from_kubeconfig(&choice).await.map_err(|error| fail(chain(&error)))?
            }
            None => Config::infer().await.map_err(|error| fail(chain(&error)))?,
        };
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        // Without these limits, a server that accepts connections but sends nothing would be awaited forever.
        config.connect_timeout = Some(CONNECT_LIMIT.min(options.silence));
        config.read_timeout = Some(options.silence);
        config.write_timeout = Some(options.silence);
        config.reset_reader_on_write = true;
        let client = Client::try_from(config).map_err(|error| fail(chain(&error)))?;
        Ok(Self { client, namespace: options.namespace.clone(), server })
    }

    /// Velero's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Converts an error of the API server, or that it did not respond, into ours: see [`explain`]. A server that did
    /// not respond is named.
    pub(crate) fn explain(&self, error: kube::Error, operation: &'static str, subject: impl Into<String>) -> Error {
        let answered = matches!(error, kube::Error::Api(_));
        let error = explain(error, operation, subject);
        if answered || error.kind() != ErrorKind::Unavailable {
            return error;
        }
        let message = format!("the API server {} cannot be reached: {}", self.server, error.message());
        Error::new(ErrorKind::Unavailable, operation, error.subject().to_owned(), message).hint(
            "the URL comes from the kubeconfig's context: is the cluster running, and can it be reached from here?",
        )
    }

    /// The API server's version, as `v1.31.0`.
    pub(crate) async fn version(&self) -> Result<String> {
        let asked = self.client.apiserver_version().await;
        Ok(asked.map_err(|error| self.explain(error, "reach", "the Kubernetes cluster"))?.git_version)
    }

    /// Objects of one kind in Velero's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object of Velero's, if it is there.
    pub(crate) async fn find<K>(&self, name: &str) -> Result<Option<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        self.api::<K>().get_opt(name).await.map_err(|error| self.explain(error, "read", subject::<K>(name)))
    }

    /// Objects of Velero's with these labels.
    pub(crate) async fn list<K>(&self, labels: &str) -> Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        self.list_of(&self.api::<K>(), labels, &K::plural(&())).await
    }

    /// Lists every object of an API with these labels, page by page, up to the page that says it is the last. A list
    /// that is read too slowly (410 Gone) is restarted.
    ///
    /// # Errors
    /// Any error of the API server; [`ErrorKind::Unavailable`] if the pages do not end as the API says.
    pub(crate) async fn list_of<K>(&self, api: &Api<K>, labels: &str, what: &str) -> Result<Vec<K>>
    where
        K: Clone + DeserializeOwned + fmt::Debug,
    {
        let wrong = |why: String| {
            Error::new(ErrorKind::Unavailable, "list", what, format!("the list may be incomplete: {why}"))
                .hint("something between here and the API server alters its answers: check the kubeconfig's URL")
        };
        'anew: for _ in 0..MOST_LISTINGS {
            let (mut all, mut tokens) = (Vec::new(), HashSet::new());
            let mut params = ListParams::default().labels(labels).limit(PIECE);
            loop {
                let piece = match api.list(&params).await {
                    Ok(piece) => piece,
                    Err(kube::Error::Api(status)) if status.code == 410 && params.continue_token.is_some() => {
                        tracing::info!(what, "the list was read too slowly: reading it again");
                        continue 'anew;
                    }
                    Err(error) => return Err(self.explain(error, "list", what)),
                };
                let token = piece.metadata.continue_.filter(|token| !token.is_empty());
                let left = piece.metadata.remaining_item_count.unwrap_or_default();
                all.extend(piece.items);
                match token {
                    None if left > 0 => {
                        return Err(wrong(format!("{left} more are announced, but nothing leads to them")));
                    }
                    None => return Ok(all),
                    Some(token) if !tokens.insert(token.clone()) => {
                        return Err(wrong("a piece leads back to an earlier one".to_owned()));
                    }
                    Some(token) => params.continue_token = Some(token),
                }
            }
        }
        let why = format!("it expired {MOST_LISTINGS} times while it was read");
        Err(Error::new(ErrorKind::Unavailable, "list", what, why)
            .hint("the API server forgets a list after some minutes: it, or the connection to it, is too slow"))
    }

    /// Creates an object of Velero's.
    pub(crate) async fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + fmt::Debug,
    {
        let created = self.api::<K>().create(&PostParams::default(), object).await;
        created.map_err(|error| self.explain(error, "create", subject::<K>(&object.name_any())))
    }

    /// Deletes an object of Velero's. One that is not there counts as deleted.
    pub(crate) async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Err(error) if !is_missing(&error) => Err(self.explain(error, "delete", subject::<K>(name))),
            _ => Ok(()),
        }
    }

    /// Waits until an object of Velero's is in the wanted state, at most for `limit`.
    ///
    /// # Errors
    /// If it disappears, may not be read, or the run is cancelled. An API server that does not respond is asked again.
    pub(crate) async fn wait<K>(
        &self,
        name: &str,
        limit: Duration,
        cx: &Context,
        mut done: impl FnMut(&K) -> bool,
    ) -> Result<Waited<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        let deadline = Instant::now() + limit;
        let mut last = None;
        let watched = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(Error::cancelled("wait for", subject::<K>(name))),
            watched = tokio::time::timeout_at(deadline, self.watch(name, &mut last, &mut done)) => watched,
        };
        match (watched, last) {
            (Ok(Err(error)), _) => Err(error),
            (Ok(Ok(())), Some(object)) => Ok(Waited::Done(object)),
            (Err(_), Some(object)) => Ok(Waited::TooLong(object)),
            (_, None) => Err(Error::new(
                ErrorKind::Unavailable,
                "wait for",
                subject::<K>(name),
                format!("{} did not answer for {}", self.server, human_duration(limit)),
            )),
        }
    }

    async fn watch<K>(&self, name: &str, last: &mut Option<K>, done: &mut impl FnMut(&K) -> bool) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        let api = self.api::<K>();
        let gone = || {
            Error::new(ErrorKind::NotFound, "wait for", subject::<K>(name), "it was deleted meanwhile")
                .hint("find out who deletes it; Velero does when it has expired")
        };
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
        loop {
            let object = match self.find::<K>(name).await {
                Ok(object) => object.ok_or_else(gone)?,
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let version = object.resource_version().unwrap_or_default();
            let ready = done(&object);
            *last = Some(object);
            if ready {
                return Ok(());
            }
            let mut events = match api.watch(&params, &version).await {
                Ok(events) => events.boxed(),
                Err(error) => {
                    let error = self.explain(error, "watch", subject::<K>(name));
                    if !error.is_transient() {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                        let ready = done(&object);
                        *last = Some(object);
                        if ready {
                            return Ok(());
                        }
                    }
                    Ok(WatchEvent::Deleted(_)) => return Err(gone()),
                    Ok(WatchEvent::Bookmark(_)) => {}
                    // The version is too old, or the connection broke: start again from the current state.
                    Ok(WatchEvent::Error(_)) | Err(_) => break,
                }
            }
        }
    }
}

/// `backup nightly-20261121`.
fn subject<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

pub(crate) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Converts the API's error into ours: which verb is missing on which resource, whether Velero is installed at all.
fn explain(error: kube::Error, operation: &'static str, subject: impl Into<String>) -> Error {
    let subject = subject.into();
    let kube::Error::Api(status) = &error else {
        let kind = match &error {
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => ErrorKind::Unavailable,
            kube::Error::SerdeError(_) => ErrorKind::Corrupt,
            _ => ErrorKind::Config,
        };
        return Error::new(kind, operation, subject, chain(&error));
    };
    let message = status.message.clone();
    match status.code {
        403 => Error::new(ErrorKind::Permission, operation, subject, message.clone()).hint(missing_right(&message)),
        401 => Error::new(ErrorKind::Permission, operation, subject, message)
            .hint("the credentials are not accepted: renew the kubeconfig or the service account's token"),
        // The resource itself is unknown: there is no such definition.
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            Error::new(ErrorKind::Config, operation, subject, message)
                .hint("the API server does not know this resource: is Velero installed in this cluster?")
        }
        404 => Error::new(ErrorKind::NotFound, operation, subject, message),
        409 => Error::new(ErrorKind::AlreadyExists, operation, subject, message),
        429 | 500.. => Error::new(ErrorKind::Unavailable, operation, subject, message),
        _ => Error::new(ErrorKind::Refused, operation, subject, message),
    }
}

/// What to add to the role, from a message such as `backups.velero.io is forbidden: User "x" cannot create resource
/// "backups" in API group "velero.io" in the namespace "velero"` (apiserver's `responsewriters/errors.go`).
fn missing_right(message: &str) -> String {
    let quoted = |after: &str| {
        let (_, rest) = message.split_once(after)?;
        Some(rest.split_once('"')?.0)
    };
    let verb = message.split_once(" cannot ").and_then(|(_, rest)| rest.split_once(' ')).map(|(verb, _)| verb);
    let (Some(user), Some(verb), Some(resource)) = (quoted("User \""), verb, quoted("resource \"")) else {
        return "the role of this user lacks a right".to_owned();
    };
    let group = quoted("API group \"").filter(|group| !group.is_empty()).map(|group| format!(".{group}"));
    let place = match quoted("namespace \"") {
        Some(namespace) => format!("a Role in the namespace {namespace}"),
        None => "a ClusterRole".to_owned(),
    };
    format!("give {user} the verb {verb} on {resource}{} by {place}", group.unwrap_or_default())
}

/// The messages of an error and of everything it wraps.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::missing_right;

    #[test]
    fn a_missing_right_is_named_with_verb_resource_and_place() {
        let message = "backups.velero.io is forbidden: User \"system:serviceaccount:ops:lifeboat\" cannot create resource \
                       \"backups\" in API group \"velero.io\" in the namespace \"velero\"";
        let expected = "give system:serviceaccount:ops:lifeboat the verb create on backups.velero.io by a Role in the \
                        namespace velero";
        assert_eq!(missing_right(message), expected);
        let message = "namespaces is forbidden: User \"u\" cannot delete resource \"namespaces\" in API group \"\" at the \
                       cluster scope";
        assert_eq!(missing_right(message), "give u the verb delete on namespaces by a ClusterRole");
    }
}

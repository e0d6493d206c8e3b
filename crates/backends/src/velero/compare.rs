//! Compares a restored object with the one in the backup, apart from what a restore and the cluster rewrite.
//!
//! The exclusions from the comparison follow Velero's `resetMetadata` (`pkg/restore/restore.go`), its restore item
//! actions (`pkg/restore/actions`), and what the API server assigns.

use serde_json::{Map, Value};

use super::api::{BACKUP_LABEL, RESTORE_LABEL};

/// The largest number of differences between two objects that are named.
const NAMED: usize = 5;

/// Metadata that belongs to one instance of an object.
const VOLATILE: [&str; 12] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
    "ownerReferences",
    "finalizers",
    "namespace",
];

/// Annotations that controllers write, by the start of their keys.
const WRITTEN_BY_CONTROLLERS: [&str; 6] = [
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "deployment.kubernetes.io/",
    "velero.io/",
    "backup.velero.io/",
];

/// Resources that Velero never restores. Source: `nonRestorableResources` in Velero's
/// `pkg/controller/restore_controller.go`.
const NEVER_RESTORED: [&str; 9] = [
    "nodes",
    "events",
    "events.events.k8s.io",
    "backups.velero.io",
    "restores.velero.io",
    "resticrepositories.velero.io",
    "backuprepositories.velero.io",
    "csinodes.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
];

/// Resources that a controller derives from others: restoring a Service brings back its endpoints.
const DERIVED: [&str; 3] = ["endpoints", "endpointslices.discovery.k8s.io", "controllerrevisions.apps"];

/// Whether objects of a resource are compared at all.
pub(crate) fn is_compared(resource: &str) -> bool {
    !NEVER_RESTORED.contains(&resource) && !DERIVED.contains(&resource)
}

/// Why an object in a backup is not expected to be restored unchanged.
pub(crate) fn left_out(resource: &str, object: &Value) -> Option<&'static str> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if NEVER_RESTORED.contains(&resource) {
        return Some("Velero never restores these");
    }
    if DERIVED.contains(&resource) {
        return Some("a controller recreates them");
    }
    match resource {
        "configmaps" if text("/metadata/name") == "kube-root-ca.crt" => {
            Some("the cluster creates it in every namespace")
        }
        "secrets" if text("/type") == "kubernetes.io/service-account-token" => Some("the cluster issues new tokens"),
        "pods" if matches!(text("/status/phase"), "Succeeded" | "Failed") => {
            Some("Velero does not restore finished Pods")
        }
        "jobs.batch" if !text("/status/completionTime").is_empty() => Some("Velero does not restore finished Jobs"),
        _ => None,
    }
}

/// Whether a controller owns the object, and may replace it by another of its own.
pub(crate) fn is_controlled(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_some_and(|owners| owners.iter().any(|owner| owner["controller"] == Value::Bool(true)))
}

/// The object without what a restore rewrites. `from` is the namespace in the backup, `into` the one it was restored into.
pub(crate) fn comparable(resource: &str, mut object: Value, from: &str, into: &str) -> Value {
    let Some(root) = object.as_object_mut() else { return object };
    root.remove("status");
    if let Some(metadata) = root.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in VOLATILE {
            metadata.remove(key);
        }
        drop_keys(metadata, "labels", |key| {
            [BACKUP_LABEL, RESTORE_LABEL].contains(&key)
                || (resource == "jobs.batch" && matches!(key, "controller-uid" | "batch.kubernetes.io/controller-uid"))
        });
        drop_keys(metadata, "annotations", |key| WRITTEN_BY_CONTROLLERS.iter().any(|start| key.starts_with(start)));
    }
    let remove = |root: &mut Map<String, Value>, parent: &str, keys: &[&str]| {
        if let Some(map) = root.get_mut(parent).and_then(Value::as_object_mut) {
            for key in keys {
                map.remove(*key);
            }
        }
    };
    match resource {
        "services" => {
            // A headless Service has None, and keeps it.
            if root.get("spec").and_then(|spec| spec["clusterIP"].as_str()) != Some("None") {
                remove(root, "spec", &["clusterIP", "clusterIPs"]);
            }
            remove(root, "spec", &["healthCheckNodePort"]);
            let ports = root.get_mut("spec").and_then(|spec| spec.get_mut("ports")).and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
                port.remove("nodePort");
            }
        }
        "pods" => remove(root, "spec", &["nodeName", "priority"]),
        "persistentvolumeclaims" => remove(root, "spec", &["volumeName"]),
        "serviceaccounts" => {
            root.remove("secrets");
        }
        "jobs.batch" => {
            remove(root, "spec", &["selector"]);
            if let Some(Value::Object(metadata)) =
                root.get_mut("spec").and_then(|s| s.pointer_mut("/template/metadata"))
            {
                metadata.remove("labels");
            }
        }
        "rolebindings.rbac.authorization.k8s.io" => {
            let subjects = root.get_mut("subjects").and_then(Value::as_array_mut);
            for subject in subjects.into_iter().flatten().filter_map(Value::as_object_mut) {
                if subject.get("namespace").and_then(Value::as_str) == Some(from) {
                    subject.insert("namespace".to_owned(), into.into());
                }
            }
        }
        _ => {}
    }
    object
}

/// Removes keys of a map of strings, and the map itself if nothing is left in it.
fn drop_keys(parent: &mut Map<String, Value>, name: &str, dropped: impl Fn(&str) -> bool) {
    let Some(map) = parent.get_mut(name).and_then(Value::as_object_mut) else { return };
    map.retain(|key, _| !dropped(key));
    if map.is_empty() {
        parent.remove(name);
    }
}

/// The paths at which two objects differ, without values, which may be secrets.
pub(crate) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut places = Vec::new();
    collect(expected, found, &mut String::new(), &mut places);
    places
}

fn collect(expected: &Value, found: &Value, path: &mut String, places: &mut Vec<String>) {
    if expected == found || places.len() >= NAMED {
        return;
    }
    let mut inside = |key: &str, expected: &Value, found: &Value| {
        let length = path.len();
        path.push_str(key);
        collect(expected, found, path, places);
        path.truncate(length);
    };
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                inside(&format!(".{key}"), a, b);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                inside(&format!("[{index}]"), a, b);
            }
        }
        _ => places.push(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_restore_rewrites_makes_no_difference() {
        let before = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "1",
            "labels": {"app": "web"}, "resourceVersion": "5"},
            "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "nodePort": 30001}]},
            "status": {"loadBalancer": {}}});
        let after = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "scratch", "uid": "2",
            "labels": {"app": "web", "velero.io/backup-name": "b", "velero.io/restore-name": "r"}},
            "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80, "nodePort": 30002}]}});
        let [before, after] = [before, after].map(|object| comparable("services", object, "shop", "scratch"));
        assert_eq!(differences(&before, &after), [""; 0]);
    }

    #[test]
    fn what_differs_is_named_by_its_path_and_never_by_its_value() {
        let before = json!({"data": {"password": "hunter2", "user": "me"}, "spec": {"ports": [{"port": 80}]}});
        let after =
            json!({"data": {"password": "hunter3", "extra": "x", "user": "me"}, "spec": {"ports": [{"port": 81}]}});
        assert_eq!(differences(&before, &after), [".data.password", ".data.extra", ".spec.ports[0].port"]);
    }

    #[test]
    fn a_headless_service_that_comes_back_with_an_address_differs() {
        let service = |address: &str| comparable("services", json!({"spec": {"clusterIP": address}}), "a", "b");
        assert_eq!(differences(&service("None"), &service("10.0.0.1")), [".spec.clusterIP"]);
    }

    #[test]
    fn a_role_binding_follows_its_namespace() {
        let binding = |space: &str| json!({"subjects": [{"kind": "ServiceAccount", "name": "x", "namespace": space}]});
        let resource = "rolebindings.rbac.authorization.k8s.io";
        let [kept, other] = ["shop", "ops"].map(|space| comparable(resource, binding(space), "shop", "scratch"));
        assert_eq!(kept, binding("scratch"));
        assert_eq!(other, binding("ops"));
    }
}

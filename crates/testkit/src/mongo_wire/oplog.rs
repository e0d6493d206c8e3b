//! `applyOps`, and what else writes without an insert: `update` of whole documents, `_mergeAuthzCollections`.
//!
//! As `repl/apply_ops.cpp` has it: operations that are inserts, updates and deletes only are applied all or not at all; an insert of
//! what is there replaces it, a delete of what is not there does nothing, a collection or document to update has to be
//! there. An entry's `ui` has to be the UUID of the collection.

use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, RawDocument};

use super::commands::{Done, Failure, failure, field_text, missing, ok};
use super::store::{Collection, id_of};
use super::{Script, Store};
use crate::documents::Doc;

pub(super) fn apply_ops(script: &mut Script, body: &RawDocument) -> Done {
    let operations = body.get_array("applyOps").map_err(|e| failure(9, "FailedToParse", e.to_string()))?;
    let mut after = script.store.clone();
    let mut applied = 0;
    for operation in operations {
        let operation = operation.ok().and_then(|o| o.as_document().map(ToOwned::to_owned));
        let operation = operation.ok_or_else(|| failure(9, "FailedToParse", "an operation is no document"))?;
        apply(&mut after, &operation)?;
        applied += 1;
    }
    script.store = after;
    let results = (0..applied).fold(Doc::new(), |array, n: i32| array.bool(&n.to_string(), true));
    ok(script, Doc::new().int32("applied", applied).raw(0x04, "results", &results.build()))
}

fn apply(store: &mut Store, operation: &RawDocument) -> Result<(), Failure> {
    let (op, ns) = (field_text(operation, "op"), field_text(operation, "ns"));
    let Some((db, name)) = ns.split_once('.') else { return Err(failure(73, "InvalidNamespace", ns)) };
    let Some(into) = store.get_mut(db, name) else { return Err(missing(db, name)) };
    if let Ok(uuid) = operation.get_binary("ui")
        && into.uuid.as_ref().map(|own| &own[..]) != Some(uuid.bytes)
    {
        return Err(failure(26, "NamespaceNotFound", format!("no collection has the UUID of an operation in {ns}")));
    }
    let o = operation.get_document("o").map_err(|e| failure(9, "FailedToParse", e.to_string()))?;
    match op.as_str() {
        "i" => into.upsert(o.as_bytes()),
        "d" => into.remove(o.as_bytes()),
        "u" => {
            let o2 = operation.get_document("o2").map_err(|e| failure(9, "FailedToParse", e.to_string()))?;
            let wanted = id_of(o2.as_bytes());
            let Some(found) = into.documents.iter().find(|d| id_of(d) == wanted).cloned() else {
                return Err(failure(
                    218,
                    "UpdateOperationFailed",
                    format!("Failed to apply update: no such document in {ns}"),
                ));
            };
            into.upsert(&updated(&found, o));
        }
        other => return Err(failure(2, "BadValue", format!("the server of the tests does not apply '{other}'"))),
    }
    Ok(())
}

/// A document after an update: a whole one, or a difference of version 2 with top-level `u`, `i` and `d`.
fn updated(found: &[u8], o: &RawDocument) -> Vec<u8> {
    let Ok(difference) = o.get_document("diff") else {
        let mut whole = RawDocumentBuf::new();
        // `_id` comes from the old one when it is not said.
        let old = RawDocument::from_bytes(found).unwrap();
        if !matches!(o.get("_id"), Ok(Some(_))) {
            whole.append(bson::cstr!("_id"), old.get("_id").unwrap().unwrap());
        }
        o.iter_elements().map(Result::unwrap).for_each(|e| whole.append(e.key(), e.value().unwrap()));
        return whole.into_bytes();
    };
    let mut document = Document::try_from(RawDocument::from_bytes(found).unwrap()).unwrap();
    let part =
        |name: &str| difference.get_document(name).ok().and_then(|d| Document::try_from(d).ok()).unwrap_or_default();
    for (key, value) in part("u").into_iter().chain(part("i")) {
        document.insert(key, value);
    }
    part("d").keys().for_each(|key| drop(document.remove(key)));
    RawDocumentBuf::try_from(&document).unwrap().into_bytes()
}

/// `update` with `[{$replaceRoot: {newRoot: {$literal: …}}}]`, by `_id`.
pub(super) fn update(script: &mut Script, db: &str, collection: &str, body: &RawDocument) -> Done {
    let Some(into) = script.store.get_mut(db, collection) else {
        return ok(script, Doc::new().int32("n", 0).int32("nModified", 0));
    };
    let mut count = 0;
    for update in body.get_array("updates").into_iter().flatten().filter_map(Result::ok) {
        let wanted = || -> Option<(Vec<u8>, Vec<u8>)> {
            let update = update.as_document()?;
            let id = id_of(update.get_document("q").ok()?.as_bytes())?;
            let stage = update
                .get_array("u")
                .ok()?
                .into_iter()
                .next()?
                .ok()?
                .as_document()?
                .get_document("$replaceRoot")
                .ok()?;
            Some((id, stage.get_document("newRoot").ok()?.get_document("$literal").ok()?.as_bytes().to_vec()))
        };
        let Some((id, document)) = wanted() else {
            return Err(failure(9, "FailedToParse", "the server of the tests updates whole documents by _id only"));
        };
        if into.documents.iter().any(|found| id_of(found).as_ref() == Some(&id)) {
            into.upsert(&document);
            count += 1;
        }
    }
    ok(script, Doc::new().int32("n", count).int32("nModified", count))
}

/// Users and roles of two collections into those of the server.
pub(super) fn merge_accounts(script: &mut Script, body: &RawDocument) -> Done {
    let db = field_text(body, "db");
    for (field, own) in [("tempUsersCollection", "system.users"), ("tempRolesCollection", "system.roles")] {
        let from = field_text(body, field);
        let Some((of, name)) = from.split_once('.') else { continue };
        let Some(found) = script.store.get(of, name) else { return Err(missing(of, name)) };
        let documents = found.documents.clone();
        if script.store.get("admin", own).is_none() {
            script.store.put(Collection::new("admin", own));
        }
        let Some(into) = script.store.get_mut("admin", own) else { return Err(missing("admin", own)) };
        for document in documents {
            let read = Document::try_from(RawDocument::from_bytes(&document[..]).unwrap()).unwrap();
            if !db.is_empty() && read.get("db") != Some(&Bson::String(db.clone())) {
                return Err(failure(2, "BadValue", "a user of another database"));
            }
            into.upsert(&document);
        }
    }
    ok(script, Doc::new())
}

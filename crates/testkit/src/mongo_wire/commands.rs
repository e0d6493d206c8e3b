//! The commands.

use std::sync::PoisonError;
use std::time::Duration;

use bson::raw::{RawBsonRef, RawDocumentBuf};
use bson::{Document, RawDocument};

use super::message::{Reply, Request};
use super::store::{Collection, Query, Rest, array, id_of};
use super::{Effect, Script, Seen, Shared, oplog};
use crate::documents::Doc;

/// What is sent back.
pub(super) enum Answer {
    Reply(Reply),
    /// Half of it, and the connection ends.
    Half(Reply),
    /// The connection ends.
    Nothing,
}

/// An error: code, its name, text.
pub(super) struct Failure(i32, String, String);

pub(super) fn failure(code: i32, name: &str, text: impl Into<String>) -> Failure {
    Failure(code, name.to_owned(), text.into())
}

pub(super) type Done = Result<Reply, Failure>;

/// The cluster's time: nothing here depends on its progress.
const NOW: (u32, u32) = (1_700_000_000, 1);

fn timestamp(t: u32, i: u32) -> Vec<u8> {
    [i.to_le_bytes(), t.to_le_bytes()].concat()
}

/// How long a request has to wait for its turn.
pub(super) fn late(shared: &Shared, request: &Request) -> Option<Duration> {
    let Some(Ok((command, value))) = request.body.iter().next() else { return None };
    let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
    let effects = due(&mut script, command.as_str(), value.as_str().unwrap_or_default(), true);
    effects.into_iter().find_map(|effect| match effect {
        Effect::Late(time) => Some(time),
        _ => None,
    })
}

/// Answers a request, and records it.
pub(super) fn answer(shared: &Shared, request: &Request) -> Answer {
    let body = &request.body;
    let Some(Ok((command, value))) = body.iter().next() else { return Answer::Nothing };
    let (command, text) = (command.to_string(), value.as_str().unwrap_or_default().to_owned());
    let collection = if command == "getMore" { field_text(body, "collection") } else { text };
    let db = field_text(body, "$db");
    let inline = body.get_array("documents").map_or(0, |all| all.into_iter().count());
    let documents = split(&request.sequence).len() + inline;
    let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
    if documents == 0 || !script.swallow {
        let seen = Seen {
            command: command.clone(),
            collection: collection.clone(),
            db: db.clone(),
            body: body.clone(),
            documents,
        };
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    let mut half = false;
    let mut failed = None;
    for effect in due(&mut script, &command, &collection, false) {
        match effect {
            Effect::Cut => return Answer::Nothing,
            Effect::CutWithin => half = true,
            Effect::Fail(code, name, text) => failed = Some(failure(code, name, text)),
            Effect::Do(work) => work(&mut script.store),
            Effect::Late(_) => {}
        }
    }
    let refused = script.refused_fields.iter().find(|field| matches!(body.get(field.as_str()), Ok(Some(_))));
    if let Some(field) = refused {
        let text = format!("BSON field '{command}.{field}' is an unknown field.");
        failed = Some(failure(40415, "Location40415", text));
    }
    let done = match failed {
        Some(failure) => Err(failure),
        None => run(shared, &mut script, &command, &db, &collection, request),
    };
    let reply = done.unwrap_or_else(|Failure(code, name, text)| {
        let error = Doc::new().double("ok", 0.0).text("errmsg", &text).int32("code", code).text("codeName", &name);
        Reply::Whole(with_times(&script, error).build())
    });
    if half { Answer::Half(reply) } else { Answer::Reply(reply) }
}

/// What happens at this request.
fn due(script: &mut Script, command: &str, collection: &str, late: bool) -> Vec<Effect> {
    let mut due = Vec::new();
    for rule in script.rules.iter_mut().filter(|rule| matches!(rule.effect, Effect::Late(_)) == late) {
        if rule.command == command && (rule.collection.is_empty() || rule.collection == collection) {
            rule.seen += 1;
            if rule.seen >= rule.from && rule.seen - rule.from < rule.times {
                due.push(rule.effect.clone());
            }
        }
    }
    due
}

pub(super) fn field_text(body: &RawDocument, name: &str) -> String {
    body.get_str(name).unwrap_or_default().to_owned()
}

fn number(value: Option<RawBsonRef<'_>>) -> i64 {
    match value {
        Some(RawBsonRef::Int32(n)) => n.into(),
        Some(RawBsonRef::Int64(n)) => n,
        Some(RawBsonRef::Double(n)) => n as i64,
        _ => 0,
    }
}

fn field_number(body: &RawDocument, name: &str) -> i64 {
    number(body.get(name).ok().flatten())
}

/// The times that a member of a replica set says with each answer.
fn with_times(script: &Script, reply: Doc) -> Doc {
    if script.set.is_none() {
        return reply;
    }
    let signature =
        Doc::new().raw(0x05, "hash", &[&20u32.to_le_bytes()[..], &[0], &[0; 20]].concat()).int64("keyId", 0);
    let now = timestamp(NOW.0, NOW.1);
    let time = Doc::new().raw(0x11, "clusterTime", &now).doc("signature", signature);
    reply.doc("$clusterTime", time).raw(0x11, "operationTime", &now)
}

pub(super) fn ok(script: &Script, fields: Doc) -> Done {
    Ok(Reply::Whole(with_times(script, fields.double("ok", 1.0)).build()))
}

/// Documents that stand back to back.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let (document, rest) = bytes.split_at(u32::from_le_bytes(*length) as usize);
        all.push(document);
        bytes = rest;
    }
    all
}

fn run(shared: &Shared, script: &mut Script, command: &str, db: &str, collection: &str, request: &Request) -> Done {
    let body = &request.body;
    match command {
        "hello" | "isMaster" | "ismaster" => ok(script, hello(shared, script)),
        "ping"
        | "endSessions"
        | "startSession"
        | "abortTransaction"
        | "logout"
        | "collMod"
        | "setFeatureCompatibilityVersion" => ok(script, Doc::new()),
        "buildInfo" | "buildinfo" => ok(script, build_info(script)),
        "getParameter" => {
            let version = Doc::new().doc("featureCompatibilityVersion", Doc::new().text("version", "7.0"));
            ok(script, version.int32("authSchemaVersion", 5))
        }
        "applyOps" => oplog::apply_ops(script, body),
        "_mergeAuthzCollections" => oplog::merge_accounts(script, body),
        "update" => oplog::update(script, db, collection, body),
        "connectionStatus" => {
            let nobody = || Doc::new().docs("authenticatedUsers", []).docs("authenticatedUserRoles", []);
            ok(script, Doc::new().doc("authInfo", nobody().docs("authenticatedUserPrivileges", [])))
        }
        "listDatabases" => {
            let names = script.store.databases().into_iter();
            let all = names.map(|name| Doc::new().text("name", &name).int64("sizeOnDisk", 4096).bool("empty", false));
            ok(script, Doc::new().docs("databases", all.collect::<Vec<_>>()))
        }
        "listCollections" => {
            let filter =
                body.get_document("filter").ok().and_then(|raw| Document::try_from(raw).ok()).unwrap_or_default();
            let listed = script.store.of(db).map(|collection| collection.listing().build());
            let taken = |listing: &Vec<u8>| {
                let raw = RawDocument::from_bytes(&listing[..]).ok().and_then(|raw| Document::try_from(raw).ok());
                raw.is_some_and(|document| super::filter::matches(&filter, &document))
            };
            let all: Vec<Vec<u8>> = listed.filter(taken).collect();
            list(script, &format!("{db}.$cmd.listCollections"), &all)
        }
        "listIndexes" => match script.store.get(db, collection) {
            Some(found) if found.kind == "view" => {
                Err(failure(166, "CommandNotSupportedOnView", format!("Namespace {} is a view", found.ns())))
            }
            Some(found) => {
                let (ns, indexes) = (found.ns(), found.indexes.clone());
                list(script, &ns, &indexes)
            }
            None => Err(missing(db, collection)),
        },
        "find" => find(shared, script, db, collection, body),
        "aggregate" => aggregate(script, db, collection, body),
        "getMore" => get_more(shared, script, collection, body),
        "killCursors" => {
            let mut cursors = shared.cursors.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(ids) = body.get_array("cursors") {
                ids.into_iter().filter_map(Result::ok).for_each(|id| drop(cursors.take(number(Some(id)))));
            }
            ok(script, Doc::new().docs("cursorsKilled", []))
        }
        "count" => {
            let count = script.store.get(db, collection).map_or(0, Collection::count);
            ok(script, Doc::new().int64("n", count as i64))
        }
        "collStats" | "dbStats" => {
            let all = script.store.of(db).filter(|found| command == "dbStats" || found.name == collection);
            let (documents, bytes) =
                all.fold((0, 0), |(documents, bytes), found| (documents + found.count(), bytes + found.bytes()));
            let average = bytes / documents.max(1);
            let stats = Doc::new().int64("count", documents as i64).int64("objects", documents as i64);
            ok(
                script,
                stats.int64("size", bytes as i64).int64("dataSize", bytes as i64).int64("avgObjSize", average as i64),
            )
        }
        "insert" => insert(script, db, collection, request),
        "create" => create(script, db, collection, body),
        "createIndexes" => create_indexes(script, db, collection, body),
        "drop" => match script.store.drop_collection(db, collection) {
            true => ok(script, Doc::new()),
            false => Err(missing(db, collection)),
        },
        "dropDatabase" => {
            script.store.drop_database(db);
            ok(script, Doc::new().text("dropped", db))
        }
        "renameCollection" => {
            let to = field_text(body, "to");
            let replace = body.get_bool("dropTarget").unwrap_or(false);
            let (Some(from), Some(to)) = (collection.split_once('.'), to.split_once('.')) else {
                return Err(failure(73, "InvalidNamespace", "no namespace"));
            };
            match script.store.rename(from, to, replace) {
                Ok(()) => ok(script, Doc::new()),
                Err(why) => Err(failure(if replace { 26 } else { 48 }, "NamespaceExists", why)),
            }
        }
        _ => Err(failure(59, "CommandNotFound", format!("no such command: '{command}'"))),
    }
}

pub(super) fn missing(db: &str, collection: &str) -> Failure {
    failure(26, "NamespaceNotFound", format!("ns does not exist: {db}.{collection}"))
}

fn hello(shared: &Shared, script: &Script) -> Doc {
    let major = script.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(7);
    // src/mongo/db/wire_version.h: 25 for 8.0, 21 for 7.0, 17 for 6.0, 13 for 5.0, 9 for 4.4.
    let wire = [(8, 25), (7, 21), (6, 17), (5, 13)].iter().find(|(of, _)| major >= *of).map_or(9, |(_, wire)| *wire);
    let hello = Doc::new().bool("helloOk", true).bool("ismaster", true).bool("isWritablePrimary", true);
    let hello = hello
        .int32("maxBsonObjectSize", 16 << 20)
        .int32("maxMessageSizeBytes", script.max_message)
        .int32("maxWriteBatchSize", script.max_write_batch)
        .raw(0x09, "localTime", &1_700_000_000_000i64.to_le_bytes())
        .int32("logicalSessionTimeoutMinutes", 30)
        .int32("connectionId", 1)
        .int32("minWireVersion", 0)
        .int32("maxWireVersion", wire)
        .bool("readOnly", false);
    let Some(set) = &script.set else { return hello };
    let me = shared.address.to_string();
    let hosts = Doc::new().text("0", &me).build();
    hello
        .text("setName", set)
        .int32("setVersion", 1)
        .bool("secondary", false)
        .text("primary", &me)
        .text("me", &me)
        .raw(0x04, "hosts", &hosts)
        .doc("lastWrite", Doc::new().raw(0x09, "lastWriteDate", &1_700_000_000_000i64.to_le_bytes()))
}

fn build_info(script: &Script) -> Doc {
    let mut parts: Vec<i32> = script.version.split(['.', '-']).filter_map(|part| part.parse().ok()).collect();
    parts.resize(4, 0);
    let parts = parts.iter().enumerate().fold(Doc::new(), |array, (i, part)| array.int32(&i.to_string(), *part));
    let info = Doc::new().text("version", &script.version).raw(0x04, "versionArray", &parts.build());
    info.int32("bits", 64).int32("maxBsonObjectSize", 16 << 20)
}

/// A cursor with one batch.
fn list(script: &Script, ns: &str, documents: &[Vec<u8>]) -> Done {
    let array = array(documents.iter().map(Vec::as_slice)).into();
    Ok(Reply::cursor(0, ns, "firstBatch", array, None, with_times(script, Doc::new().double("ok", 1.0))))
}

/// What a read at a snapshot reads at.
fn snapshot(script: &Script, body: &RawDocument) -> Result<Option<(u32, u32)>, Failure> {
    let Ok(concern) = body.get_document("readConcern") else { return Ok(None) };
    if concern.get_str("level").ok() != Some("snapshot") {
        return Ok(None);
    }
    if !script.snapshots {
        let text = "node needs to be a replica set member to use read concern";
        return Err(failure(123, "NotAReplicaSet", text));
    }
    Ok(Some(concern.get_timestamp("atClusterTime").map_or(NOW, |at| (at.time, at.increment))))
}

fn find(shared: &Shared, script: &mut Script, db: &str, collection: &str, body: &RawDocument) -> Done {
    let at = snapshot(script, body)?;
    let filter = body.get_document("filter").ok().and_then(|raw| Document::try_from(raw).ok()).unwrap_or_default();
    let backwards = body.get_document("sort").is_ok_and(|sort| field_number(sort, "$natural") < 0);
    let limit = usize::try_from(field_number(body, "limit")).unwrap_or(0);
    let query = Query { filter, backwards, limit };
    let mut rest = match script.store.get(db, collection) {
        Some(found) => match &found.canned {
            Some(canned) => Rest::Canned(canned.clone()),
            None => Rest::Documents(found.query(&query)),
        },
        None => Rest::Documents(Vec::new()),
    };
    let single = body.get_bool("singleBatch").unwrap_or(false);
    // 101 documents are what a server gives first when nothing is said.
    let most = match body.get("batchSize") {
        Ok(Some(_)) => field_number(body, "batchSize").unsigned_abs(),
        _ => 101,
    };
    let asked_for_none = most == 0 && matches!(body.get("batchSize"), Ok(Some(_)));
    let array = if asked_for_none { array(std::iter::empty()).into() } else { rest.next(most) };
    let ns = format!("{db}.{collection}");
    let id = if single { 0 } else { shared.cursors.lock().unwrap_or_else(PoisonError::into_inner).keep(0, &ns, rest) };
    Ok(Reply::cursor(id, &ns, "firstBatch", array, at, with_times(script, Doc::new().double("ok", 1.0))))
}

fn get_more(shared: &Shared, script: &mut Script, collection: &str, body: &RawDocument) -> Done {
    let id = field_number(body, "getMore");
    let mut cursors = shared.cursors.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((ns, mut rest)) = cursors.take(id).filter(|(ns, _)| ns.ends_with(collection)) else {
        return Err(failure(43, "CursorNotFound", format!("cursor id {id} not found")));
    };
    let array = rest.next(field_number(body, "batchSize").unsigned_abs());
    if let Rest::Canned(canned) = &rest
        && let Some((db, name)) = ns.split_once('.')
        && let Some(found) = script.store.get_mut(db, name)
        && let Some(kept) = &mut found.canned
    {
        kept.learn(canned);
    }
    let id = cursors.keep(id, &ns, rest);
    Ok(Reply::cursor(id, &ns, "nextBatch", array, None, with_times(script, Doc::new().double("ok", 1.0))))
}

/// What drivers count with: `[{$match}, {$group: {_id: 1, n: {$sum: 1}}}]`.
fn aggregate(script: &mut Script, db: &str, collection: &str, body: &RawDocument) -> Done {
    snapshot(script, body)?;
    let pipeline = body.get_array("pipeline").map_err(|e| failure(9, "FailedToParse", e.to_string()))?;
    let mut filter = Document::new();
    for stage in
        pipeline.into_iter().filter_map(Result::ok).filter_map(|stage| stage.as_document().map(ToOwned::to_owned))
    {
        if let Ok(wanted) = stage.get_document("$match") {
            filter = Document::try_from(wanted).unwrap_or_default();
        } else if !matches!(stage.get("$group"), Ok(Some(_))) {
            return Err(failure(40324, "Location40324", "the server of the tests only counts"));
        }
    }
    let query = Query { filter, backwards: false, limit: 0 };
    let count = match script.store.get(db, collection) {
        Some(found) if query.filter.is_empty() => found.count(),
        Some(found) => found.query(&query).len() as u64,
        None => 0,
    };
    let counted = Doc::new().int32("_id", 1).int64("n", count as i64).build();
    list(script, &format!("{db}.{collection}"), if count > 0 { std::slice::from_ref(&counted) } else { &[] })
}

fn insert(script: &mut Script, db: &str, collection: &str, request: &Request) -> Done {
    let body = &request.body;
    let mut documents = split(&request.sequence);
    if let Ok(inline) = body.get_array("documents") {
        documents.extend(
            inline.into_iter().filter_map(Result::ok).filter_map(|d| d.as_document().map(RawDocument::as_bytes)),
        );
    }
    if documents.len() > usize::try_from(script.max_write_batch).unwrap_or(0) {
        let text = format!(
            "Write batch sizes must be between 1 and {}. Got {} operations.",
            script.max_write_batch,
            documents.len()
        );
        return Err(failure(16, "InvalidLength", text));
    }
    let ordered = body.get_bool("ordered").unwrap_or(true);
    let keeps_empty_times = body.get_bool("bypassEmptyTsReplacement").unwrap_or(false);
    if script.store.get(db, collection).is_none() {
        script.store.put(Collection::new(db, collection));
    }
    let swallow = script.swallow;
    let Some(into) = script.store.get_mut(db, collection) else { return Err(missing(db, collection)) };
    let capacity = into.capacity();
    let (mut inserted, mut errors) = (0, Vec::new());
    for (number, document) in documents.into_iter().enumerate() {
        if swallow {
            into.swallowed.0 += 1;
            into.swallowed.1 += document.len() as u64;
        } else if !into.insert(&if keeps_empty_times { document.to_vec() } else { with_present_time(document) }) {
            let text = format!("E11000 duplicate key error collection: {db}.{collection} index: _id_ dup key");
            let pattern = Doc::new().int32("_id", 1);
            let error = Doc::new().int32("index", number as i32).int32("code", 11000).doc("keyPattern", pattern);
            // Servers have said which since 4.4.
            let value = id_of(document).map_or_else(Doc::new, |id| Doc::like(&id));
            errors.push(error.doc("keyValue", value).text("errmsg", &text));
            if ordered {
                break;
            }
            continue;
        }
        inserted += 1;
        if let Some(capacity) = capacity {
            into.make_room(capacity);
        }
    }
    let reply = Doc::new().int32("n", inserted);
    ok(script, if errors.is_empty() { reply } else { reply.docs("writeErrors", errors) })
}

/// A document as a server stores it: a `Timestamp(0, 0)` at its top becomes the present time.
fn with_present_time(document: &[u8]) -> Vec<u8> {
    let read = RawDocument::from_bytes(document).ok();
    let empty = |value: RawBsonRef<'_>| matches!(value, RawBsonRef::Timestamp(t) if t.time == 0 && t.increment == 0);
    let elements = || read.into_iter().flat_map(RawDocument::iter_elements).filter_map(Result::ok);
    if !elements().any(|element| element.value().is_ok_and(empty)) {
        return document.to_vec();
    }
    let mut stamped = RawDocumentBuf::new();
    for element in elements() {
        match element.value() {
            Ok(value) if empty(value) => {
                stamped.append(element.key(), bson::Timestamp { time: NOW.0, increment: NOW.1 });
            }
            Ok(value) => stamped.append(element.key(), value),
            Err(_) => return document.to_vec(),
        }
    }
    stamped.into_bytes()
}

/// The fields of a command that are not about how it is carried out.
fn options_of(body: &RawDocument) -> Doc {
    let general = [
        "$db",
        "lsid",
        "$clusterTime",
        "$readPreference",
        "writeConcern",
        "txnNumber",
        "comment",
        "apiVersion",
        "idIndex",
    ];
    let mut options = RawDocumentBuf::new();
    for element in body.iter_elements().filter_map(Result::ok).skip(1) {
        if !general.contains(&element.key().as_str())
            && let Ok(value) = element.value()
        {
            options.append(element.key(), value);
        }
    }
    Doc::like(options.as_bytes())
}

fn create(script: &mut Script, db: &str, collection: &str, body: &RawDocument) -> Done {
    if script.store.get(db, collection).is_some() {
        return Err(failure(48, "NamespaceExists", format!("Collection {db}.{collection} already exists.")));
    }
    let mut created = Collection::new(db, collection).options(options_of(body));
    if matches!(body.get("viewOn"), Ok(Some(_))) {
        created = Collection { kind: "view".to_owned(), uuid: None, indexes: Vec::new(), ..created };
    } else if matches!(body.get("timeseries"), Ok(Some(_))) {
        created = Collection { kind: "timeseries".to_owned(), uuid: None, indexes: Vec::new(), ..created };
        let buckets = Collection::new(db, &format!("system.buckets.{collection}"));
        script.store.put(buckets.options(options_of(body)));
    }
    if let Ok(index) = body.get_document("idIndex") {
        created.indexes = vec![index.as_bytes().to_vec()];
    }
    script.store.put(created);
    ok(script, Doc::new())
}

fn create_indexes(script: &mut Script, db: &str, collection: &str, body: &RawDocument) -> Done {
    let wanted = body.get_array("indexes").map_err(|e| failure(9, "FailedToParse", e.to_string()))?;
    let wanted: Vec<RawDocumentBuf> = wanted
        .into_iter()
        .filter_map(Result::ok)
        .filter_map(|index| index.as_document().map(ToOwned::to_owned))
        .collect();
    if script.store.get(db, collection).is_none() {
        script.store.put(Collection::new(db, collection));
    }
    let Some(found) = script.store.get_mut(db, collection) else { return Err(missing(db, collection)) };
    let before = found.indexes.len();
    for index in wanted {
        let name = field_text(&index, "name");
        let known = found.indexes.iter().any(|known| {
            RawDocument::from_bytes(&known[..]).is_ok_and(|known| known.get_str("name").ok() == Some(name.as_str()))
        });
        if !known {
            found.indexes.push(index.as_bytes().to_vec());
        }
    }
    let after = found.indexes.len();
    let reply = Doc::new().int32("numIndexesBefore", before as i32).int32("numIndexesAfter", after as i32);
    ok(script, reply.bool("createdCollectionAutomatically", false))
}

//! Collections with their options, and their indexes.

use bson::{Bson, Document, doc};
use lifeboat_core::{Error, ErrorKind, Result};

use super::failure::{self, code};
use super::listing::Look;
use super::plan::{Entry, Kind};

/// Options that are no choice of the user's and that servers refuse on create: `autoIndexId` is gone since 8.2, the others
/// are what a server notes for itself (`create.idl`; `metadata.go` of mongorestore strips them as well).
const NOT_CREATED: [&str; 4] = ["autoIndexId", "recordIdsReplicated", "uuid", "temp"];

/// Fields of an index that are not given to a server: `ns` named the source, and later servers refuse it; `v` is the server's
/// own choice, as for mongorestore without `--keepIndexVersion`; `background` means nothing since 4.2.
const NOT_INDEXED: [&str; 3] = ["v", "ns", "background"];

/// Creates a collection as described by the archive's entry. With `plain`, a time series becomes an ordinary collection
/// of its buckets, which can be renamed.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if one of that name already exists; any error of the server.
pub(crate) async fn collection(look: &Look, entry: &Entry, db: &str, name: &str, plain: bool) -> Result<()> {
    let mut command = doc! { "create": name };
    if !(plain && entry.kind == Kind::Timeseries) {
        let options = options(entry)?;
        command.extend(options);
    }
    let subject = format!("the collection {db}.{name}");
    match look.client.database(db).run_command(command).await {
        Ok(_) => Ok(()),
        Err(error) if failure::code_of(&error) == Some(code::NAMESPACE_EXISTS) => {
            Err(Error::new(ErrorKind::AlreadyExists, "create", subject, "one of that name already exists"))
        }
        Err(error) => {
            let refusal = failure::of_driver("create", &subject, &error);
            Err(match refusal.advice() {
                Some(_) => refusal,
                None => refusal.hint("the options come from the source; a server of its version or later accepts them"),
            })
        }
    }
}

/// The options with which the entry's collection is made.
fn options(entry: &Entry) -> Result<Document> {
    let Some(options) = &entry.metadata.options else { return Ok(Document::new()) };
    let read = Document::try_from(options.as_ref()).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "read", format!("the options of {}", entry.shown()), e.to_string())
    })?;
    Ok(read.into_iter().filter(|(key, _)| !NOT_CREATED.contains(&key.as_str())).collect())
}

/// The indexes to build: all except the one on `_id`, which is created with the collection.
pub(crate) fn indexes(entry: &Entry) -> Result<Vec<Document>> {
    let mut made = Vec::new();
    for index in &entry.metadata.indexes {
        let read = Document::try_from(index.as_ref()).map_err(|e| {
            Error::new(ErrorKind::Corrupt, "read", format!("an index of {}", entry.shown()), e.to_string())
        })?;
        let on_id =
            read.get_str("name").is_ok_and(|name| name == "_id_") || read.get_bool("clustered").unwrap_or_default();
        if !on_id {
            made.push(read.into_iter().filter(|(key, _)| !NOT_INDEXED.contains(&key.as_str())).collect());
        }
    }
    Ok(made)
}

/// Builds all indexes of a collection with one command. Returns what the server would not take of them, in words.
///
/// # Behaviour
/// - A server that refuses an option it does not know is asked to pass over unknown ones
///   (`ignoreUnknownIndexOptions`, 4.1.9 and later); one that does not know that either gets the indexes without the
///   option that it names.
///
/// # Errors
/// What the server says: a unique index over documents that have duplicates, a kind of index that it does not have.
pub(crate) async fn build(
    look: &Look,
    db: &str,
    name: &str,
    mut indexes: Vec<Document>,
    shown: &str,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut ask_to_ignore = false;
    while !indexes.is_empty() {
        let list: Vec<Bson> = indexes.iter().cloned().map(Bson::Document).collect();
        let mut command = doc! { "createIndexes": name, "indexes": list };
        if ask_to_ignore {
            command.insert("ignoreUnknownIndexOptions", true);
        }
        let Err(error) = look.client.database(db).run_command(command).await else { break };
        let said = failure::whole(&error);
        if ask_to_ignore && said.contains("ignoreUnknownIndexOptions") {
            ask_to_ignore = false;
        } else if !is_unknown_option(&error, &said) {
            let error = failure::of_driver("build the indexes of", shown, &error);
            // What the server lacks has advice of its own.
            return Err(if matches!(error.kind(), ErrorKind::Io | ErrorKind::Unavailable) {
                error
            } else {
                error
                .hint("the documents are unchanged from the source, and a unique index fails if they hold duplicates; --no-indexes restores without indexes")
            });
        } else if !ask_to_ignore && notes.is_empty() {
            let told = failure::without_values(&said);
            notes.push(format!("{shown}: the server does not know all options of the indexes: {told}"));
            ask_to_ignore = true;
            continue;
        }
        // It named the option: without that one, and again.
        let quoted = |option: &String| said.contains(&format!("\"{option}\"")) || said.contains(&format!("'{option}'"));
        match options_of(&indexes).into_iter().find(quoted) {
            Some(named) => {
                notes.push(format!("{shown}: its indexes were built without the option {named}"));
                indexes.iter_mut().for_each(|index| drop(index.remove(&named)));
            }
            // What the refusal of `ignoreUnknownIndexOptions` says names none: the refusal before it, again, does.
            None if !ask_to_ignore && said.contains("ignoreUnknownIndexOptions") => {}
            None => return Err(failure::of_driver("build the indexes of", shown, &error)),
        }
    }
    Ok(notes)
}

fn is_unknown_option(error: &mongodb::error::Error, said: &str) -> bool {
    failure::code_of(error) == Some(code::INVALID_INDEX_SPECIFICATION_OPTION)
        || said.contains("is not valid for an index specification")
        || (said.contains("ndex option") && said.contains("unknown"))
}

/// The names of everything that the indexes say besides key and name.
fn options_of(indexes: &[Document]) -> Vec<String> {
    let options = indexes.iter().flat_map(Document::keys).filter(|k| *k != "key" && *k != "name");
    options.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}
/// Drops a collection. A missing one is not an error.
pub(crate) async fn drop_collection(look: &Look, db: &str, name: &str) -> Result<()> {
    match look.client.database(db).run_command(doc! { "drop": name }).await {
        Ok(_) => Ok(()),
        Err(error) if failure::code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => Ok(()),
        Err(error) => Err(failure::of_driver("drop", &format!("{db}.{name}"), &error)),
    }
}

/// Drops a database. A missing one is not an error.
pub(crate) async fn drop_database(look: &Look, db: &str) -> Result<()> {
    look.run(db, doc! { "dropDatabase": 1 }, "drop the database", db).await.map(|_| ())
}

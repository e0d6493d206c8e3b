//! Whether a deployment can be backed up, for `check`.

use bson::{Bson, Document, doc};
use lifeboat_core::{Check, Context};

use super::connection::Connection;
use super::listing::{Look, Topology};
use super::mongod;
use super::oplog;
use super::selection::{Consistency, Selection};
use super::system::MongoSettings;

pub(crate) async fn check(
    connection: &Connection,
    options: &MongoSettings,
    scratch: Option<&Connection>,
) -> Vec<Check> {
    let look = match Look::at(connection).await {
        Ok(look) => look,
        Err(error) => return vec![Check::from_error("server", &error)],
    };
    let mut checks = vec![Check::pass(
        "server",
        format!("MongoDB {}", look.version),
        format!("{} answers: {}", connection.redacted(), look.topology),
    )];
    checks.push(consistency(&look, options));
    checks.push(match Selection::new(options, connection.database()) {
        Err(error) => Check::from_error("collections", &error),
        Ok(chosen) => match look.everything(&chosen, connection.database(), &Context::default()).await {
            Err(error) => Check::from_error("collections", &error),
            Ok((listed, _)) if listed.is_empty() => {
                Check::warn("collections", "0", "there is nothing to back up: is this the right database?")
            }
            Ok((listed, _)) => {
                let databases: std::collections::BTreeSet<&str> = listed.iter().map(|l| l.db.as_str()).collect();
                Check::pass(
                    "collections",
                    listed.len().to_string(),
                    format!("in {}", databases.into_iter().collect::<Vec<_>>().join(", ")),
                )
            }
        },
    });
    checks.push(rights(&look, options).await);
    checks.push(of_scratch(scratch).await);
    checks
}

/// Whether restore tests can be made.
async fn of_scratch(named: Option<&Connection>) -> Check {
    const NAME: &str = "scratch server";
    match (named, mongod::find()) {
        (Some(named), _) => match Look::at(named).await {
            Ok(look) => Check::pass(NAME, format!("MongoDB {}", look.version), format!("{} answers", named.redacted())),
            Err(error) => Check::from_error(NAME, &error),
        },
        (None, Some(program)) => Check::pass(NAME, "mongod", program.display().to_string()),
        (None, None) => {
            let detail = format!(
                "no mongod here (PATH, {}): restore tests need a server that --scratch, LIFEBOAT_SCRATCH_URL or mongodb.scratch names",
                mongod::FOLDERS_VARIABLE
            );
            Check::warn(NAME, "missing", detail)
        }
    }
}

fn consistency(look: &Look, options: &MongoSettings) -> Check {
    if options.oplog {
        return match oplog::possible(look) {
            Ok(()) => {
                Check::pass("consistency", "oplog", "what is written meanwhile is included, and a restore replays it")
            }
            Err(error) => Check::from_error("consistency", &error),
        };
    }
    match (options.consistency.unwrap_or_default(), look.without_snapshot()) {
        (Consistency::None, _) => {
            Check::pass("consistency", "none", "as configured: each collection as it is when it is read")
        }
        (_, None) => Check::pass("consistency", "snapshot", "all collections are read as of the same time"),
        (Consistency::Auto, Some(why)) => {
            Check::warn("consistency", "none", format!("each collection is read as it is in its turn: {why}"))
        }
        (Consistency::Snapshot, Some(why)) => Check::fail("consistency", "no snapshot", why),
    }
}

/// Whether the user may read what is backed up.
async fn rights(look: &Look, options: &MongoSettings) -> Check {
    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    let reply = match look.ask("admin", status, "query the rights of", "the user").await {
        Ok(reply) => reply,
        Err(error) => return Check::warn("rights", "unknown", error.message()),
    };
    let info = reply.get_document("authInfo").cloned().unwrap_or_default();
    let list = |name: &str| info.get_array(name).cloned().unwrap_or_default();
    if list("authenticatedUsers").is_empty() {
        return Check::warn(
            "rights",
            "nobody",
            "the connection has no user: whoever can reach the server can read and write everything",
        );
    }
    let privileges: Vec<Document> = list("authenticatedUserPrivileges")
        .into_iter()
        .filter_map(|p| match p {
            Bson::Document(p) => Some(p),
            _ => None,
        })
        .collect();
    let database = look.connection.database();
    if privileges.iter().any(|p| allows_reading(p, database)) {
        let also = if options.oplog && look.topology != Topology::Standalone {
            "; the oplog needs `read` on local"
        } else {
            ""
        };
        return Check::pass(
            "rights",
            "read",
            format!("the user may read {}{also}", database.unwrap_or("every database")),
        );
    }
    let wanted = match database {
        Some(db) => format!("give the user the role `read` on {db}, or `backup`"),
        None => "give the user the role `backup`".to_owned(),
    };
    Check::warn("rights", "maybe not enough", format!("no privilege to find in every collection was seen: {wanted}"))
}

fn allows_reading(privilege: &Document, database: Option<&str>) -> bool {
    let Ok(resource) = privilege.get_document("resource") else { return false };
    let finds = privilege
        .get_array("actions")
        .is_ok_and(|actions| actions.iter().any(|a| matches!(a.as_str(), Some("find" | "anyAction"))));
    let any = resource.get_bool("anyResource").unwrap_or_default();
    let db = resource.get_str("db").unwrap_or("?");
    let whole = resource.get_str("collection").is_ok_and(str::is_empty);
    finds && (any || (whole && (db.is_empty() || database == Some(db))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_on_the_database_or_on_all_is_enough() {
        let of = |db: &str, action: &str| doc! { "resource": { "db": db, "collection": "" }, "actions": [action] };
        assert!(allows_reading(&of("shop", "find"), Some("shop")));
        assert!(allows_reading(&of("", "find"), Some("shop")));
        assert!(allows_reading(&doc! { "resource": { "anyResource": true }, "actions": ["anyAction"] }, None));
        assert!(!allows_reading(&of("other", "find"), Some("shop")));
        assert!(!allows_reading(&of("shop", "find"), None));
        assert!(!allows_reading(&of("shop", "insert"), Some("shop")));
    }
}

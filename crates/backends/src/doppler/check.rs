//! Checks whether a backup can be made: the token, what it may read, whether a restore would be accepted.

use super::SECRETS;
use lifeboat_core::{Check, ErrorKind};
use tokio_util::sync::CancellationToken;

use super::api::{Connection, Scope};
use super::source::datasets;

/// Checks the token and what it gives access to: one config, or all of a project (`many`), or all projects.
pub async fn check(connection: &Connection, scope: &Scope, many: bool) -> Vec<Check> {
    let cancel = CancellationToken::new();
    let mut checks = Vec::new();
    match connection.me(&cancel).await {
        Ok(me) => {
            let kind = connection.kind_by_prefix().map(str::to_owned).or(me.kind.map(|k| k.replace('_', " ")));
            let kind = kind.unwrap_or_else(|| "token".to_owned());
            let workplace = me.workplace.and_then(|w| w.name).map(|w| format!(", workplace {w}")).unwrap_or_default();
            let detail =
                format!("{} is valid{workplace}; {} answers", me.name.unwrap_or_default(), connection.api_url());
            checks.push(match kind.as_str() {
                "personal token" | "CLI token" => Check::warn(
                    "token",
                    kind,
                    format!(
                        "{}; it has all the rights of its owner: a read-only service token is enough",
                        detail.trim_start()
                    ),
                ),
                "SCIM token" | "audit token" => {
                    Check::fail("token", kind, "it cannot read secrets: make a service token")
                }
                _ => Check::pass("token", kind, detail.trim_start().to_owned()),
            });
        }
        Err(error) => {
            checks.push(Check::from_error("token", &error));
            return checks;
        }
    }
    if many {
        checks.push(match datasets(connection, scope.project.as_deref()).await {
            Ok(found) if found.is_empty() => Check::fail("access", "0 configs", "the token sees no config"),
            Ok(found) => {
                let names: Vec<&str> = found.iter().map(lifeboat_core::Dataset::as_str).collect();
                Check::pass("access", format!("{} configs", found.len()), super::source::listed(&names))
            }
            Err(error) => Check::from_error("access", &error),
        });
        return checks;
    }
    match connection.names(scope, &cancel).await {
        Ok(names) if names.is_empty() => {
            checks.push(Check::fail("access", "0 secrets", format!("{} has no secrets", scope.name())));
        }
        Ok(names) => {
            checks.push(Check::pass("access", SECRETS.count(names.len()), scope.name()));
        }
        Err(error) => {
            checks.push(Check::from_error("access", &error));
            return checks;
        }
    }
    match connection.config(scope, &cancel).await {
        Ok(config) if config.locked => checks.push(Check::warn(
            "config",
            "locked",
            format!("{} can be backed up; a restore into it is refused until it is unlocked", config.name),
        )),
        Ok(config) => checks.push(Check::pass("config", config.name, "not locked")),
        // A token of one config need not see it from outside.
        Err(error) if matches!(error.kind(), ErrorKind::Permission | ErrorKind::NotFound | ErrorKind::Refused) => {}
        Err(error) => checks.push(Check::from_error("config", &error)),
    }
    checks
}

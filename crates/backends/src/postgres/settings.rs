//! How a session's settings affect the text of a dump, and what a scratch server needs to restore it.

use std::collections::BTreeMap;

use lifeboat_core::{Proof, Result};
use serde::{Deserialize, Serialize};

use super::collation;
use super::create::Locale;
use super::load::Dump;
use super::session::{Session, quote_literal};

/// Key of the settings in a proof's details.
const KEY: &str = "settings";

/// Recorded with a backup, needed at its restore and comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// How the database sorts.
    #[serde(flatten)]
    pub(crate) locale: Locale,
    /// Settings that change how values are written and that pg_dump leaves as they are.
    #[serde(default)]
    pub(crate) session: BTreeMap<String, String>,
    /// Extensions with their versions.
    #[serde(default)]
    pub(crate) extensions: BTreeMap<String, String>,
    /// Collations by which text is sorted, with their versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) collations: BTreeMap<String, String>,
}

/// pg_dump sets DateStyle, IntervalStyle, extra_float_digits and row_security (`setup_connection` in pg_dump.c) and leaves
/// these to the role, the database and the server. TimeZone is set by us.
const RECORDED: [&str; 3] = ["bytea_output", "lc_monetary", "xmlbinary"];

impl Settings {
    /// Asks a session.
    pub(crate) async fn of(session: &Session, major: u32) -> Result<Self> {
        let mut made = Self::default();
        for name in RECORDED {
            if let Some(value) =
                session.value(&format!("SELECT pg_catalog.current_setting({}, true)", quote_literal(name))).await?
            {
                made.session.insert(name.to_owned(), value);
            }
        }
        made.locale = Locale::ask(session, major).await?;
        made.collations = collation::versions(session, major).await;
        for row in session.rows("SELECT extname, extversion FROM pg_catalog.pg_extension").await? {
            if let [Some(name), Some(version)] = &row[..] {
                made.extensions.insert(name.clone(), version.clone());
            }
        }
        Ok(made)
    }

    /// With what the dump itself says where nothing was recorded.
    pub(crate) fn or(mut self, dump: &Dump) -> Self {
        if self.locale.collate.is_none() {
            self.locale = dump.locale();
        }
        self
    }

    /// Puts them into a proof.
    pub(crate) fn store(&self, proof: &mut Proof) {
        let value = serde_json::to_value(self).expect("settings have string keys only");
        proof.details.insert(KEY.to_owned(), value);
    }

    /// Reads them from a proof; the defaults where it has none.
    pub(crate) fn load(proof: &Proof) -> Self {
        proof.details.get(KEY).and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default()
    }
}

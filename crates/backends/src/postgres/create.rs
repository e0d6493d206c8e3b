//! Creating databases with the encoding and locale of another one.

use lifeboat_core::Result;
use serde::{Deserialize, Serialize};

use super::archive::{Toc, quote_ident};
use super::session::{Session, quote_literal};

/// The locale of a database: how it sorts and classifies characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Locale {
    /// `LC_COLLATE`.
    #[serde(default)]
    pub(crate) collate: Option<String>,
    /// `LC_CTYPE`.
    #[serde(default)]
    pub(crate) ctype: Option<String>,
    /// The provider of the default collation: `c` (the C library), `i` (ICU), `b` (the server itself). Since PostgreSQL
    /// 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// The provider's locale, if it is not the C library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) locale: Option<String>,
    /// Rules beyond the locale's. Since PostgreSQL 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) icu_rules: Option<String>,
}

impl Locale {
    /// The columns of pg_database with these fields, in their order.
    pub(crate) fn columns(major: u32) -> &'static str {
        match major {
            0..15 => "datcollate, datctype, NULL, NULL, NULL",
            15 => "datcollate, datctype, datlocprovider::text, daticulocale, NULL",
            16 => "datcollate, datctype, datlocprovider::text, daticulocale, daticurules",
            _ => "datcollate, datctype, datlocprovider::text, datlocale, daticurules",
        }
    }

    /// Creates a locale from a row of these columns.
    pub(crate) fn of(row: &[Option<String>]) -> Self {
        let at = |column: usize| row.get(column).cloned().flatten();
        Self { collate: at(0), ctype: at(1), provider: at(2), locale: at(3), icu_rules: at(4) }
    }

    /// The locale of a session's database.
    pub(crate) async fn ask(session: &Session, major: u32) -> Result<Self> {
        let sql = format!(
            "SELECT {} FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
            Self::columns(major)
        );
        Ok(session.rows(&sql).await?.first().map(|row| Self::of(row)).unwrap_or_default())
    }

    /// The locale that the `CREATE DATABASE` of an archive asks for. It is there whether or not the archive was made with
    /// `--create` (`dumpDatabase` in pg_dump.c).
    pub(crate) fn of_archive(toc: &Toc) -> Self {
        let entry = toc.of_kind("DATABASE").next().and_then(|entry| entry.defn.as_deref());
        entry.and_then(|defn| std::str::from_utf8(defn).ok()).map(Self::of_statement).unwrap_or_default()
    }

    /// The locale that a `CREATE DATABASE` by pg_dump asks for.
    fn of_statement(text: &str) -> Self {
        // The name before it may hold anything.
        let Some((_, options)) = text.rsplit_once(" WITH TEMPLATE = template0") else { return Self::default() };
        let literal = |name: &str| {
            let (_, after) = options.split_once(&format!(" {name} = '"))?;
            let mut value = String::new();
            let mut parts = after.split('\'').peekable();
            // A quote within is doubled.
            while let Some(part) = parts.next() {
                value.push_str(part);
                if parts.next_if(|next| next.is_empty()).is_none() || parts.peek().is_none() {
                    break;
                }
                value.push('\'');
            }
            Some(value)
        };
        let both = literal("LOCALE");
        let provider = [("icu", "i"), ("builtin", "b"), ("libc", "c")]
            .into_iter()
            .find(|(word, _)| options.contains(&format!(" LOCALE_PROVIDER = {word}")));
        Self {
            collate: literal("LC_COLLATE").or_else(|| both.clone()),
            ctype: literal("LC_CTYPE").or(both),
            provider: provider.map(|(_, letter)| letter.to_owned()),
            locale: literal("ICU_LOCALE").or_else(|| literal("BUILTIN_LOCALE")),
            icu_rules: literal("ICU_RULES"),
        }
    }

    /// The options of `CREATE DATABASE` that ask for it, with a space before each. What a server of this version does not
    /// know is left out: [`is_known_to`](Self::is_known_to) says whether something was.
    pub(crate) fn options(&self, major: u32) -> String {
        let mut options = String::new();
        let mut add = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                options.push_str(&format!(" {name} {}", quote_literal(value)));
            }
        };
        add("LC_COLLATE", &self.collate);
        add("LC_CTYPE", &if self.ctype.is_some() { self.ctype.clone() } else { self.collate.clone() });
        match self.provider.as_deref() {
            Some("i") if major >= 15 => {
                add("LOCALE_PROVIDER", &Some("icu".to_owned()));
                add("ICU_LOCALE", &self.locale);
                if major >= 16 {
                    add("ICU_RULES", &self.icu_rules);
                }
            }
            Some("b") if major >= 17 => {
                add("LOCALE_PROVIDER", &Some("builtin".to_owned()));
                add("BUILTIN_LOCALE", &self.locale);
            }
            Some(_) if major >= 15 => add("LOCALE_PROVIDER", &Some("libc".to_owned())),
            _ => {}
        }
        options
    }

    /// Whether a server of this version supports this locale.
    pub(crate) fn is_known_to(&self, major: u32) -> bool {
        match self.provider.as_deref() {
            Some("i") => major >= if self.icu_rules.is_some() { 16 } else { 15 },
            Some("b") => major >= 17,
            _ => true,
        }
    }

    /// The name for messages.
    pub(crate) fn label(&self) -> String {
        match self.provider.as_deref() {
            Some("i") => format!("{} (ICU)", self.locale.as_deref().unwrap_or_default()),
            Some("b") => format!("{} (builtin)", self.locale.as_deref().unwrap_or_default()),
            _ => self.collate.clone().unwrap_or_default(),
        }
    }
}

/// `CREATE DATABASE` from template0.
pub(crate) fn create(name: &str, encoding: Option<&str>, options: &str) -> String {
    let encoding = encoding.map(|e| format!(" ENCODING {}", quote_literal(e))).unwrap_or_default();
    format!("CREATE DATABASE {} TEMPLATE template0{encoding}{options}", quote_ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_asks_for_its_provider_where_the_server_knows_it() {
        let icu = Locale {
            collate: Some("C".to_owned()),
            ctype: Some("C.UTF-8".to_owned()),
            provider: Some("i".to_owned()),
            locale: Some("de-AT".to_owned()),
            icu_rules: Some("&a < b".to_owned()),
        };
        let libc = " LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'";
        assert_eq!(icu.options(14), libc);
        assert_eq!(icu.options(15), format!("{libc} LOCALE_PROVIDER 'icu' ICU_LOCALE 'de-AT'"));
        assert!(!icu.is_known_to(14) && !icu.is_known_to(15) && icu.is_known_to(16));
        assert!(icu.options(17).ends_with("ICU_RULES '&a < b'"));
        let builtin = Locale { provider: Some("b".to_owned()), locale: Some("C.UTF-8".to_owned()), ..icu };
        assert!(builtin.options(17).contains("BUILTIN_LOCALE 'C.UTF-8'"));
    }

    #[test]
    fn a_locale_is_read_from_an_archive() {
        for (statement, options) in [
            (
                "CREATE DATABASE \"a WITH TEMPLATE = template0 LOCALE = 'x'\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu LC_COLLATE = 'C' LC_CTYPE = 'de' ICU_LOCALE = 'de-AT' ICU_RULES = '&a < ''b''';\n",
                " LC_COLLATE 'C' LC_CTYPE 'de' LOCALE_PROVIDER 'icu' ICU_LOCALE 'de-AT' ICU_RULES '&a < ''b'''",
            ),
            (
                "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'C.UTF-8';",
                " LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER 'builtin' BUILTIN_LOCALE 'C.UTF-8'",
            ),
            (
                "CREATE DATABASE a WITH TEMPLATE = template0 LOCALE = 'en';",
                " LC_COLLATE 'en' LC_CTYPE 'en' LOCALE_PROVIDER 'libc'",
            ),
            ("CREATE DATABASE a;", " LOCALE_PROVIDER 'libc'"),
        ] {
            let locale = Locale::of_statement(statement);
            let provider = locale.provider.clone().or_else(|| Some("c".to_owned()));
            assert_eq!(Locale { provider, ..locale }.options(17), options);
        }
    }
}

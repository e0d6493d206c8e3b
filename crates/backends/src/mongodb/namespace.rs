//! Names of collections: patterns with `*`, and the renames of `--ns-from` and `--ns-to`.

use lifeboat_core::{Error, ErrorKind, Result};

/// A pattern in which `*` matches any characters and a backslash escapes the next one, as in `--nsInclude`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `*`, or `$name$`.
    Any(Option<String>),
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self(parts(text, false))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        captures(&self.0, name).is_some()
    }
}

fn parts(text: &str, variables: bool) -> Vec<Part> {
    let mut made = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let any = match c {
            '\\' => {
                if let Some(next) = rest.chars().next() {
                    literal.push(next);
                    rest = &rest[next.len_utf8()..];
                }
                continue;
            }
            '*' => Part::Any(None),
            '$' if variables => match rest.split_once('$') {
                Some((name, after)) if !name.is_empty() => {
                    rest = after;
                    Part::Any(Some(name.to_owned()))
                }
                _ => {
                    literal.push(c);
                    continue;
                }
            },
            _ => {
                literal.push(c);
                continue;
            }
        };
        if !literal.is_empty() {
            made.push(Part::Text(std::mem::take(&mut literal)));
        }
        made.push(any);
    }
    if !literal.is_empty() {
        made.push(Part::Text(literal));
    }
    made
}

/// What each `*` of the pattern matches; each matches as little as possible.
fn captures<'a>(parts: &[Part], name: &'a str) -> Option<Vec<&'a str>> {
    let Some((first, rest)) = parts.split_first() else { return name.is_empty().then(Vec::new) };
    match first {
        Part::Text(text) => captures(rest, name.strip_prefix(text.as_str())?),
        Part::Any(_) => {
            for (at, _) in name.char_indices().chain([(name.len(), ' ')]) {
                if let Some(mut found) = captures(rest, &name[at..]) {
                    found.insert(0, &name[..at]);
                    return Some(found);
                }
            }
            None
        }
    }
}

/// One rename: `--ns-from 'shop.*' --ns-to 'copy.*'`, or with variables, `'$db$.old' → 'x.$db$'`.
#[derive(Clone, Debug)]
struct Rename {
    from: Vec<Part>,
    to: Vec<Part>,
}

/// The renames of a restore. The first matching one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renames(Vec<Rename>);

impl Renames {
    /// # Errors
    /// [`ErrorKind::Config`] if the lists differ in length, or a pair differs in stars or variables.
    pub(crate) fn new(from: &[String], to: &[String]) -> Result<Self> {
        let wrong = |subject: String, why: &str| {
            Error::new(ErrorKind::Config, "rename", subject, why).hint(
                "write --ns-from 'shop.*' --ns-to 'copy.*', or name the parts: --ns-from '$db$.a' --ns-to 'b.$db$'",
            )
        };
        if from.len() != to.len() {
            let counts = format!("{} --ns-from and {} --ns-to", from.len(), to.len());
            return Err(wrong(counts, "give them in pairs"));
        }
        let mut renames = Vec::new();
        for (from, to) in from.iter().zip(to) {
            let pair = Rename { from: parts(from, true), to: parts(to, true) };
            let stars = |parts: &[Part]| parts.iter().filter(|p| matches!(p, Part::Any(None))).count();
            let names = |parts: &[Part]| -> Vec<String> {
                parts
                    .iter()
                    .filter_map(|p| if let Part::Any(Some(name)) = p { Some(name.clone()) } else { None })
                    .collect()
            };
            let known = names(&pair.from);
            if stars(&pair.from) != stars(&pair.to) || names(&pair.to).iter().any(|n| !known.contains(n)) {
                return Err(wrong(
                    format!("{from} to {to}"),
                    "both sides need the same stars, and the right side cannot introduce a variable",
                ));
            }
            renames.push(pair);
        }
        Ok(Self(renames))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The new name, if a rename matches.
    pub(crate) fn apply(&self, name: &str) -> Option<String> {
        self.0.iter().find_map(|rename| {
            let found = captures(&rename.from, name)?;
            let any: Vec<&Part> = rename.from.iter().filter(|p| matches!(p, Part::Any(_))).collect();
            let mut stars = any.iter().zip(&found).filter(|(p, _)| matches!(p, Part::Any(None))).map(|(_, text)| *text);
            let mut made = String::new();
            for part in &rename.to {
                match part {
                    Part::Text(text) => made += text,
                    Part::Any(None) => made += stars.next().unwrap_or_default(),
                    Part::Any(Some(name)) => {
                        let named = any.iter().zip(&found).find(|(p, _)| matches!(p, Part::Any(Some(n)) if n == name));
                        made += named.map(|(_, text)| *text).unwrap_or_default();
                    }
                }
            }
            Some(made)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters_and_a_backslash_for_the_next_one() {
        for (pattern, name, fits) in [
            ("shop.*", "shop.orders", true),
            ("shop.*", "shopping.orders", false),
            ("*.orders", "a.b.orders", true),
            ("shop.o*s", "shop.orders", true),
            ("shop.o*s", "shop.orders2", false),
            ("shop.a\\*", "shop.a*", true),
            ("shop.a\\*", "shop.ab", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn renames_carry_stars_and_variables_over() {
        let renames = |from: &[&str], to: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
            Renames::new(&own(from), &own(to))
        };
        let renamed = renames(&["shop.*", "$db$.c_$n$"], &["copy.x_*", "$n$.$db$"]).unwrap();
        assert_eq!(renamed.apply("shop.orders").as_deref(), Some("copy.x_orders"));
        assert_eq!(renamed.apply("a.c_b").as_deref(), Some("b.a"));
        assert_eq!(renamed.apply("other.x"), None);
        assert!(renames(&["a.*"], &["b.c"]).is_err());
        assert!(renames(&["a.*"], &[]).is_err());
        assert!(renames(&["a.$x$"], &["b.$y$"]).is_err());
    }
}

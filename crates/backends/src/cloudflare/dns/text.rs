//! Master files as text (RFC 1035, section 5): tokens, quotes, escapes, parentheses, `$ORIGIN` and `$TTL`.

use super::lower;

/// One entry of a master file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The line at which it starts, from 1.
    pub(crate) line: usize,
    /// The full name in lower case, without the trailing dot.
    pub(crate) name: String,
    /// The TTL in seconds.
    pub(crate) ttl: Option<u64>,
    /// The type.
    pub(crate) kind: String,
    /// The data, with single spaces between its parts and absolute names.
    pub(crate) data: String,
}

/// Bytes as a character string in quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x20..=0x7e => text.push(char::from(byte)),
            _ => text += &format!("\\{byte:03}"),
        }
    }
    text.push('"');
    text
}

/// The strings of a TXT record's content. The API accepts one or several quoted strings, and unquoted content, which is
/// a single string.
pub(crate) fn txt_strings(content: &str) -> Vec<Vec<u8>> {
    let trimmed = content.trim();
    let quoted_parts = || {
        let parts = tokens(trimmed).ok()?;
        parts.iter().all(|p| p.len() >= 2 && p.starts_with('"') && p.ends_with('"')).then_some(parts)
    };
    match trimmed.starts_with('"').then(quoted_parts).flatten() {
        Some(parts) => parts.iter().map(|p| unescaped(&p[1..p.len() - 1])).collect(),
        None => vec![content.as_bytes().to_vec()],
    }
}

/// The bytes of a token without its quotes.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\\' && at + 1 < bytes.len() {
            let code = text.get(at + 1..at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            if let Some(byte) = code.and_then(|d| d.parse::<u8>().ok()) {
                out.push(byte);
                at += 4;
                continue;
            }
            at += 1;
        }
        out.push(bytes[at]);
        at += 1;
    }
    out
}

/// The bytes of a token, with or without quotes.
pub(crate) fn bytes_of(token: &str) -> Vec<u8> {
    match token.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) => unescaped(inner),
        None => unescaped(token),
    }
}

/// The parts of a line's data, as written, including quotes and escapes.
///
/// # Errors
/// An unclosed quote.
pub(crate) fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut lexer = Lexer::new(text);
    let mut all = Vec::new();
    while let Some(line) = lexer.line()? {
        all.extend(line.tokens);
    }
    Ok(all)
}

struct Line {
    at: usize,
    /// Whether it starts with white space and so has the previous owner.
    continues: bool,
    tokens: Vec<String>,
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), line: 1 }
    }

    /// The next line with content; parentheses join lines.
    fn line(&mut self) -> Result<Option<Line>, String> {
        let (mut depth, mut at) = (0usize, self.line);
        let mut line = Line { at, continues: matches!(self.rest.peek(), Some(' ' | '\t')), tokens: Vec::new() };
        loop {
            let Some(&c) = self.rest.peek() else {
                return match (depth, line.tokens.is_empty()) {
                    (0, true) => Ok(None),
                    (0, false) => Ok(Some(line)),
                    _ => Err(format!("line {at}: a ( has no )")),
                };
            };
            match c {
                '\n' => {
                    self.rest.next();
                    self.line += 1;
                    if depth == 0 {
                        if !line.tokens.is_empty() {
                            return Ok(Some(line));
                        }
                        at = self.line;
                        line.at = at;
                        line.continues = matches!(self.rest.peek(), Some(' ' | '\t'));
                    }
                }
                ';' => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '(' => {
                    self.rest.next();
                    depth += 1;
                }
                ')' => {
                    self.rest.next();
                    depth = depth.checked_sub(1).ok_or_else(|| format!("line {}: a ) has no (", self.line))?;
                }
                c if c.is_whitespace() => {
                    self.rest.next();
                }
                _ => {
                    let token = self.token()?;
                    line.tokens.push(token);
                }
            }
        }
    }

    /// One token. It may contain a quoted part, as in `alpn="h2,h3"`.
    fn token(&mut self) -> Result<String, String> {
        let (mut token, mut open) = (String::new(), false);
        let begun = self.line;
        while let Some(&c) = self.rest.peek() {
            if !open && (c.is_whitespace() || matches!(c, ';' | '(' | ')')) {
                break;
            }
            // A string ends where its quote does.
            let ends = open && c == '"' && token.starts_with('"');
            self.rest.next();
            token.push(c);
            match c {
                '\\' => match self.rest.next() {
                    Some(next) => token.push(next),
                    None => return Err(format!("line {begun}: it ends in a \\")),
                },
                '"' => open = !open,
                '\n' => self.line += 1,
                _ => {}
            }
            if ends {
                break;
            }
        }
        if open { Err(format!("line {begun}: a quote is not closed")) } else { Ok(token) }
    }
}

/// Parses a master file. `origin` is the zone's name, for a file that does not state it.
///
/// # Errors
/// The line number and what is wrong.
pub(crate) fn read_file(text: &str, origin: &str) -> Result<Vec<Entry>, String> {
    let mut origin = lower(origin);
    let (mut last, mut default_ttl) = (None, None);
    let mut entries = Vec::new();
    let mut lexer = Lexer::new(text);
    while let Some(line) = lexer.line()? {
        let wrong = |why: &str| format!("line {}: {why}", line.at);
        let mut tokens = line.tokens.into_iter().peekable();
        if !line.continues && tokens.peek().is_some_and(|t| t.starts_with('$')) {
            let directive = tokens.next().unwrap_or_default().to_ascii_uppercase();
            let value = tokens.next().ok_or_else(|| wrong("a directive without a value"))?;
            match directive.as_str() {
                "$ORIGIN" => origin = whole(&value, &origin),
                "$TTL" => default_ttl = Some(seconds(&value).ok_or_else(|| wrong("$TTL is not a time"))?),
                _ => return Err(wrong("an unknown directive")),
            }
            continue;
        }
        let name = if line.continues {
            last.clone().ok_or_else(|| wrong("it has no name, and there is none before it"))?
        } else {
            whole(&tokens.next().unwrap_or_default(), &origin)
        };
        last = Some(name.clone());
        let mut ttl = default_ttl;
        let kind = loop {
            let token = tokens.next().ok_or_else(|| wrong("it has no type"))?;
            if matches!(token.to_ascii_uppercase().as_str(), "IN" | "CH" | "HS") {
                continue;
            }
            match seconds(&token) {
                Some(time) => ttl = Some(time),
                None => break token.to_ascii_uppercase(),
            }
        };
        let mut data: Vec<String> = tokens.collect();
        for at in names_in(&kind) {
            if let Some(part) = data.get_mut(*at) {
                *part = format!("{}.", whole(part, &origin));
            }
        }
        entries.push(Entry { line: line.at, name, ttl, kind, data: data.join(" ") });
    }
    Ok(entries)
}

/// Which parts of a type's data are names.
fn names_in(kind: &str) -> &'static [usize] {
    match kind {
        "CNAME" | "NS" | "PTR" | "DNAME" => &[0],
        "MX" | "HTTPS" | "SVCB" => &[1],
        "SRV" => &[3],
        "NAPTR" => &[5],
        "SOA" => &[0, 1],
        _ => &[],
    }
}

/// Completes a name that may be relative, without the trailing dot.
fn whole(name: &str, origin: &str) -> String {
    if name == "@" {
        return origin.to_owned();
    }
    if name == "." {
        return String::new();
    }
    match name.strip_suffix('.') {
        Some(absolute) if !absolute.ends_with('\\') => lower(absolute),
        _ if origin.is_empty() => lower(name),
        _ => format!("{}.{origin}", lower(name)),
    }
}

/// Parses a time in seconds, or with the units that many programs use: `1h30m`.
fn seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds);
    }
    let (mut total, mut digits) = (0u64, String::new());
    for c in text.chars() {
        let unit = match c.to_ascii_lowercase() {
            c if c.is_ascii_digit() => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && total > 0).then_some(total)
}

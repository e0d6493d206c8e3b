//! Requests and answers.

use serde_json::Value;

use crate::http::decode_query;

/// A request as it came, percent-decoded.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path without the query, decoded.
    pub path: String,
    /// The query's parameters, in their order.
    pub query: Vec<(String, String)>,
    /// The headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The first line as it came: what an access log would show.
    pub line: String,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A parameter's value.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first parameter that is none of these, or is there twice: strict APIs refuse it.
    pub fn unknown_param(&self, known: &[&str]) -> Option<&str> {
        let mut seen = Vec::new();
        for (name, _) in &self.query {
            if !known.contains(&name.as_str()) || seen.contains(&name) {
                return Some(name);
            }
            seen.push(name);
        }
        None
    }

    /// The bearer token.
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The parts of the path between slashes.
    pub fn segments(&self) -> Vec<&str> {
        self.path.split('/').filter(|s| !s.is_empty()).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers besides `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer of this type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".to_owned(), content_type.to_owned())], body: body.into() }
    }

    /// JSON.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", value.to_string())
    }

    /// Text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text)
    }

    /// A web page.
    pub fn html(status: u16, title: &str) -> Self {
        let page = format!("<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>{title}</body></html>\n");
        Self::new(status, "text/html; charset=UTF-8", page)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// The parameters of a query.
pub(super) fn params(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            (decode_query(name), decode_query(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(crate::http::decode("a%20b%2Fc+d"), "a b/c+d");
        assert_eq!(decode_query("a+b%2"), "a b%2");
        assert_eq!(decode_query("%zz%c3%a4"), "%zzä");
        assert_eq!(params("a=1&b&c=%26"), [("a", "1"), ("b", ""), ("c", "&")].map(|(n, v)| (n.into(), v.into())));
    }
}

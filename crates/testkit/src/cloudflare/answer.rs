//! Envelopes and pages.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::http_api::{Request, Response};

/// An error of an envelope.
pub(super) fn fault(code: u32, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// A failed envelope.
pub(super) fn failed(status: u16, errors: Vec<Value>) -> Response {
    with_limits(Response::json(status, &json!({"success": false, "errors": errors, "messages": [], "result": null})))
}

/// A good envelope.
pub(super) fn good(result: Value) -> Response {
    with_limits(Response::json(200, &json!({"success": true, "errors": [], "messages": [], "result": result})))
}

fn with_limits(response: Response) -> Response {
    response.header("Ratelimit", "\"default\";r=1199;t=300").header("Ratelimit-Policy", "\"burst\";q=1200;w=300")
}

/// A page of a list.
pub(super) fn page(all: &[Value], request: &Request, default: usize, allowed: RangeInclusive<usize>) -> Response {
    let number = |name: &str, default: usize| match request.param(name) {
        None => Some(default),
        Some(text) => text.parse::<usize>().ok(),
    };
    let (Some(page), Some(per_page)) = (number("page", 1), number("per_page", default)) else {
        return failed(400, vec![fault(6007, "Malformed query: page and per_page are numbers")]);
    };
    if page == 0 || !allowed.contains(&per_page) {
        return failed(400, vec![fault(6007, &format!("Malformed query: page {page}, per_page {per_page}"))]);
    }
    let part: Vec<&Value> = all.iter().skip((page - 1) * per_page).take(per_page).collect();
    let info = json!({"page": page, "per_page": per_page, "count": part.len(), "total_count": all.len(),
        "total_pages": all.len().div_ceil(per_page)});
    let body = json!({"success": true, "errors": [], "messages": [], "result": part, "result_info": info});
    with_limits(Response::json(200, &body))
}

/// A page of a list with cursors: twenty entries, and where the next ones are.
pub(super) fn cursors(all: &[Value], request: &Request) -> Response {
    if request.unknown_param(&["cursor"]).is_some() {
        return failed(400, vec![fault(6007, "Malformed query")]);
    }
    let from: usize = request.param("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let part: Vec<&Value> = all.iter().skip(from).take(20).collect();
    let mut body = json!({"success": true, "errors": [], "messages": [], "result": part});
    if from + part.len() < all.len() {
        body["result_info"] = json!({"cursors": {"after": (from + part.len()).to_string()}});
    } else if from > 0 {
        body["result_info"] = json!({"cursors": {}});
    }
    with_limits(Response::json(200, &body))
}

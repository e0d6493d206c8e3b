//! Paging: a list ends where the API says so, regardless of how many entries it returned.
//!
//! Lists have numbered pages (`page`, `per_page`, `count`, `total_count`, `total_pages`) or cursors (`cursors.after`), told in
//! `result_info` (<https://developers.cloudflare.com/fundamentals/api/how-to/make-api-calls/#pagination>).

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

/// What a response says about its list.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PageInfo {
    page: Option<usize>,
    count: Option<usize>,
    total_count: Option<usize>,
    total_pages: Option<usize>,
    cursors: Option<Cursors>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Cursors {
    after: Option<String>,
}

impl PageInfo {
    /// Whether there are more entries than these on the first page.
    pub(super) fn has_more_than(&self, entries: usize) -> bool {
        self.cursor().is_some()
            || self.total_pages.is_some_and(|pages| pages > 1)
            || self.total_count.is_some_and(|total| total != entries)
    }

    fn cursor(&self) -> Option<&str> {
        self.cursors.as_ref()?.after.as_deref().filter(|cursor| !cursor.is_empty())
    }
}

/// The page to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The page with this number, from 1.
    Page(usize),
    /// The page after the one that returned this cursor.
    After(String),
}

/// Why a list cannot be trusted as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It seems to have changed while being read: it must be read again.
    Changed(String),
    /// The API's response is inconsistent, or does not say where the list ends.
    Wrong(String),
}

/// One reading of a list, page by page.
#[derive(Debug, Default)]
pub(super) struct Walk {
    all: Vec<Value>,
    ids: HashSet<String>,
    cursors: HashSet<String>,
    total: Option<usize>,
}

impl Walk {
    /// Takes a page, and returns which one is next; `None` after the last.
    pub(super) fn take(
        &mut self,
        position: &Position,
        page: Vec<Value>,
        info: Option<PageInfo>,
    ) -> Result<Option<Position>, Doubt> {
        let wrong = |why: String| Err(Doubt::Wrong(why));
        let Some(info) = info else {
            return wrong("the answer does not say how many entries there are (it has no result_info)".to_owned());
        };
        let came = page.len();
        if let Some(count) = info.count.filter(|count| *count != came) {
            return wrong(format!("the answer announces {count} entries on a page, but {came} came"));
        }
        if let (Position::Page(asked), Some(told)) = (position, info.page)
            && *asked != told
        {
            return wrong(format!("page {asked} was requested, but page {told} came"));
        }
        // For entries without an id, only this reveals a repeated page.
        if came > 0 && self.all.ends_with(&page) {
            return Err(Doubt::Changed("a page came twice".to_owned()));
        }
        for item in page {
            if let Some(id) = item["id"].as_str()
                && !self.ids.insert(id.to_owned())
            {
                return Err(Doubt::Changed(format!("{id} came twice")));
            }
            self.all.push(item);
        }
        if let (Some(before), Some(now)) = (self.total, info.total_count)
            && before != now
        {
            return Err(Doubt::Changed(format!("{before} entries at first, {now} on a later page")));
        }
        self.total = self.total.or(info.total_count);
        self.next(position, came, &info)
    }

    fn next(&mut self, position: &Position, came: usize, info: &PageInfo) -> Result<Option<Position>, Doubt> {
        if let Some(cursor) = info.cursor() {
            if !self.cursors.insert(cursor.to_owned()) {
                return Err(Doubt::Wrong("a page leads back to an earlier one".to_owned()));
            }
            return Ok(Some(Position::After(cursor.to_owned())));
        }
        let read = self.all.len();
        let number = match position {
            Position::Page(number) if info.cursors.is_none() => *number,
            // The last page of a list with cursors has no cursor.
            _ => return self.ended(),
        };
        let is_last = match (self.total, info.total_pages) {
            (Some(total), _) if read >= total => true,
            (_, Some(pages)) => number >= pages,
            (Some(_), None) => false,
            (None, None) => {
                let why = "the answer does not say how many entries there are (neither total_count nor total_pages)";
                return Err(Doubt::Wrong(why.to_owned()));
            }
        };
        match is_last {
            true => self.ended(),
            false if came == 0 => Err(Doubt::Changed(format!("page {number} is empty but not the last"))),
            false => Ok(Some(Position::Page(number + 1))),
        }
    }

    fn ended(&self) -> Result<Option<Position>, Doubt> {
        match self.total {
            Some(total) if total != self.all.len() => {
                Err(Doubt::Changed(format!("{total} entries announced, {} read", self.all.len())))
            }
            _ => Ok(None),
        }
    }

    /// The number of entries read so far.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All entries read.
    pub(super) fn into_all(self) -> Vec<Value> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(ids: &[u32]) -> Vec<Value> {
        ids.iter().map(|id| json!({ "id": id.to_string() })).collect()
    }

    /// Walks through pages with this information until the walk ends.
    fn walk(pages: &[(&[u32], Value)]) -> Result<usize, Doubt> {
        let (mut walk, mut position) = (Walk::default(), Position::Page(1));
        for (ids, info) in pages {
            let info = serde_json::from_value(info.clone()).unwrap();
            match walk.take(&position, page(ids), info)? {
                Some(next) => position = next,
                None => return Ok(walk.len()),
            }
        }
        panic!("it goes on at {position:?}")
    }

    #[test]
    fn a_list_ends_where_the_api_says() {
        let of = |page: usize, count: usize| json!({"page": page, "per_page": 2, "count": count, "total_count": 3, "total_pages": 2});
        assert_eq!(walk(&[(&[1, 2], of(1, 2)), (&[3], of(2, 1))]), Ok(3));
        // A page with fewer entries than requested is not the last one.
        let short = |page: usize| json!({"page": page, "total_pages": 3});
        assert_eq!(walk(&[(&[1, 2], short(1)), (&[3], short(2)), (&[4], short(3))]), Ok(4));
        assert_eq!(walk(&[(&[1], json!({"total_count": 2})), (&[2], json!({"total_count": 2}))]), Ok(2));
        assert_eq!(walk(&[(&[], json!({"total_count": 0, "total_pages": 0}))]), Ok(0));
        let cursor = |after: &str| json!({"count": 1, "cursors": {"after": after}});
        assert_eq!(walk(&[(&[1], cursor("b")), (&[2], cursor("c")), (&[3], cursor(""))]), Ok(3));
    }

    #[test]
    fn what_does_not_say_its_end_or_does_not_fit_is_no_list() {
        let wrong = |pages: &[(&[u32], Value)], says: &str| match walk(pages) {
            Err(Doubt::Wrong(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}"),
        };
        wrong(&[(&[1], Value::Null)], "no result_info");
        wrong(&[(&[1], json!({"page": 1, "per_page": 100}))], "neither total_count nor total_pages");
        wrong(&[(&[1], json!({"count": 2, "total_count": 1}))], "announces 2 entries");
        wrong(&[(&[1], json!({"page": 2, "total_count": 1}))], "page 1 was requested");
        let again = json!({"cursors": {"after": "b"}});
        wrong(&[(&[1], again.clone()), (&[2], again)], "leads back");

        let changed = |pages: &[(&[u32], Value)], says: &str| match walk(pages) {
            Err(Doubt::Changed(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}"),
        };
        let of_two = json!({"total_count": 4, "total_pages": 2});
        changed(&[(&[1, 2], of_two.clone()), (&[1, 2], of_two.clone())], "a page came twice");
        changed(&[(&[1, 2], of_two.clone()), (&[2, 3], of_two.clone())], "2 came twice");
        changed(&[(&[1, 2], of_two.clone()), (&[3], of_two.clone())], "4 entries announced, 3 read");
        changed(&[(&[1, 2], of_two), (&[3], json!({"total_count": 3}))], "4 entries at first, 3");
        changed(&[(&[], json!({"total_count": 1}))], "is empty");
        changed(&[(&[1], json!({"total_pages": 3})), (&[], json!({"total_pages": 3}))], "page 2 is empty");
        changed(&[(&[1], json!({"total_count": 2, "cursors": {"after": null}}))], "2 entries announced");
    }
}

//! Canonical Extended JSON, as mongodump writes it.

use lifeboat_testkit::documents::{Doc, odd};
use proptest::prelude::*;

use super::super::{Metadata, from_extended_json, to_extended_json};
use super::fixtures::{plain, raw};

#[test]
fn every_value_that_extended_json_can_express_comes_back_as_the_same_bytes() {
    let mut lost = Vec::new();
    for (what, document) in odd() {
        match to_extended_json(&document) {
            Ok(text) => match from_extended_json(&text) {
                Ok(back) if back.as_bytes() == document => {}
                _ => lost.push(what),
            },
            Err(_) => lost.push(what),
        }
    }
    // The format has one NaN, numbers the elements of arrays, and knows only canonical decimals; a field that looks like a
    // wrapped value is one.
    assert_eq!(
        lost,
        [
            "quiet NaN",
            "NaN with payload",
            "signalling negative NaN",
            "text that is not UTF-8",
            "array with odd names",
            "decimal NaN with payload",
            "decimal negative signalling NaN",
            "decimal that is not canonical",
            "fields that look like Extended JSON",
        ]
    );
}

#[test]
fn options_that_extended_json_cannot_express_are_not_written() {
    let mut metadata = plain("c");
    metadata.options = Some(raw(Doc::new().raw(0x01, "x", &0x7ff8_dead_beef_0001u64.to_le_bytes())));
    let error = metadata.to_json().unwrap_err();
    assert_eq!(error.kind(), lifeboat_core::ErrorKind::Unsupported);
    assert!(error.to_string().contains("the options of the collection c"), "{error}");
}

#[test]
fn the_keys_are_in_mongodumps_order_and_those_of_indexes_in_theirs() {
    let mut metadata = plain("c");
    metadata.options = Some(raw(Doc::new().bool("capped", true)));
    metadata.indexes.push(raw(Doc::new().doc("key", Doc::new().int32("z", 1).double("a", -1.0)).text("name", "z_a")));
    let text = metadata.to_json().unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"options":{"capped":true},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},"#,
            r#"{"key":{"z":{"$numberInt":"1"},"a":{"$numberDouble":"-1.0"}},"name":"z_a"}],"#,
            r#""uuid":"0123456789abcdef0123456789abcdef","collectionName":"c","type":"collection"}"#
        )
    );
    assert_eq!(Metadata::parse(&text).unwrap(), metadata);
}

#[test]
fn doubles_have_the_digits_that_go_gives_them() {
    for (number, text) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-1.0, "-1.0"),
        (0.1, "0.1"),
        (100_000.0, "100000.0"),
        (1_000_000.0, "1E+06"),
        (1_234_567.0, "1.234567E+06"),
        (999_999.5, "999999.5"),
        (0.0001, "0.0001"),
        (0.000_01, "1E-05"),
        (1.5e300, "1.5E+300"),
        (5e-324, "5E-324"),
        (f64::MAX, "1.7976931348623157E+308"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
        (f64::NAN, "NaN"),
    ] {
        let json = to_extended_json(&Doc::new().double("d", number).build()).unwrap();
        assert_eq!(json, format!(r#"{{"d":{{"$numberDouble":"{text}"}}}}"#));
    }
}

#[test]
fn the_relaxed_forms_of_old_tools_are_read() {
    let old = r#" { "options" : { "capped" : true, "size" : 4096, "max" : 5000000000, "f" : 1.5, "n" : null,
        "t" : { "$date" : 7 }, "u" : { "$date" : "1970-01-01T00:00:00.007Z" }, "b" : { "$binary" : "AQ==", "$type" : "00" } },
        "indexes" : [ { "v" : 2, "key" : { "_id" : 1 }, "name" : "_id_", "ns" : "db.c" } ], "future" : [ { "a" : [ 1, "x" ] } ] } "#;
    let metadata = Metadata::parse(old).unwrap();
    let options = Doc::new()
        .bool("capped", true)
        .int32("size", 4096)
        .int64("max", 5_000_000_000)
        .double("f", 1.5)
        .raw(0x0a, "n", &[])
        .raw(0x09, "t", &7i64.to_le_bytes())
        .raw(0x09, "u", &7i64.to_le_bytes())
        .raw(0x05, "b", &[1, 0, 0, 0, 0, 1]);
    assert_eq!(metadata.options, Some(raw(options)));
    let key = Doc::new().int32("_id", 1);
    assert_eq!(
        metadata.indexes,
        [raw(Doc::new().int32("v", 2).doc("key", key).text("name", "_id_").text("ns", "db.c"))]
    );
    assert_eq!(metadata.kind, "");
}

#[test]
fn operators_of_queries_are_fields_and_not_values() {
    for text in [
        r#"{"validator":{"name":{"$regex":"^a","$options":"i"}}}"#,
        r#"{"partialFilterExpression":{"a":{"$exists":true},"b":{"$gt":{"$numberInt":"5"}}}}"#,
        r#"{"validator":{"$jsonSchema":{"bsonType":"object"},"$expr":{"$type":"$a"}}}"#,
    ] {
        let document = from_extended_json(text).unwrap();
        assert_eq!(to_extended_json(document.as_bytes()).unwrap(), text);
    }
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, what) in [
        ("", "a document was expected"),
        ("[]", "a document was expected"),
        ("{", "'\"' is missing"),
        (r#"{"a" 1}"#, "':' is missing"),
        (r#"{"a":1"#, "'}' is missing"),
        (r#"{"a":}"#, "a value was expected"),
        (r#"{"a":1}x"#, "there is more after the end"),
        (r#"{"a":"x}"#, "a text has no end"),
        ("{\"a\":\"\n\"}", "a control character in a text"),
        (r#"{"a":"\x"}"#, "an escape that JSON does not have"),
        (r#"{"a":"\ud800x"}"#, "half a character"),
        (r#"{"a\u0000":1}"#, "a field's name holds a NUL"),
        (r#"{"a":{"$numberInt":"x"}}"#, "no 32-bit number"),
        (r#"{"a":{"$oid":"12"}}"#, "no object id"),
        (r#"{"a":{"$binary":{"base64":"*","subType":"00"}}}"#, "no binary data"),
    ] {
        let said = from_extended_json(text).unwrap_err();
        assert!(
            said.starts_with("invalid JSON input: ") && said.contains(what) && said.contains("at byte "),
            "{text}: {said}"
        );
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for (open, close) in [("{\"a\":", "}"), ("{\"a\":[", "]}"), (r#"{"a":{"$code":"","$scope":"#, "}}")] {
        let text = format!("{}{{}}{}", open.repeat(5000), close.repeat(5000));
        assert!(from_extended_json(&text).unwrap_err().contains("nested too deeply"));
        assert!(Metadata::parse(&format!("{{\"x\":{text}}}")).unwrap_err().contains("nested too deeply"));
    }
}

#[test]
fn text_that_makes_a_document_of_more_than_16_mib_is_refused() {
    let text = format!("{{\"a\":[{}0]}}", "0,".repeat(3 << 20));
    assert!(from_extended_json(&text).unwrap_err().contains("more than 16 MiB"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}\":,$a-z0-9 \\\\.eE+-]{0,64}") {
        let _ = from_extended_json(&text);
        let _ = Metadata::parse(&text);
    }

    #[test]
    fn any_text_within_a_document_is_kept(name in "[^\0]{0,20}", value in ".{0,40}") {
        let document = Doc::new().text(&name, &value).build();
        let wrapped = Doc::new().doc("d", Doc::new().int32("first", 1).text(&name, &value)).build();
        for document in [document, wrapped] {
            let text = to_extended_json(&document).unwrap();
            let back = from_extended_json(&text).unwrap();
            prop_assert_eq!(back.as_bytes(), &document[..]);
        }
    }
}

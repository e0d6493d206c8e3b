use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rr(value: Value) -> Rr {
    let record = Record::read(value).unwrap();
    Rr::of(&record).unwrap_or_else(|e| panic!("{e}: {record:?}"))
}

/// Each type with the data of its RFC's example, or a common one, and the same as text.
fn examples() -> Vec<(Value, &'static str)> {
    let record =
        |kind: &str, content: &str| json!({"type": kind, "name": "x.example.org", "content": content, "ttl": 300});
    let with = |kind: &str, data: Value| json!({"type": kind, "name": "x.example.org", "content": "", "data": data});
    let mut mx = record("MX", "mail.example.org");
    mx["priority"] = 10.into();
    let mut uri = with("URI", json!({"weight": 1, "target": "ftp://ftp1.example.com/public"}));
    uri["priority"] = 10.into();
    vec![
        (record("A", "192.0.2.1"), "192.0.2.1"),
        (record("AAAA", "2001:DB8::1"), "2001:db8:0:0:0:0:0:1"),
        (record("CNAME", "Target.example.com"), "target.example.com."),
        (record("NS", "ns.example.com"), "ns.example.com."),
        (record("PTR", "host.example.com"), "host.example.com."),
        (mx, "10 mail.example.org."),
        (record("TXT", "\"v=spf1 -all\""), "\"v=spf1 -all\""),
        (with("CAA", json!({"flags": 0, "tag": "issue", "value": "letsencrypt.org"})), "0 issue \"letsencrypt.org\""),
        (
            with("CERT", json!({"type": 1, "key_tag": 7, "algorithm": 8, "certificate": "aGVs bG8="})),
            "PKIX 7 8 aGVsbG8=",
        ),
        (
            with("DNSKEY", json!({"flags": 257, "protocol": 3, "algorithm": 13, "public_key": "aGVsbG8="})),
            "257 3 13 aGVs bG8=",
        ),
        (
            with(
                "DS",
                json!({"key_tag": 60485, "algorithm": 5, "digest_type": 1,
            "digest": "2BB183AF5F22588179A53B0A98631FAD1A292118"}),
            ),
            "60485 5 1 2bb183af5f22588179a53b0a 98631fad1a292118",
        ),
        (
            with("HTTPS", json!({"priority": 1, "target": ".", "value": "alpn=\"h3,h2\" ipv4hint=\"192.0.2.1\""})),
            "1 . alpn=h3,h2 ipv4hint=192.0.2.1",
        ),
        (
            with("SVCB", json!({"priority": 2, "target": "svc.example.net", "value": "port=\"8443\""})),
            "2 svc.example.net. port=8443",
        ),
        (
            with(
                "LOC",
                json!({"lat_degrees": 42, "lat_minutes": 21, "lat_seconds": 54, "lat_direction": "N",
            "long_degrees": 71, "long_minutes": 6, "long_seconds": 18, "long_direction": "W", "altitude": -24,
            "size": 30, "precision_horz": 10000, "precision_vert": 10}),
            ),
            "42 21 54 N 71 06 18 W -24m 30m",
        ),
        (
            with(
                "NAPTR",
                json!({"order": 100, "preference": 50, "flags": "s", "service": "z3950+I2L+I2C", "regex": "",
            "replacement": "_z3950._tcp.example.com"}),
            ),
            "100 50 \"s\" \"z3950+I2L+I2C\" \"\" _z3950._tcp.example.com.",
        ),
        (record("OPENPGPKEY", "aGVsbG8="), "aGVs bG8="),
        (with("SMIMEA", json!({"usage": 3, "selector": 1, "matching_type": 1, "certificate": "AB cd"})), "3 1 1 abcd"),
        (with("TLSA", json!({"usage": 3, "selector": 1, "matching_type": 1, "certificate": "abcd"})), "3 1 1 ABCD"),
        (
            with("SRV", json!({"priority": 10, "weight": 5, "port": 5060, "target": "sip.example.org"})),
            "10 5 5060 sip.example.org.",
        ),
        (with("SSHFP", json!({"algorithm": 4, "type": 2, "fingerprint": "ABCDEF01"})), "4 2 abcdef01"),
        (uri, "10 1 \"ftp://ftp1.example.com/public\""),
    ]
}

#[test]
fn every_type_of_cloudflare_has_one_form_on_the_wire() {
    let mut kinds = Vec::new();
    for (record, text) in examples() {
        let kind = record["type"].as_str().unwrap().to_owned();
        let from_text = Rr::new("X.example.org.", &kind, text).unwrap_or_else(|e| panic!("{kind} {text}: {e}"));
        assert_eq!(rr(record), from_text, "{kind}");
        assert!(!from_text.data.is_empty());
        kinds.push(kind);
    }
    let documented =
        "A AAAA CAA CERT CNAME DNSKEY DS HTTPS LOC MX NAPTR NS OPENPGPKEY PTR SMIMEA SRV SSHFP SVCB TLSA TXT URI";
    kinds.sort();
    assert_eq!(kinds.join(" "), documented);
}

#[test]
fn content_alone_is_enough_where_there_are_no_data() {
    let same = |content: Value, kind: &str, text: &str| {
        let mut record = content;
        record["type"] = kind.into();
        record["name"] = "x.example.org".into();
        assert_eq!(rr(record), Rr::new("x.example.org", kind, text).unwrap());
    };
    same(json!({"content": "5\t5060\tsip.example.org", "priority": 10}), "SRV", "10 5 5060 sip.example.org.");
    same(json!({"content": "1 \"https://example.org/\"", "priority": 10}), "URI", "10 1 \"https://example.org/\"");
    same(json!({"content": "0 issue \"le.example\""}), "CAA", "0 issue \"le.example\"");
    same(json!({"content": "1 . alpn=\"h2\""}), "HTTPS", "1 . alpn=h2");
    same(json!({"content": "0 svc.example.net"}), "SVCB", "0 svc.example.net.");
}

#[test]
fn a_location_is_encoded_as_its_rfc_says() {
    // RFC 1876: 2^31 is the equator and the meridian; 30 m is 3 * 10^3 cm.
    let wire = wire("LOC", "42 21 54 N 71 06 18 W -24m 30m").unwrap();
    let north: u32 = (1 << 31) + 152_514_000;
    let west: u32 = (1 << 31) - 255_978_000;
    let mut expected = vec![0, 0x33, 0x16, 0x13];
    expected.extend(north.to_be_bytes());
    expected.extend(west.to_be_bytes());
    expected.extend((10_000_000u32 - 2400).to_be_bytes());
    assert_eq!(wire, expected);
    for wrong in ["", "91 N 0 E 0m", "1 1 60 N 0 E 0m", "1 N 181 E 0m", "1 N 1 E", "N E 0m", "1 N 1 E 0m 1m 1m 1m 1m"] {
        assert!(super::wire("LOC", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn long_text_is_cut_and_joined() {
    let long = "ü".repeat(200);
    let record = json!({"type": "TXT", "name": "t.example.org", "content": format!("\"{long}\"")});
    let text = presentation(&Record::read(record.clone()).unwrap()).unwrap();
    assert_eq!(tokens_of(&text), 2);
    assert_eq!(rr(record).data, long.as_bytes());
    let split = json!({"type": "TXT", "name": "t.example.org", "content": format!("\"{}\" \"{}\"", "ü".repeat(50), "ü".repeat(150))});
    assert_eq!(rr(split).data, long.as_bytes(), "where it is cut means nothing");
    let bare = json!({"type": "TXT", "name": "t.example.org", "content": "say \"hi\"; \\o/"});
    assert_eq!(rr(bare).data, b"say \"hi\"; \\o/");
}

fn tokens_of(text: &str) -> usize {
    text::tokens(text).unwrap().len()
}

#[test]
fn master_files_are_read_as_the_rfc_says() {
    let text = "$TTL 1h\n$ORIGIN example.org.\n@ IN SOA ns.example.net. dns (\n 1 ; serial\n 2 3 4 5 )\n\
        www 300 IN A 192.0.2.1 ; a comment\n  A 192.0.2.2\nmail IN 60 MX 10 @\nt TXT \"a;b\" \"c\\\"d\"\n\
        $ORIGIN sub\nx CNAME y\n";
    let entries = read_file(text, "").unwrap();
    let short: Vec<(usize, &str, Option<u64>, &str, &str)> =
        entries.iter().map(|e| (e.line, e.name.as_str(), e.ttl, e.kind.as_str(), e.data.as_str())).collect();
    assert_eq!(
        short,
        [
            (3, "example.org", Some(3600), "SOA", "ns.example.net. dns.example.org. 1 2 3 4 5"),
            (6, "www.example.org", Some(300), "A", "192.0.2.1"),
            (7, "www.example.org", Some(3600), "A", "192.0.2.2"),
            (8, "mail.example.org", Some(60), "MX", "10 example.org."),
            (9, "t.example.org", Some(3600), "TXT", "\"a;b\" \"c\\\"d\""),
            (11, "x.sub.example.org", Some(3600), "CNAME", "y.sub.example.org."),
        ]
    );
    for (wrong, line) in [
        ("a 1 IN A 1\nb (", "line 2"),
        ("a \"", "line 1"),
        ("$FOO x", "line 1"),
        ("a 300", "line 1"),
        (" A 1", "line 1"),
    ] {
        let error = read_file(wrong, "example.org").unwrap_err();
        assert!(error.starts_with(line), "{wrong}: {error}");
    }
}

#[test]
fn names_are_compared_in_their_ascii_form() {
    assert!(same("BÜCHER.example.", "xn--bcher-kva.example"));
    assert_eq!(lower("*._Tcp.Example.ORG."), "*._tcp.example.org");
    assert_eq!(absolute("*.bücher.example"), "*.xn--bcher-kva.example.");
    assert_eq!(absolute("."), ".");
    assert_eq!(absolute("a b;c.example"), "a\\032b\\;c.example.");
    assert!(is_within("a.example.org", "example.org") && !is_within("badexample.org", "example.org"));
}

proptest! {
    #[test]
    fn every_string_survives_quotes(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        let cut: Vec<String> = bytes.chunks(255).map(quoted).collect();
        prop_assert_eq!(joined(&wire("TXT", &cut.join(" ")).unwrap()), bytes.clone());
        prop_assert_eq!(txt_strings(&cut.join(" ")).concat(), bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", kind in prop::sample::select(vec!["A", "TXT", "SRV", "LOC", "URI", "CERT", "HTTPS", "NAPTR", "CAA"])) {
        let _ = Rr::new("x", kind, &text);
        let _ = read_file(&text, "example.org");
        let _ = txt_strings(&text);
        let _ = ascii(&text);
        let _ = absolute(&text);
    }
}

//! The zone as BIND text, as the API exports it.

use serde_json::Value;

use super::Zone;

pub(super) fn bind(zone: &Zone, now: &str) -> String {
    let apex = format!("{}.", zone.name);
    let mut text = format!(
        ";;\n;; Domain:     {apex}\n;; Exported:   {now}\n;;\n;; This file is intended for use for informational and archival\n\
         ;; purposes ONLY and MUST be edited before use on a production\n;; DNS server.\n;;\n\
         ;; SOA Record\n{apex}\t3600\tIN\tSOA\tada.ns.cloudflare.com. dns.cloudflare.com. 2050123456 10000 2400 604800 3600\n\n\
         ;; NS Records\n{apex}\t86400\tIN\tNS\tada.ns.cloudflare.com.\n{apex}\t86400\tIN\tNS\tbob.ns.cloudflare.com.\n"
    );
    let mut records: Vec<&Value> = zone.records.iter().collect();
    records.sort_by_key(|r| (r["type"].to_string(), r["name"].to_string(), r["content"].to_string()));
    let mut section = "";
    for record in records {
        let kind = record["type"].as_str().unwrap();
        if kind != section {
            section = kind;
            text += &format!("\n;; {kind} Records\n");
        }
        text += &format!("{}.\t{}\tIN\t{kind}\t{}", record["name"].as_str().unwrap(), record["ttl"], data(record));
        let mut notes = Vec::new();
        if let Some(comment) = record["comment"].as_str() {
            notes.push(comment.to_owned());
        }
        let mut tags: Vec<String> =
            record["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        if record["proxiable"] == true {
            tags.push(format!("cf-proxied:{}", record["proxied"]));
        }
        if !tags.is_empty() {
            notes.push(format!("cf_tags={}", tags.join(",")));
        }
        if !notes.is_empty() {
            text += &format!(" ; {}", notes.join(" "));
        }
        text.push('\n');
    }
    text
}

fn data(record: &Value) -> String {
    let content = record["content"].as_str().unwrap();
    let dotted = |name: &str| if name == "." { name.to_owned() } else { format!("{}.", name.trim_end_matches('.')) };
    match record["type"].as_str().unwrap() {
        "CNAME" | "NS" | "PTR" => dotted(content),
        "MX" => format!("{} {}", record["priority"], dotted(content)),
        "URI" => format!("{} {content}", record["priority"]),
        "SRV" => {
            let (rest, target) = content.rsplit_once(' ').unwrap();
            format!("{} {rest} {}", record["priority"], dotted(target))
        }
        "NAPTR" => {
            let (rest, target) = content.rsplit_once(' ').unwrap();
            format!("{rest} {}", dotted(target))
        }
        "HTTPS" | "SVCB" => {
            let mut parts = content.splitn(3, ' ');
            let (priority, target) = (parts.next().unwrap(), parts.next().unwrap());
            format!("{priority} {} {}", dotted(target), parts.next().unwrap_or_default()).trim_end().to_owned()
        }
        // What is not ASCII, and content without quotes, is written so that it reads back.
        "TXT" => text(content),
        _ => content.to_owned(),
    }
}

fn text(content: &str) -> String {
    let mut out = String::new();
    let escape = |c: char| {
        let mut bytes = [0; 4];
        c.encode_utf8(&mut bytes).bytes().map(|b| format!("\\{b:03}")).collect::<String>()
    };
    if content.starts_with('"') {
        for c in content.chars() {
            if c.is_ascii() { out.push(c) } else { out += &escape(c) }
        }
        return out;
    }
    for part in content.as_bytes().chunks(255) {
        out += if out.is_empty() { "\"" } else { " \"" };
        for &byte in part {
            match byte {
                b'"' | b'\\' => out += &format!("\\{}", char::from(byte)),
                0x20..=0x7e => out.push(char::from(byte)),
                _ => out += &format!("\\{byte:03}"),
            }
        }
        out.push('"');
    }
    out
}

//! What programs elsewhere build on can grow without breaking them.

use std::path::Path;

/// The crates with types that others construct and match.
const CRATES: [&str; 5] = ["core", "sinks", "config", "conformance", "cli"];
/// What will not grow: it has no variant at all.
const COMPLETE: [&str; 1] = ["NoVerbs"];

/// Public structs with public fields and public enums of a file, without `#[non_exhaustive]`.
fn rigid(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((kind, rest)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(' ')) else { continue };
        let is_struct = kind == "struct" && line.ends_with('{');
        if kind != "enum" && !is_struct {
            continue;
        }
        let before = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        let is_open = before.into_iter().any(|line| line.contains("non_exhaustive"));
        let body = lines[at + 1..].iter().take_while(|line| **line != "}");
        let shows = kind == "enum" || body.into_iter().any(|line| line.starts_with("    pub ") && line.contains(':'));
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if shows && !is_open && !COMPLETE.contains(&name) {
            found.push(name.to_owned());
        }
    }
    found
}

fn look(folder: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, found, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *files += 1;
            let rigid = rigid(&std::fs::read_to_string(&path).unwrap());
            found.extend(rigid.into_iter().map(|name| format!("{}: {name}", path.display())));
        }
    }
}

#[test]
fn what_is_public_can_grow() {
    let (mut found, mut files) = (Vec::new(), 0);
    for name in CRATES {
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"), &mut found, &mut files);
    }
    assert!(files > 100, "only {files} files were looked at");
    assert_eq!(rigid("pub struct A {\n    pub b: u8,\n}\npub enum C {\n    D,\n}\n"), ["A", "C"]);
    assert!(found.is_empty(), "not #[non_exhaustive]:\n{}", found.join("\n"));
}

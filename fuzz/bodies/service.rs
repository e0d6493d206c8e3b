//! Any bytes in a service file are read or refused, and a password in it is in no error.

use secrecy::SecretString;

const PASSWORD: &str = "Tr0ub4dor";

pub fn run(input: &[u8]) {
    let folder = std::env::temp_dir().join(format!("lifeboat-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
    let file = folder.join("pg_service.conf");
    let text = [b"[a]\npassword=", PASSWORD.as_bytes(), b"\n", input].concat();
    std::fs::write(&file, text).expect("a temporary file can be written");
    let url = format!("postgres://?service=a&servicefile={}", file.display());
    let read = lifeboat_backends::postgres::Connection::parse(&SecretString::from(url));
    let said = read.map_or_else(|error| format!("{error}{error:?}"), |connection| connection.redacted());
    assert!(!said.contains(PASSWORD), "{said}");
    let _ = std::fs::remove_dir_all(folder);
}

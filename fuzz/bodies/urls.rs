//! Any text as the URL of a sink or a server is read or refused, and its password is in no error.

use lifeboat_sinks::{Environment, Settings};
use secrecy::SecretString;

const PASSWORD: &str = "Tr0ub4dor";

fn tells_no_password(url: &str, read: lifeboat_core::Result<()>) {
    let Err(error) = read else { return };
    let mut said = format!("{error:?}");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        said += &error.to_string();
        cause = error.source();
    }
    assert!(!said.contains(PASSWORD), "{url}: {said}");
}

// The rest of a URL after its password.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Where no @ ends it, it is a port, or a part of a name.
    let is_password = text.find('@').is_some_and(|end| !text[..end].contains(['/', '?', '#', '\\']));
    let tells_nothing = |url: &str, read: lifeboat_core::Result<()>| {
        if is_password {
            tells_no_password(url, read);
        }
    };
    let settings = Settings::default().environment(Environment::empty());
    for scheme in ["file", "s3", "minio", "b2"] {
        let url = format!("{scheme}://user:{PASSWORD}{text}");
        tells_nothing(&url, lifeboat_sinks::open_with(&url, &settings).map(drop));
        // Without credentials most are read.
        let _ = lifeboat_sinks::open_with(&format!("{scheme}://{text}"), &settings);
    }
    let _ = lifeboat_sinks::open_with(text, &settings);
    for scheme in ["postgres", "postgresql"] {
        let url = format!("{scheme}://user:{PASSWORD}{text}");
        let read = lifeboat_backends::postgres::Connection::parse(&SecretString::from(url.clone()));
        if let Ok(connection) = &read {
            assert!(!is_password || !connection.redacted().contains(PASSWORD), "{url}");
        }
        tells_nothing(&url, read.map(drop));
    }
    let url = format!("mongodb://user:{PASSWORD}{text}");
    tells_nothing(&url, lifeboat_backends::mongodb::Connection::parse(&SecretString::from(url.clone())).map(drop));
}

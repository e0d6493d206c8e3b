//! Limits from the config and from flags reach what runs; and what the log says stays free of spans.

use std::time::{Duration, Instant};

use super::hooks::Hooked;

/// How long a run takes, which must be good.
fn time(hooked: &Hooked, arguments: &[&str]) -> Duration {
    let begun = Instant::now();
    hooked.run(0, arguments);
    begun.elapsed()
}

#[test]
fn limits_of_the_config_and_of_flags_are_kept() {
    let limits =
        "compress = \"none\"\nupload_limit = \"100kB/s\"\ndownload_limit = \"200kB/s\"\nmemory_limit = \"1MiB\"";
    let hooked = Hooked::with("head -c 150000 /dev/urandom", limits);
    assert!(time(&hooked, &["backup"]) > Duration::from_millis(1300));
    assert!(time(&hooked, &["verify"]) > Duration::from_millis(600));
    assert!(
        time(&hooked, &["backup", "--upload-limit", "1GB/s", "--source-limit", "300kB/s"]) > Duration::from_millis(400)
    );
    let (_, err) = hooked.run(2, &["backup", "--upload-limit", "20Mbit/s"]);
    assert!(err.contains("cannot use --upload-limit \"20Mbit/s\": \"Mbit\" is not a unit of bytes"), "{err}");
}

#[test]
fn the_log_says_what_it_said_before_there_were_spans() {
    let hooked = Hooked::with("echo remember", "thread_limit = 1");
    let (_, err) = hooked.run(0, &["backup", "-vv"]);
    assert!(err.contains("DEBUG lifeboat_backends::command"), "{err}");
    for span in ["backup{", "stage{", "put{"] {
        assert!(!err.contains(span), "{err}");
    }
}

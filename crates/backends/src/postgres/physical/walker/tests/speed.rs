//! How fast it is.

use super::*;

/// The processor's time that this thread has had, in seconds: on a busy machine the clock measures the others.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn speed() {
    // As pgbench writes: records of some 100 bytes, a commit after every fifth. And pages' images.
    for (what, size) in [("small records", 80), ("pages", 8_100)] {
        let mut log = Log::new();
        while log.bytes.len() < 64 << 20 {
            for _ in 0..5 {
                log.filler(size);
            }
            log.short(1, 0, 801, &[0; 8]);
        }
        for piece in [128 << 10, 8 << 10] {
            let begun = processor();
            let walked = walk(log.walker(), log.bytes.chunks(piece));
            let took = processor() - begun;
            assert_eq!(walked.end, None);
            let (bytes, records) = (log.bytes.len() as f64, walked.records as f64);
            println!("{what}, {piece} B: {:.2} GB/s, {:.1} M records/s", bytes / took / 1e9, records / took / 1e6);
        }
    }
}

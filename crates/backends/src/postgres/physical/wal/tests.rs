use proptest::prelude::*;

use super::*;

fn timeline(number: u32) -> Timeline {
    Timeline::new(number).unwrap()
}

fn sizes() -> impl Strategy<Value = SegmentSize> {
    (20..=30u32).prop_map(|power| SegmentSize::new(1 << power).unwrap())
}

fn timelines() -> impl Strategy<Value = Timeline> {
    (1..=u32::MAX).prop_map(timeline)
}

/// Branches of up to six timelines whose numbers have gaps.
fn histories() -> impl Strategy<Value = TimelineHistory> {
    prop::collection::vec((1..5u32, 0..50u64), 0..6).prop_map(|steps| {
        let (mut number, mut end, mut lines) = (0, 0, String::from("# a comment\n\n"));
        for (up, bytes) in steps {
            (number, end) = (number + up, end + bytes);
            lines += &format!("{number}\t{}\tbefore transaction {end}\n", Lsn(end));
        }
        match number {
            0 => TimelineHistory::root(Timeline::FIRST),
            number => TimelineHistory::parse(timeline(number + 2), lines.as_bytes()).unwrap(),
        }
    })
}

#[test]
fn positions_are_read_as_the_server_writes_them() {
    for (text, lsn) in [("0/0", 0), ("1/72000188", 0x1_7200_0188), ("FFFFFFFF/FFFFFFFF", u64::MAX)] {
        assert_eq!(text.parse(), Ok(Lsn(lsn)));
        assert_eq!(Lsn(lsn).to_string(), text);
    }
    // PostgreSQL 19 pads it; people write it small.
    assert_eq!("a/000000bc".parse(), Ok(Lsn(0xA_0000_00BC)));
    for wrong in
        ["", "/", "0", "0/", "/0", "0/0/0", "123456789/0", "0/123456789", "+1/0", "0/-1", " 0/0", "0x1/0", "g/0"]
    {
        assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
    }
    assert_eq!(
        "here".parse::<Lsn>().unwrap_err().to_string(),
        "\"here\" is not a position in the log: expected two hexadecimal numbers such as 1/72000188"
    );
}

#[test]
fn sizes_are_powers_of_two_with_a_unit() {
    for (text, bytes) in [("1MB", 1 << 20), ("16MB", 16 << 20), ("512MB", 512 << 20), ("1GB", 1 << 30)] {
        let size: SegmentSize = text.parse().unwrap();
        assert_eq!((size.bytes(), size.to_string()), (bytes, text.to_owned()));
    }
    assert_eq!("16384kB".parse(), Ok(SegmentSize::DEFAULT));
    assert_eq!("16777216B".parse(), Ok(SegmentSize::DEFAULT));
    for wrong in
        ["", "MB", "16", "16 MB", "16mb", "3MB", "512kB", "2GB", "-16MB", "+16MB", "18446744073709551615GB", "0MB"]
    {
        assert!(wrong.parse::<SegmentSize>().is_err(), "{wrong}");
    }
}

#[test]
fn the_files_of_a_log_are_told_apart() {
    let segment: SegmentName = "000000010000000100000072".parse().unwrap();
    for (text, file) in [
        ("000000010000000100000072", WalFile::Segment(segment)),
        ("000000010000000100000072.partial", WalFile::Partial(segment)),
        ("000000010000000100000072.00000028.backup", WalFile::BackupHistory { segment, offset: 0x28 }),
        ("0000000A.history", WalFile::History(timeline(10))),
    ] {
        assert_eq!(text.parse(), Ok(file));
        assert_eq!(file.to_string(), text);
    }
    for wrong in [
        "",
        ".history",
        "00000000.history",
        "0000000a.history",
        "00000002.history.tmp",
        "000000000000000100000072",
        "00000001000000010000007",
        "0000000100000001000000721",
        "00000001000000010000007é",
        "000000010000000100000072.",
        "000000010000000100000072.partial.partial",
        "000000010000000100000072.28.backup",
        "000000010000000100000072.00000028.backup.zst",
        "RECOVERYXLOG",
        "archive_status",
    ] {
        assert!(wrong.parse::<WalFile>().is_err(), "{wrong}");
    }
}

#[test]
fn a_name_means_nothing_in_segments_of_another_size() {
    let name: SegmentName = "0000000100000001000000FF".parse().unwrap();
    assert_eq!(name.start(SegmentSize::DEFAULT), Some(Lsn(0x1_FF00_0000)));
    assert_eq!(name.next(SegmentSize::DEFAULT).unwrap().to_string(), "000000010000000200000000");
    let large: SegmentSize = "64MB".parse().unwrap();
    assert_eq!((name.start(large), name.next(large)), (None, None));
    let last: SegmentName = "00000001FFFFFFFF000000FF".parse().unwrap();
    assert_eq!(last.next(SegmentSize::DEFAULT), None);
}

#[test]
fn a_history_file_of_a_server_is_read() {
    let content =
        b"1\t0/3000148\tno recovery target specified\n\n# by hand\n2\t0/5000060\tat restore point \"a\xff b\"\n\n";
    let history = TimelineHistory::parse(timeline(4), content).unwrap();
    assert_eq!(history.timelines().map(Timeline::number).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(history.ancestors()[0].reason, "no recovery target specified");
    assert_eq!(history.parent().unwrap().reason, "at restore point \"a\u{fffd} b\"");
    assert_eq!(history.next_after(timeline(2)), Some(timeline(4)));
    assert_eq!((history.next_after(timeline(4)), history.next_after(timeline(3))), (None, None));
    assert_eq!(history.range(timeline(2)), Some(Lsn(0x300_0148)..Lsn(0x500_0060)));
    // What the first timeline wrote after it was left is on no branch.
    assert!(history.includes(timeline(1), Lsn(0x300_0148)) && !history.includes(timeline(1), Lsn(0x300_0149)));
    assert!(!history.includes(timeline(3), Lsn(1)));
    // No reason, spaces, and no end of the last line.
    let short = TimelineHistory::parse(timeline(2), b"  1   0/28").unwrap();
    assert_eq!(short.ancestors(), [Ancestor { timeline: timeline(1), end: Lsn(0x28), reason: String::new() }]);
}

#[test]
fn what_is_wrong_with_a_history_file_is_said_with_its_line() {
    for (content, broken) in [
        ("", BrokenHistory::Empty),
        ("# 1\t0/1\n", BrokenHistory::Empty),
        ("1\t0/1\tx\nno", BrokenHistory::Line(2)),
        ("1", BrokenHistory::Line(1)),
        ("0\t0/1", BrokenHistory::Line(1)),
        ("1\t0-1", BrokenHistory::Line(1)),
        ("1\t0/1\n1\t0/2", BrokenHistory::Order(2)),
        ("5\t0/1", BrokenHistory::Order(1)),
        ("1\t0/2\n2\t0/1", BrokenHistory::Backwards(2)),
    ] {
        assert_eq!(TimelineHistory::parse(timeline(5), content.as_bytes()), Err(broken), "{content}");
    }
}

#[test]
fn the_segment_of_a_switch_is_taken_from_the_newer_timeline() {
    let history = TimelineHistory::parse(timeline(3), b"1\t0/5000060\tx\n").unwrap();
    let of = |lsn| history.timeline_of_segment(Lsn(lsn), SegmentSize::DEFAULT).number();
    assert_eq!((of(0x4FF_FFFF), of(0x500_0000), of(0x500_0060), of(0x600_0000)), (1, 3, 3, 3));
}

proptest! {
    #[test]
    fn positions_survive_being_written(lsn: u64) {
        prop_assert_eq!(Lsn(lsn).to_string().parse(), Ok(Lsn(lsn)));
    }

    #[test]
    fn a_segment_holds_the_position_that_named_it(lsn: u64, timeline in timelines(), size in sizes()) {
        let lsn = Lsn(lsn);
        let name = SegmentName::holding(timeline, lsn, size);
        let start = name.start(size).unwrap();
        prop_assert_eq!(start, lsn.segment_start(size));
        prop_assert_eq!(lsn.since(start), Some(u64::from(lsn.segment_offset(size))));
        prop_assert!(lsn.segment_offset(size) < size.bytes());
        prop_assert_eq!(name.to_string().parse(), Ok(name));
        if let Some(next) = name.next(size) {
            prop_assert_eq!(next.start(size).unwrap().since(start), Some(u64::from(size.bytes())));
            // A listing in the order of names is one in the order of the log.
            prop_assert!(name < next && name.to_string() < next.to_string());
        }
    }

    #[test]
    fn names_are_what_is_written_for_them(text in "[0-9A-F]{7,9}([0-9A-F]{16})?(\\.(partial|history|[0-9A-F]{8}\\.backup))?") {
        if let Ok(file) = text.parse::<WalFile>() {
            prop_assert_eq!(file.to_string(), text);
        }
    }

    #[test]
    fn any_content_is_a_history_or_refused(content: Vec<u8>, number in timelines()) {
        if let Ok(history) = TimelineHistory::parse(number, &content) {
            prop_assert!(history.parent().is_some());
        }
    }

    #[test]
    fn a_position_is_on_one_timeline_of_its_branch(history in histories(), at in 0..400u64) {
        let lsn = Lsn(at);
        let holding: Vec<Timeline> =
            history.timelines().filter(|t| history.range(*t).unwrap().contains(&lsn)).collect();
        prop_assert_eq!(&holding[..], &[history.timeline_at(lsn)][..]);
        prop_assert!(history.includes(history.timeline_at(lsn), lsn));
        prop_assert!(history.continues(&history, lsn));
    }

    #[test]
    fn a_branch_goes_on_only_up_to_where_the_other_was_left(history in histories(), more in 1..50u64) {
        if let Some(parent) = history.parent() {
            let before: Vec<String> = history.ancestors().iter()
                .take_while(|a| a.timeline < parent.timeline).map(|a| format!("{} {}\n", a.timeline, a.end)).collect();
            let old = TimelineHistory::parse(parent.timeline, before.concat().as_bytes())
                .unwrap_or_else(|_| TimelineHistory::root(parent.timeline));
            prop_assert!(history.continues(&old, parent.end));
            prop_assert!(!history.continues(&old, Lsn(parent.end.0 + more)));
        }
    }

    #[test]
    fn a_segment_comes_from_no_timeline_older_than_its_first_byte(history in histories(), at: u32, size in sizes()) {
        let lsn = Lsn(u64::from(at));
        prop_assert!(history.timeline_of_segment(lsn, size) >= history.timeline_at(lsn.segment_start(size)));
    }
}

#[test]
fn times_count_from_the_year_2000() {
    let noon: jiff::Timestamp = "2026-11-27T02:18:07.416997Z".parse().unwrap();
    assert_eq!(PgTime::from(noon), PgTime(849_061_087_416_997));
    assert_eq!(PgTime(849_061_087_416_997).timestamp(), Some(noon));
    assert_eq!(PgTime(0).timestamp().unwrap().to_string(), "2000-01-01T00:00:00Z");
    assert_eq!((PgTime(i64::MAX).timestamp(), PgTime(i64::MIN).timestamp()), (None, None));
}

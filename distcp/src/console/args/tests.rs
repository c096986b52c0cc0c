use clap::Parser;

use super::*;
use crate::options::Cap;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    files: FilesFromArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    options: crate::options::CopyOptions,
}

fn parse(words: &str) -> Result<Line, clap::Error> {
    Line::try_parse_from(std::iter::once("distcp").chain(words.split_whitespace()))
}

#[test]
fn sizes_are_bytes_or_powers_of_1024() {
    let table = [
        ("0", Ok(0)),
        ("1048576", Ok(1 << 20)),
        ("1K", Ok(1 << 10)),
        ("64M", Ok(64 << 20)),
        ("64m", Ok(64 << 20)),
        ("2G", Ok(2 << 30)),
        ("3T", Ok(3 << 40)),
        ("16777215T", Ok(16_777_215 << 40)),
        ("16777216T", Err(())),
        ("", Err(())),
        ("K", Err(())),
        ("-1", Err(())),
        ("+1", Err(())),
        ("1.5G", Err(())),
        ("5 M", Err(())),
        ("5é", Err(())),
        ("5P", Err(())),
    ];
    for (text, bytes) in table {
        assert_eq!(parse_size(text).map_err(drop), bytes, "{text}");
    }
}

#[test]
fn durations_are_seconds_or_have_a_unit() {
    let table = [
        ("0", Ok(0)),
        ("90", Ok(90)),
        ("90s", Ok(90)),
        ("30m", Ok(1800)),
        ("12h", Ok(43_200)),
        ("7d", Ok(604_800)),
        ("", Err(())),
        ("d", Err(())),
        ("1w", Err(())),
        ("1.5h", Err(())),
        ("213503982334602d", Err(())),
    ];
    for (text, seconds) in table {
        assert_eq!(parse_duration(text).map_err(drop), seconds.map(Duration::from_secs), "{text}");
    }
}

#[test]
fn moments_are_times_or_lie_before_now() {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let table = [
        ("2026-11-21T03:00:00Z", Some("2026-11-21T03:00:00Z")),
        ("2026-11-21T03:00:00.5+01:00", Some("2026-11-21T02:00:00.5Z")),
        ("12h", Some("2026-11-21T00:00:00Z")),
        ("60", Some("2026-11-21T11:59:00Z")),
        ("2026-11-21", None),
        ("yesterday", None),
    ];
    for (text, time) in table {
        let expected = time.map(|time| i64::try_from(time.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap());
        assert_eq!(parse_moment(text).ok().map(|moment| moment.at_ns(now)), expected, "{text}");
    }
    let ages = Moment::Ago(Duration::from_secs(u64::MAX)).at_ns(now);
    assert!(ages < 0, "an age beyond the calendar is the beginning of time, not a panic");
}

#[test]
fn chunk_sizes_memory_and_counts_are_checked() {
    let table = [
        ("--memory 16M", true),
        ("--memory 1M", false),
        ("--concurrency 1", true),
        ("--concurrency 0", false),
        ("--concurrency 5000", false),
        ("--max-requests-per-second 0", false),
        ("--bwlimit 10M", true),
        ("--bwlimit 10X", false),
        ("--keep-runs 1", true),
        ("--keep-runs 0", false),
        ("--state=", false),
        ("--max-deletes 20%", true),
        ("--max-deletes 120%", false),
        ("--max-overwrites -3", false),
        ("--include [a", false),
        ("--delete-excluded", false),
        ("--delete --delete-excluded", true),
        ("-0", false),
        ("-0 --files-from -", true),
        ("-q -v", false),
        ("--trash /tmp", true),
        ("--trash=", false),
        ("--sse AES256", true),
        ("--sse=", false),
    ];
    for (words, fine) in table {
        assert_eq!(parse(words).is_ok(), fine, "{words}");
    }
    assert_eq!(parse_chunk_size("8M").unwrap(), ChunkSize::DEFAULT);
    for text in ["3M", "512K", "8G", "x"] {
        assert!(parse_chunk_size(text).is_err(), "{text}");
    }
}

#[test]
fn rule_06_caps_are_counts_or_shares() {
    let options = parse("--max-deletes 20% --max-overwrites 7").unwrap().options;
    assert_eq!((options.max_deletes, options.max_overwrites), (Some(Cap::Percent(20.0)), Some(Cap::Count(7))));
}

#[test]
fn rule_07_the_order_of_include_and_exclude_is_kept() {
    let line = parse("--exclude a --include=b --min-size 1K --exclude c --include d --exclude=e").unwrap();
    let rules: Vec<(bool, &str)> = line.filter.rules.0.iter().map(|r| (r.include, r.pattern.as_str())).collect();
    assert_eq!(rules, [(false, "a"), (true, "b"), (false, "c"), (true, "d"), (false, "e")]);
    let filter = line.filter.filter(Timestamp::UNIX_EPOCH);
    assert_eq!(filter.min_size_bytes, Some(1024));
    assert!(parse("--files-from keys -0").unwrap().files.nul);
}

#[test]
fn defaults_are_the_documented_ones() {
    let line = parse("").unwrap();
    assert_eq!(line.limits.limits(ChunkSize::DEFAULT), Limits::default());
    // Programs that embed a copy order their tables themselves.
    let options = crate::options::CopyOptions { layout: crate::layout::Layout::Auto, ..Default::default() };
    assert_eq!(line.options, options);
    assert_eq!((line.global.keep_runs, line.global.progress), (30, ProgressMode::Auto));
}

#[test]
fn store_options_are_pairs_and_errors_hide_them() {
    let line = parse("--source-option region=eu --source-option x=a=b --target-option k=").unwrap();
    let pair = |k: &str, v: &str| (k.to_owned(), Secret::new(v));
    assert_eq!(line.stores.source_option, [pair("region", "eu"), pair("x", "a=b")]);
    assert_eq!(line.stores.target_option, [pair("k", "")]);
    assert!(parse_pair("=secret").is_err_and(|text| !text.contains("secret")));
}

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::summary::{Differences, Summary};

/// A stream whose bytes a test can read afterwards, and whose reader may have left.
#[derive(Clone, Default)]
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    broken: Option<io::ErrorKind>,
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.broken {
            Some(kind) => Err(kind.into()),
            None => self.bytes.lock().unwrap().write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `work` with an output and returns what it printed on stdout and stderr.
fn printed(json: bool, verbosity: Verbosity, work: impl FnOnce(&Output)) -> (String, String) {
    let (out, err) = (Sink::default(), Sink::default());
    let mut said = err.clone();
    let output =
        Output::over("distcp", json, verbosity, out.clone(), move |text| writeln!(said, "{text}").unwrap()).unwrap();
    work(&output);
    output.finish();
    (out.text(), err.text())
}

fn object(key: &[u8], outcome: Outcome) -> ObjectReport {
    ObjectReport {
        key: ObjectKey::from(key.to_vec()),
        outcome,
        means: if outcome == Outcome::Copied { Means::Streamed } else { Means::None },
        size_bytes: 3,
        hash: None,
        reason: "new".into(),
        error: (outcome == Outcome::Failed).then(|| "cannot read a: gone".to_owned()),
    }
}

fn all_outcomes(output: &Output) {
    let listener = output.listener();
    for outcome in [Outcome::Equal, Outcome::Copied, Outcome::Deleted, Outcome::Skipped, Outcome::Failed] {
        listener(Event::Object(object(b"a", outcome)));
    }
    listener(Event::Note("a word".into()));
}

#[test]
fn text_goes_to_stderr_by_verbosity() {
    let failed = "failed a: cannot read a: gone\n";
    let all = "equal a (new)\ncopied a (3 B, new)\ndeleted a (new)\nskipped a (new)\n";
    let table = [
        (Verbosity::Quiet, failed.to_owned()),
        (Verbosity::Normal, format!("{failed}note: a word\n")),
        (Verbosity::Verbose, format!("{all}{failed}note: a word\n")),
    ];
    for (verbosity, said) in table {
        assert_eq!(printed(false, verbosity, all_outcomes), (String::new(), said), "{verbosity:?}");
    }
}

#[test]
fn json_lines_name_every_object_that_was_not_equal() {
    let (out, err) = printed(true, Verbosity::Normal, all_outcomes);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["copied", "deleted", "skipped", "failed"]);
    assert_eq!(err, "note: a word\n");
    let copied = json!({
        "type": "object", "key": "a", "outcome": "copied", "means": "streamed", "size_bytes": 3, "blake3": null,
        "reason": "new", "error": null,
    });
    assert_eq!(lines[0], copied);
    assert_eq!(lines[3]["error"], "cannot read a: gone");
}

#[test]
fn case_37_keys_that_are_no_plain_text_are_base64_in_json_and_escaped_in_text() {
    let table: [(&[u8], &str, &str); 3] =
        [(b"a\nb", "YQpi", "a\\nb"), (b"a\xff", "Yf8=", "a\\xff"), (b"\x7f", "fw==", "\\x7f")];
    for (key, base64, escaped) in table {
        let object = object(key, Outcome::Copied);
        let line = serde_json::to_value(ObjectLine::new(&object)).unwrap();
        assert_eq!((&line["key_base64"], line.get("key")), (&json!(base64), None));
        assert_eq!(object_line(&object), format!("copied {escaped} (3 B, new)"));
    }
    let plain = object("snö\\".as_bytes(), Outcome::Copied);
    assert_eq!(serde_json::to_value(ObjectLine::new(&plain)).unwrap()["key"], "snö\\");
}

#[test]
fn a_hash_is_printed_as_b3sum_does() {
    let mut object = object(b"a", Outcome::Copied);
    let hash = blake3::hash(b"abc").to_hex().to_string();
    object.hash = Some(hash.parse().unwrap());
    assert_eq!(serde_json::to_value(ObjectLine::new(&object)).unwrap()["blake3"], hash);
}

#[test]
fn a_reader_that_left_ends_stdout_quietly() {
    for (kind, said) in
        [(io::ErrorKind::BrokenPipe, ""), (io::ErrorKind::StorageFull, "cannot write to stdout: no storage space\n")]
    {
        let err = Sink::default();
        let mut said_to = err.clone();
        let out = Sink { broken: Some(kind), ..Sink::default() };
        let output =
            Output::over("distcp", false, Verbosity::Normal, out, move |text| writeln!(said_to, "{text}").unwrap())
                .unwrap();
        output.data("a line");
        output.finish();
        assert!(output.reader_gone().is_cancelled());
        assert_eq!(err.text(), said);
    }
}

#[test]
fn more_lines_than_the_queue_holds_arrive_in_order() {
    let lines = LINES_AHEAD as u64 * 3;
    let (out, _) = printed(false, Verbosity::Normal, |output| (0..lines).for_each(|n| output.data(n.to_string())));
    let expected: String = (0..lines).map(|n| format!("{n}\n")).collect();
    assert!(out == expected, "lines are lost or out of order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_reader_does_not_stop_other_tasks() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let mut waited = false;
    let output = Output::over("distcp", false, Verbosity::Normal, io::sink(), move |_| {
        if !std::mem::replace(&mut waited, true) {
            gate.recv().unwrap();
        }
    })
    .unwrap();
    let flooding = output.clone();
    let flood = tokio::spawn(async move { (0..LINES_AHEAD + 10).for_each(|n| flooding.error(n.to_string())) });
    // The only worker is held by the flood, unless that gives it away; then this task opens the gate.
    let opener = tokio::spawn(async move { open.send(()).unwrap() });
    opener.await.unwrap();
    flood.await.unwrap();
    output.finish();
}

fn sample() -> Summary {
    let mut summary = Summary::new("copy", "lake-1");
    summary.run_id = "20261121T120000Z-0a1b2c3d".into();
    summary.duration_ms = 3400;
    summary.as_of = Some("2026-11-21T12:00:00Z".into());
    summary.counts.listed = 20_124;
    summary.counts.copied = 120;
    summary.counts.equal = 20_000;
    summary.counts.deleted = 3;
    summary.counts.skipped = 1;
    summary.links_skipped = 1;
    summary.bytes.source = 5 << 30;
    summary.bytes.read = 1 << 30;
    summary.bytes.written = 1 << 30;
    summary.bytes.server_side = 1 << 28;
    summary.requests.list = 12;
    summary
}

#[test]
fn a_run_in_a_line() {
    let mut summary = sample();
    assert_eq!(
        summary_line(&summary),
        "copied 120 objects (1.2 GiB) in 3.4 s, 20,000 equal, 3 deleted, 1 skipped (1 link), as of 2026-11-21T12:00:00Z"
    );
    summary.differences = Some(Differences { equal: 20_000, differ: 2, ..Differences::default() });
    assert_eq!(summary_line(&summary), "compared 20,124 keys in 3.4 s: 20,000 equal, 2 differ");
}

#[test]
fn a_run_in_a_block() {
    let expected = "\
job       lake-1
run       20261121T120000Z-0a1b2c3d
outcome   done (0)
as of     2026-11-21T12:00:00Z
duration  3.4 s
objects   20,124 listed, 20,000 equal, 120 copied, 3 deleted, 1 skipped, 0 failed
bytes     5.0 GiB at the source, 1.0 GiB read, 1.0 GiB written, 256.0 MiB server-side
requests  12 list, 0 head, 0 get, 0 put, 0 copy, 0 delete, 0 repeated";
    assert_eq!(summary_block(&sample()), expected);
}

#[test]
fn the_end_of_a_run_is_the_summary_then_the_last_line() {
    let mut summary = sample();
    summary.end(ExitCode::Limited);
    let report = Report { summary, failure: None };
    let (out, err) = printed(true, Verbosity::Normal, |output| {
        assert_eq!(output.end(&report), ExitCode::Limited);
    });
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["exit_code"], &last["outcome"]),
        (&json!("summary"), &json!(10), &json!("limited"))
    );
    assert!(err.starts_with("copied 120 objects"), "{err}");
    assert!(err.ends_with("a limit ended the run early; run the same command again: it resumes\n"), "{err}");
    let (out, err) = printed(false, Verbosity::Quiet, |output| {
        output.end(&report);
    });
    assert_eq!((out.as_str(), err.lines().count()), ("", 1), "quiet: only the last line");
}

#[test]
fn numbers_for_people() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(number), text);
    }
    let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), ((1 << 20) - 1, "1.0 MiB"), (u64::MAX, "16.0 EiB")];
    for (bytes, text) in sizes {
        assert_eq!(bytes_text(bytes), text);
    }
    let times = [
        (0, "0.0 s"),
        (3400, "3.4 s"),
        (9999, "9.9 s"),
        (42_500, "42 s"),
        (370_000, "6m 10s"),
        (11_100_000, "3h 5m"),
        (187_200_000, "2d 4h"),
    ];
    for (ms, text) in times {
        assert_eq!(duration_text(Duration::from_millis(ms)), text);
    }
}

mod tampering;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::model::{
    Bytes, Record,
    record::{FieldChange, OutcomeRecord, SegmentStart, StepRecord, StepResult, Trigger, Why},
};

pub(super) fn step(tenant: &str) -> StepRecord {
    StepRecord {
        tenant: tenant.to_owned(),
        resource: "container".to_owned(),
        step: "update the limits".to_owned(),
        object: "0123456789ab".to_owned(),
        fields: vec![FieldChange { name: "memory".to_owned(), before: json!(4 << 30), after: json!(1 << 30) }],
        why: Why::Drift,
        trigger: Trigger::FullPass,
        revision: None,
        signer: None,
        plan: "0a1b2c".to_owned(),
    }
}

pub(super) fn stopped(program: &str) -> Entry {
    Entry::Stopped { program: program.to_owned() }
}

fn outcome(intent: u64, result: StepResult) -> Entry {
    Entry::Outcome(OutcomeRecord { intent, tenant: "ant".to_owned(), result, error: None, took_ms: 12 })
}

/// A folder in memory where there is one: these tests sync to the disk thousands of times.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn limits(file_size: u64, files: u32) -> JournalLimits {
    JournalLimits { file_size: Bytes::new(file_size), files }
}

/// All in one file.
fn wide() -> JournalLimits {
    limits(16 << 20, 64)
}

/// Adds records `stopped(0)`, `stopped(1)` and so on, and gives the last anchor.
fn fill(folder: &Path, limits: JournalLimits, count: usize) -> Anchor {
    let (journal, _) = Journal::open(folder, limits).unwrap();
    for number in 0..count {
        journal.append_blocking(&stopped(&number.to_string())).unwrap();
    }
    journal.head()
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    files::list(folder).unwrap().into_iter().map(|first| folder.join(files::name(first))).collect()
}

fn last(folder: &Path) -> PathBuf {
    paths(folder).pop().unwrap()
}

fn extend(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn records(folder: &Path) -> Vec<Record> {
    let mut all = Vec::new();
    read(folder, None, |record| {
        all.push(record.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

fn entries(folder: &Path) -> Vec<Entry> {
    records(folder).into_iter().map(|record| record.entry).filter(|entry| !matches!(entry, Entry::Segment(_))).collect()
}

#[test]
fn what_is_added_is_read_and_verified() {
    let scratch = scratch();
    let folder = scratch.path().join("deep/journal");
    let head = fill(&folder, wide(), 3);
    assert_eq!(entries(&folder), ["0", "1", "2"].map(stopped));
    assert_eq!(records(&folder).iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let verified = verify(&folder, Some(&head)).unwrap();
    assert_eq!((verified.records, verified.files, verified.first, &verified.head), (4, 1, 1, &head));
    assert_eq!((verified.set_aside.len(), verified.tail), (0, None));

    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&last(&folder))), (0o700, 0o600));
}

#[test]
fn a_journal_is_gone_on_with() {
    let scratch = scratch();
    let first = fill(scratch.path(), wide(), 2);
    let second = fill(scratch.path(), wide(), 2);
    let verified = verify(scratch.path(), Some(&first)).unwrap();
    assert_eq!((verified.records, verified.head), (5, second));
}

#[test]
fn files_are_rotated_and_the_oldest_dropped() {
    let scratch = scratch();
    let first = fill(scratch.path(), limits(700, 3), 1);
    let mut kept = first.clone();
    for round in 0..20 {
        let head = fill(scratch.path(), limits(700, 3), 2);
        let verified = verify(scratch.path(), Some(&head)).unwrap();
        assert!(paths(scratch.path()).len() <= 3, "{round}");
        assert_eq!(verified.head, head);
        kept = head;
    }
    let verified = verify(scratch.path(), Some(&kept)).unwrap();
    assert!(verified.first > 1 && verified.files == 3, "{verified:?}");
    let broken = verify(scratch.path(), Some(&first)).unwrap_err();
    assert!(matches!(broken.problem, Problem::AnchorDropped(2)), "{broken}");
    // Fewer files than there are now.
    fill(scratch.path(), limits(1, 1), 1);
    assert_eq!(paths(scratch.path()).len(), 2);
    verify(scratch.path(), None).unwrap();
}

#[test]
fn a_file_that_goes_without_being_named_is_missed() {
    let scratch = scratch();
    let head = fill(scratch.path(), limits(700, 64), 20);
    let all = paths(scratch.path());
    assert!(all.len() > 4);
    for (place, path) in all.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let broken = verify(scratch.path(), Some(&head)).unwrap_err();
        match broken.problem {
            Problem::Missing { .. } => assert!(place + 1 < all.len()),
            Problem::CutOff { .. } => assert_eq!(place + 1, all.len()),
            other => panic!("{other}"),
        }
        fs::write(path, bytes).unwrap();
    }
    verify(scratch.path(), Some(&head)).unwrap();
    all.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert!(matches!(verify(scratch.path(), None).unwrap_err().problem, Problem::Empty(_)));
}

#[test]
fn a_crash_between_naming_and_removing_a_file_is_harmless() {
    let scratch = scratch();
    fill(scratch.path(), limits(700, 3), 6);
    let before: Vec<_> = paths(scratch.path()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let head = fill(scratch.path(), limits(700, 3), 3);
    for (bytes, path) in &before {
        if !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
    assert!(paths(scratch.path()).len() > 3);
    verify(scratch.path(), Some(&head)).unwrap();
    Journal::open(scratch.path(), limits(700, 3)).unwrap();
    verify(scratch.path(), Some(&head)).unwrap();
    assert_eq!(paths(scratch.path()).len(), 3);
}

#[test]
fn steps_without_an_outcome_get_one() {
    let scratch = scratch();
    let (journal, _) = Journal::open(scratch.path(), wide()).unwrap();
    let begin = |tenant: &str| journal.append_blocking(&Entry::Intent(step(tenant))).unwrap();
    let ant = begin("ant");
    journal.append_blocking(&outcome(ant, StepResult::Done)).unwrap();
    let bee = begin("bee");
    journal.append_blocking(&outcome(bee, StepResult::Failed)).unwrap();
    let cat = begin("cat");
    drop(journal);

    let (_, opened) = Journal::open(scratch.path(), limits(1, 64)).unwrap();
    assert_eq!(opened.unfinished, [(cat, step("cat"))]);
    assert_eq!(opened.last.keys().collect::<Vec<_>>(), ["ant"]);
    assert_eq!((&opened.last["ant"].1, opened.last["ant"].2.took_ms), (&step("ant"), 12));
    let Some(Entry::Outcome(unknown)) = entries(scratch.path()).pop() else { panic!() };
    assert_eq!((unknown.intent, unknown.tenant.as_str(), unknown.result), (cat, "cat", StepResult::Unknown));

    // It stands in the file after the one with the intent now, and is found there.
    let (_, opened) = Journal::open(scratch.path(), wide()).unwrap();
    assert_eq!(opened.unfinished, []);
}

/// Every place where a crash can cut the last file off.
#[test]
fn a_cut_at_any_byte_is_set_aside() {
    let origin = scratch();
    fill(origin.path(), limits(900, 64), 6);
    let all = paths(origin.path());
    let whole = fs::read(last(origin.path())).unwrap();
    assert!(all.len() > 1 && whole.iter().filter(|b| **b == b'\n').count() > 1);
    for length in 0..whole.len() {
        let scratch = scratch();
        for path in &all {
            fs::copy(path, scratch.path().join(path.file_name().unwrap())).unwrap();
        }
        cut(&last(scratch.path()), length as u64);
        let sound = whole[..length].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = &whole[sound..length];

        let verified = verify(scratch.path(), None).unwrap();
        let tail = verified.tail.map(|tail| (tail.offset, tail.bytes));
        assert_eq!(tail, (!torn.is_empty()).then_some((sound as u64, torn.len() as u64)));

        let (journal, opened) = Journal::open(scratch.path(), wide()).unwrap();
        assert_eq!((opened.damage, opened.recovered.is_some()), (None, !torn.is_empty()), "{length}");
        journal.append_blocking(&stopped("later")).unwrap();
        let verified = verify(scratch.path(), Some(&journal.head())).unwrap();
        assert_eq!((verified.tail, &verified.set_aside), (None, &Vec::from_iter(opened.recovered.clone())));
        if let Some(recovered) = opened.recovered {
            assert_eq!((recovered.offset, recovered.bytes), (sound as u64, torn.len() as u64));
            assert_eq!(last(scratch.path()).file_name().unwrap(), recovered.file.as_str());
            assert_eq!(fs::read(scratch.path().join(recovered.aside)).unwrap(), torn);
        }
    }
}

#[test]
fn an_end_that_was_set_aside_has_gateway_files_after_a_crash_as_well() {
    let scratch = scratch();
    fill(scratch.path(), wide(), 2);
    // What a crash leaves right after the end was moved: record 4 would have reported it.
    fs::write(scratch.path().join("torn-4-1"), "half a rec").unwrap();
    let (_, opened) = Journal::open(scratch.path(), wide()).unwrap();
    let recovered = opened.recovered.unwrap();
    assert_eq!((recovered.aside.as_str(), recovered.bytes), ("torn-4-1", 10));
    let (_, opened) = Journal::open(scratch.path(), wide()).unwrap();
    assert_eq!(opened.recovered, None);
}

#[test]
fn a_wrong_last_line_is_set_aside_and_other_damage_is_left() {
    let scratch = scratch();
    fill(scratch.path(), wide(), 2);
    extend(&last(scratch.path()), &[&[0; 5000][..], b"\n"].concat());
    assert!(matches!(verify(scratch.path(), None).unwrap_err().problem, Problem::Altered(_)));
    let (journal, opened) = Journal::open(scratch.path(), wide()).unwrap();
    assert_eq!(opened.recovered.unwrap().bytes, 5001);
    journal.append_blocking(&stopped("later")).unwrap();
    verify(scratch.path(), Some(&journal.head())).unwrap();

    let path = last(scratch.path());
    let mut bytes = fs::read(&path).unwrap();
    // The first key: what ends a line is known by its shape, not by its hash.
    let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    bytes[second + "{".len()] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        let (journal, opened) = Journal::open(scratch.path(), wide()).unwrap();
        journal.append_blocking(&stopped("after damage")).unwrap();
        assert_eq!(paths(scratch.path()).len(), 2);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let broken = verify(scratch.path(), None).unwrap_err();
        assert_eq!((broken.line, broken.record), (Some(2), Some(2)), "{broken}");
        if let Some(damage) = opened.damage {
            assert_eq!(damage, "line 2 of 00000000000000000001.jsonl is wrong: its hash does not match its bytes");
        }
    }
    let starts = records(scratch.path()).into_iter().filter_map(|record| match record.entry {
        Entry::Segment(start) => start.damage,
        _ => None,
    });
    assert_eq!(starts.count(), 1);
}

#[test]
fn what_others_do_to_the_file_meanwhile_is_seen() {
    type Harm = fn(&Path);
    let harms: [Harm; 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::rename(path, path.with_extension("old")).unwrap(),
        |path| cut(path, 10),
        |path| extend(path, b"more\n"),
    ];
    for harm in harms {
        let scratch = scratch();
        let (journal, _) = Journal::open(scratch.path(), wide()).unwrap();
        journal.append_blocking(&stopped("before")).unwrap();
        harm(&last(scratch.path()));
        let seq = journal.append_blocking(&stopped("after")).unwrap();
        assert_eq!(seq, 4);
        verify(scratch.path(), None).unwrap_err();
        assert_eq!(entries(scratch.path()).last(), Some(&stopped("after")));
        let damage = records(scratch.path()).into_iter().find_map(|record| match record.entry {
            Entry::Segment(SegmentStart { damage, .. }) => damage,
            _ => None,
        });
        assert!(damage.unwrap().starts_with("00000000000000000001.jsonl "));
    }
}

#[test]
fn a_newer_journal_is_not_touched() {
    let scratch = scratch();
    let head = fill(scratch.path(), wide(), 1);
    let path = last(scratch.path());
    let mut line = Vec::new();
    let body = Body::new(&stopped("future")).unwrap();
    line::write(&mut line, &head, Timestamp::UNIX_EPOCH, &body);
    // The same record in version 2, with a hash that fits.
    let text = String::from_utf8(line).unwrap().replacen("\"v\":1", "\"v\":2", 1);
    let hashed = text.split(",\"hash\"").next().unwrap();
    let hash: String = {
        use sha2::{Digest, Sha256};
        Sha256::digest(hashed).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    extend(&path, format!("{hashed},\"hash\":\"{hash}\"}}\n").as_bytes());
    extend(&path, b"torn");
    let bytes = fs::read(&path).unwrap();

    assert!(matches!(Journal::open(scratch.path(), wide()), Err(JournalError::Newer { version: 2, .. })));
    let read = read(scratch.path(), None, |_| ControlFlow::Continue(()));
    assert!(matches!(read, Err(JournalError::Newer { version: 2, .. })));
    let broken = verify(scratch.path(), None).unwrap_err();
    assert!(matches!(broken.problem, Problem::Newer(_)) && broken.record == Some(3), "{broken}");
    assert_eq!((fs::read(&path).unwrap(), fs::read_dir(scratch.path()).unwrap().count()), (bytes, 1));
}

#[test]
fn lines_without_end_are_passed_over_in_bounded_memory() {
    let scratch = scratch();
    fill(scratch.path(), wide(), 1);
    let path = last(scratch.path());
    extend(&path, &vec![b'x'; 3 * line::MAX_LINE]);
    assert_eq!(verify(scratch.path(), None).unwrap().tail.unwrap().bytes, 3 << 20);
    let mut lines = files::Lines::open(&path).unwrap();
    let mut buffer = Vec::new();
    while lines.next(&mut buffer).unwrap() == files::Piece::Line {}
    assert!(buffer.len() <= line::MAX_LINE + 1);
    let (_, opened) = Journal::open(scratch.path(), wide()).unwrap();
    assert_eq!(opened.recovered.unwrap().bytes, 3 << 20);
}

#[test]
fn an_entry_that_is_too_long_is_refused_alone() {
    let scratch = scratch();
    let (journal, _) = Journal::open(scratch.path(), wide()).unwrap();
    let long = stopped(&"x".repeat(line::MAX_LINE));
    assert!(matches!(journal.append_blocking(&long), Err(JournalError::TooLong(_))));
    assert_eq!((journal.append_blocking(&stopped("short")).unwrap(), journal.error().is_none()), (2, true));
}

#[test]
fn a_thousand_at_once_keep_their_order() {
    let scratch = scratch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open(scratch.path(), limits(20_000, 1000)).unwrap();
        let tasks: Vec<_> = (0..50)
            .map(|task| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    let mut places = Vec::new();
                    for number in 0..20 {
                        places.push(journal.append(stopped(&format!("{task}/{number}"))).await.unwrap());
                    }
                    places
                })
            })
            .collect();
        let mut expected = std::collections::BTreeMap::new();
        for (task, places) in tasks.into_iter().enumerate() {
            let places = places.await.unwrap();
            assert!(places.is_sorted());
            expected
                .extend(places.into_iter().zip(0..).map(|(seq, number)| (seq, stopped(&format!("{task}/{number}")))));
        }
        let written = records(scratch.path()).into_iter().filter(|record| !matches!(record.entry, Entry::Segment(_)));
        assert_eq!(
            written.map(|record| (record.seq, record.entry)).collect::<std::collections::BTreeMap<_, _>>(),
            expected
        );
        assert_eq!(expected.len(), 1000);
        let verified = verify(scratch.path(), Some(&journal.head())).unwrap();
        assert!(verified.files > 5, "{verified:?}");
    });
}

/// The writer takes nothing back to anyone before it has a whole queue: who waits for each record by itself gets no further
/// than the first.
#[tokio::test]
async fn many_are_handed_over_before_the_first_is_waited_for() {
    let (queue, mut requests) = mpsc::channel(QUEUE);
    let (_sender, state) = watch::channel(WriterState { head: Anchor::genesis(), error: None });
    let journal = Journal { queue, state };
    let count = QUEUE * 2 + 44;
    let long = "x".repeat(2 << 20);
    let name = |number: usize| if number == 7 { long.clone() } else { number.to_string() };
    let entries: Vec<Entry> = (0..count).map(|number| stopped(&name(number))).collect();
    let serve = async {
        let (mut writes, mut written) = (0, Vec::new());
        while written.len() < count - 1 {
            let wanted = QUEUE.min(count - 1 - written.len());
            let mut group = Vec::new();
            while group.len() < wanted {
                group.push(requests.recv().await.unwrap());
            }
            writes += 1;
            for Request { body, reply } in group {
                written.push(body.unwrap());
                reply.send(Ok(written.len() as u64)).unwrap();
            }
        }
        (writes, written)
    };
    let both = async { tokio::join!(journal.append_all(entries), serve) };
    let (results, (writes, written)) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert_eq!(writes, 3);
    let body = |n| format!("{:?}", Body::new(&stopped(&name(n))).unwrap());
    let expected: Vec<String> = (0..count).filter(|n| *n != 7).map(body).collect();
    assert!(written.iter().map(|body| format!("{body:?}")).eq(expected), "they are written in their order");
    // One that is too long is refused alone, in its place.
    assert!(matches!(results[7], Err(JournalError::TooLong(_))), "{:?}", results[7]);
    let numbers: Vec<u64> = results.into_iter().filter_map(Result::ok).collect();
    assert_eq!(numbers, (1..count as u64).collect::<Vec<_>>());
}

#[test]
fn readers_need_not_wait_for_the_writer() {
    let scratch = scratch();
    let (journal, _) = Journal::open(scratch.path(), limits(4000, 4)).unwrap();
    let folder = scratch.path().to_owned();
    let mut reader = Reader::new(&folder, None).unwrap();
    let writing = std::thread::spawn(move || {
        for number in 0..500 {
            journal.append_blocking(&stopped(&number.to_string())).unwrap();
        }
        journal.head()
    });
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen.last().is_none_or(|last| *last != stopped("499")) {
        assert!(Instant::now() < deadline, "it saw only {}", seen.len());
        verify(&folder, None).unwrap();
        while let Some(item) = reader.read_next().unwrap() {
            match item {
                Item::Record { record, .. } => {
                    seen.extend(Some(record.entry).filter(|e| !matches!(e, Entry::Segment(_))))
                }
                Item::Unreadable { why, .. } => panic!("{why}"),
            }
        }
    }
    // The writer may have dropped files before they were read; what was read is in order.
    let numbers: Vec<u64> = seen
        .iter()
        .map(|entry| match entry {
            Entry::Stopped { program } => program.parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(numbers.is_sorted());
    verify(&folder, Some(&writing.join().unwrap())).unwrap();
}

#[test]
fn a_follower_sees_whole_records_once() {
    let scratch = scratch();
    let (journal, _) = Journal::open(scratch.path(), limits(600, 64)).unwrap();
    let mut reader = Reader::new(scratch.path(), None).unwrap();
    let mut take = || -> Vec<String> {
        let mut programs = Vec::new();
        while let Some(item) = reader.read_next().unwrap() {
            match item {
                Item::Record { record, .. } => {
                    if let Entry::Stopped { program } = record.entry {
                        programs.push(program);
                    }
                }
                Item::Unreadable { why, .. } => panic!("{why}"),
            }
        }
        programs
    };
    assert!(take().is_empty());
    for number in 0..10 {
        journal.append_blocking(&stopped(&number.to_string())).unwrap();
        assert_eq!(take(), [number.to_string()]);
        assert!(take().is_empty());
    }
    drop(journal);
    // Half a record, then the whole of it.
    let path = last(scratch.path());
    let whole = fs::read(&path).unwrap();
    let (journal, _) = Journal::open(scratch.path(), wide()).unwrap();
    journal.append_blocking(&stopped("halved")).unwrap();
    let longer = fs::read(&path).unwrap();
    cut(&path, whole.len() as u64 + 30);
    assert!(take().is_empty());
    extend(&path, &longer[whole.len() + 30..]);
    assert_eq!(take(), ["halved"]);
    // A write that failed was cut off after it had been read, and others came in its place.
    let length = fs::metadata(&path).unwrap().len();
    extend(&path, b"written and taken back\n");
    while let Some(item) = reader.read_next().unwrap() {
        assert!(matches!(item, Item::Unreadable { .. }));
    }
    cut(&path, length);
    assert!(reader.read_next().unwrap().is_none());
    journal.append_blocking(&stopped("instead")).unwrap();
    let Some(Item::Record { record, .. }) = reader.read_next().unwrap() else { panic!() };
    assert_eq!(record.entry, stopped("instead"));
}

#[test]
fn reading_from_a_time_leaves_out_what_is_older() {
    let scratch = scratch();
    fill(scratch.path(), limits(600, 64), 10);
    let all = records(scratch.path());
    let from = all[all.len() / 2].time;
    let mut seen = Vec::new();
    read(scratch.path(), Some(from), |record| {
        seen.push(record.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, all.iter().filter(|record| record.time >= from).cloned().collect::<Vec<_>>());
    let late = "9999-01-01T00:00:00Z".parse().unwrap();
    read(scratch.path(), Some(late), |record| panic!("{record:?}")).unwrap();
}
